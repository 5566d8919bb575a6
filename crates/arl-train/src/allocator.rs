//! The allocator of the program.
//!
//! Tensors of many megabytes come and go with every operation. By default their memory goes back to the kernel, which
//! clears each page before its next use: a seventh of the time of a training step on a CPU.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h; the sys crate, whose version is pinned, has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed memory for the next tensor instead of giving it back, as long as the returned value lives.
///
/// What the program holds stays at its peak, and grows with every volume of another size: this is for the steps of a
/// network, which ask for the same tensors again and again, and not for reading and preprocessing cases.
#[must_use]
pub fn keep_memory() -> Kept {
    // SAFETY: reads and sets an integer option of the allocator that is in use; any value is allowed, −1 means never.
    unsafe {
        let delay = libmimalloc_sys::mi_option_get(PURGE_DELAY);
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
        Kept { delay }
    }
}

/// Memory that is kept; see [`keep_memory`].
pub struct Kept {
    /// Milliseconds after which freed memory is given back otherwise.
    delay: std::ffi::c_long,
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: as above; collecting gives back what is free, and nothing that is in use.
        unsafe {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, self.delay);
            libmimalloc_sys::mi_collect(true);
        }
    }
}
