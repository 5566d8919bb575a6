//! Memory that is written once: clearing it first would be another pass over it.

use std::mem::MaybeUninit;

/// So many numbers, which `write` writes, and what it gives.
///
/// # Safety
/// `write` has to write every one of them.
pub(crate) unsafe fn written<R>(
    length: usize,
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> R,
) -> (Vec<f32>, R) {
    let mut values = Vec::with_capacity(length);
    let unfilled = &mut values.spare_capacity_mut()[..length];
    if cfg!(test) {
        // What was left out shows.
        unfilled.fill(MaybeUninit::new(f32::NAN));
    }
    let result = write(unfilled);
    // SAFETY: the capacity is there, and the caller promises the rest.
    unsafe { values.set_len(length) };
    (values, result)
}
