//! Blocks of 32³ voxels, each compressed on its own: what a patch has to read.
//!
//! The bytes of a chunk are sorted by significance before they are compressed (first all lowest bytes, …): sign and
//! exponent of neighbouring voxels are alike, while the low bits of the fraction are noise that nothing compresses.
//! Compared on the normalised and resampled voxels of a CT (one thread; size against f32, decompressed voxels per second):
//! LZ4 0.75 and 650 million, zstd at level 1 0.70 and 540 million; as f16, LZ4 0.37 and 1250 million, zstd 0.34 and 610
//! million. LZ4 it is.

use std::ops::Range;

use super::dtype::{CacheDtype, from_f16};

/// Voxels of a chunk along each axis; the last ones of an axis may have fewer.
///
/// A random patch of 128³ touches 1.95 times its voxels in chunks of 32³, 3.4 times in chunks of 64³.
pub(super) const EDGE: usize = crate::resample::SLAB_STEP;

/// The chunks of a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkGrid {
    pub shape: [usize; 3],
}

impl ChunkGrid {
    /// Chunks along each axis.
    pub fn counts(self) -> [usize; 3] {
        self.shape.map(|n| n.div_ceil(EDGE))
    }

    /// The place of a chunk in memory order.
    pub fn position(self, [d, h, w]: [usize; 3]) -> usize {
        let [_, height, width] = self.counts();
        (d * height + h) * width + w
    }

    /// The voxels of a chunk along an axis.
    pub fn span(self, axis: usize, chunk: usize) -> Range<usize> {
        chunk * EDGE..((chunk + 1) * EDGE).min(self.shape[axis])
    }

    /// How many voxels a chunk has.
    pub fn voxels(self, chunk: [usize; 3]) -> usize {
        (0..3)
            .map(|axis| self.span(axis, chunk[axis]).len())
            .product()
    }
}

/// Compresses numbers of which the lowest `bytes` count.
pub(super) fn compress(values: &[u32], bytes: usize) -> Vec<u8> {
    let mut planes = Vec::with_capacity(values.len() * bytes);
    for byte in 0..bytes {
        planes.extend(values.iter().map(|value| (value >> (8 * byte)) as u8));
    }
    lz4_flex::block::compress(&planes)
}

/// Decompresses `count` numbers of `bytes` each into `planes`; `None` if they are not that many.
pub(super) fn decompress(
    compressed: &[u8],
    count: usize,
    bytes: usize,
    planes: &mut Vec<u8>,
) -> Option<()> {
    // LZ4 expands 255 times at most; a header that promises more does not get the memory.
    let total = count.checked_mul(bytes)?;
    if total > compressed.len().saturating_mul(255) {
        return None;
    }
    planes.resize(total, 0);
    let written = lz4_flex::block::decompress_into(compressed, planes).ok()?;
    (written == total).then_some(())
}

/// The numbers `range` of decompressed ones of `bytes` each.
pub(super) fn numbers(
    planes: &[u8],
    bytes: usize,
    range: Range<usize>,
) -> impl Iterator<Item = u32> + '_ {
    let count = planes.len() / bytes;
    range.map(move |i| {
        (0..bytes).fold(0, |number, byte| {
            number | u32::from(planes[byte * count + i]) << (8 * byte)
        })
    })
}

/// Copies decompressed intensities from `first` on to `out`.
pub(super) fn copy_image(planes: &[u8], dtype: CacheDtype, first: usize, out: &mut [f32]) {
    let count = planes.len() / dtype.bytes();
    let plane = |byte: usize| &planes[byte * count + first..][..out.len()];
    match dtype {
        CacheDtype::F32 => {
            let (a, b, c, d) = (plane(0), plane(1), plane(2), plane(3));
            for (i, v) in out.iter_mut().enumerate() {
                *v = f32::from_le_bytes([a[i], b[i], c[i], d[i]]);
            }
        }
        CacheDtype::F16 => {
            let (low, high) = (plane(0), plane(1));
            for (i, v) in out.iter_mut().enumerate() {
                *v = from_f16(u16::from_le_bytes([low[i], high[i]]));
            }
        }
    }
}

/// Copies decompressed labels of `bytes` each from `first` on to `out`.
pub(super) fn copy_labels(planes: &[u8], bytes: usize, first: usize, out: &mut [u16]) {
    let count = planes.len() / bytes;
    let low = &planes[first..][..out.len()];
    if bytes == 1 {
        for (v, low) in out.iter_mut().zip(low) {
            *v = u16::from(*low);
        }
    } else {
        let high = &planes[count + first..][..out.len()];
        for ((v, low), high) in out.iter_mut().zip(low).zip(high) {
            *v = u16::from_le_bytes([*low, *high]);
        }
    }
}
