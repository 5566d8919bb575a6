//! Fewer and larger pages for the memory of volumes.

use std::mem::MaybeUninit;

/// Below this, in bytes, pages of the usual size do.
#[cfg(target_os = "linux")]
const WORTHWHILE: usize = 4 << 20;

/// Asks the system for huge pages under memory that is about to be filled, as NumPy does for its arrays.
///
/// The first touch of each usual page of 4 KiB costs more than the conversion of the voxels that it holds.
#[cfg(target_os = "linux")]
pub(super) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    const PAGE: usize = 4096;
    let bytes = size_of_val(memory);
    if bytes < WORTHWHILE {
        return;
    }
    let start = memory.as_mut_ptr().cast::<u8>();
    let before_page = start.align_offset(PAGE);
    // SAFETY: the range lies within `memory`, which is ours, and this advice changes nothing of its content. The answer does
    // not matter: without huge pages everything works, only slower.
    unsafe {
        let page = start.add(before_page);
        libc::madvise(page.cast(), bytes - before_page, libc::MADV_HUGEPAGE);
    }
}

/// Other systems choose by themselves.
#[cfg(not(target_os = "linux"))]
pub(super) fn prefer_huge_pages<T>(_memory: &mut [MaybeUninit<T>]) {}
