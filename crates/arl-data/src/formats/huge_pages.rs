//! Fewer and larger pages for the memory of volumes.

/// Below this, in bytes, pages of the usual size do.
#[cfg(target_os = "linux")]
const WORTHWHILE: usize = 4 << 20;

/// Asks the system for huge pages under the memory of a vector that is about to be filled, as NumPy does for its arrays.
///
/// The first touch of each usual page of 4 KiB costs more than the conversion of the voxels that it holds.
#[cfg(target_os = "linux")]
pub(super) fn prefer_huge_pages<T>(vector: &mut Vec<T>) {
    const PAGE: usize = 4096;
    let bytes = vector.capacity() * size_of::<T>();
    if bytes < WORTHWHILE {
        return;
    }
    let start = vector.as_mut_ptr().cast::<u8>();
    // From the page that the memory begins in, which also holds the allocator's note of its length: advice for a part of
    // a mapping would split it, and what is split is copied instead of moved when the vector grows.
    let into_page = start.addr() % PAGE;
    // SAFETY: every page of the range holds memory of the vector, so it is mapped, and this advice changes nothing of its
    // content. The answer does not matter: without huge pages everything works, only slower.
    unsafe {
        let page = start.wrapping_sub(into_page);
        libc::madvise(page.cast(), into_page + bytes, libc::MADV_HUGEPAGE);
    }
}

/// Other systems choose by themselves.
#[cfg(not(target_os = "linux"))]
pub(super) fn prefer_huge_pages<T>(_vector: &mut Vec<T>) {}
