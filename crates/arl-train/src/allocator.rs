//! The allocator of the program.
//!
//! Tensors of many megabytes come and go with every operation. By default their memory goes back to the kernel, which
//! clears each page before its next use: a seventh of the time of a training step on a CPU.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h; the sys crate, whose version is pinned, has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed memory for the next tensor instead of giving it back. What a program holds stays at its peak.
pub fn keep_memory() {
    // SAFETY: sets an integer option of the allocator that is in use; any value is allowed, −1 means never.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}
