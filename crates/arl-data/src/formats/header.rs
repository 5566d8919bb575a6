//! What every format's header is turned into before any voxel is read.

use std::path::PathBuf;

use super::element::Element;
use crate::volume::Geometry;

/// Everything that a reader needs to know of a volume before its voxels.
#[derive(Debug)]
pub(super) struct Header {
    pub geometry: Geometry,
    pub channels: usize,
    /// Voxels of one channel that follow each other: all of them where the channels lie one after the other, 1 where each
    /// voxel is a vector.
    pub run: usize,
    pub element: Element,
    pub big_endian: bool,
    /// Stored value to real value: `slope · v + intercept`; `None` where the header asks for no scaling.
    pub scaling: Option<(f64, f64)>,
    pub encoding: Encoding,
    pub place: Place,
    /// Lines between the header (or the start of the detached file) and the voxels.
    pub skipped_lines: u64,
    pub skip: Skip,
}

/// How the voxels are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Gzip,
    Zlib,
    /// Numbers in text.
    Text,
}

/// Where the voxels are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// After the header.
    Here,
    /// In another file: the first of these that exists.
    Detached(Vec<PathBuf>),
}

/// Bytes before the first voxel, counted after the skipped lines and after decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    Bytes(u64),
    /// As many as leave room for just the voxels.
    AllButVoxels,
}

impl Header {
    /// Bytes of all stored voxels, or `None` when the header declares more than can be counted.
    pub fn stored_bytes(&self) -> Option<u64> {
        self.geometry
            .shape
            .iter()
            .chain([&self.channels, &self.element.size()])
            .try_fold(1u64, |product, &n| product.checked_mul(n as u64))
    }
}

/// Beyond this, and below one over it, lengths in mm are taken for damage.
const LARGEST_MM: f64 = 1e12;

/// Refuses an affine that places no volume.
///
/// # Errors
/// A phrase for a message, to be read after the name of the transform.
pub(super) fn believable(affine: &[[f64; 4]; 4]) -> Result<(), &'static str> {
    let length = |c: usize| affine[0][c].hypot(affine[1][c]).hypot(affine[2][c]);
    let lengths = [length(0), length(1), length(2)];
    if !affine
        .iter()
        .flatten()
        .chain(&lengths)
        .all(|v| v.is_finite())
    {
        return Err("holds numbers that are not finite");
    }
    // No scanner makes them, and their squares are no numbers any more.
    if lengths
        .iter()
        .any(|&mm| mm > LARGEST_MM || mm != 0.0 && mm < 1.0 / LARGEST_MM)
        || affine[..3].iter().any(|row| row[3].abs() > LARGEST_MM)
    {
        return Err("holds sizes that no volume has");
    }
    // Of unit vectors, so that the size of the voxels does not matter; zero where an axis has no extent.
    let unit = |r: usize, c: usize| affine[r][c] / lengths[c];
    let determinant = unit(0, 0) * (unit(1, 1) * unit(2, 2) - unit(1, 2) * unit(2, 1))
        - unit(0, 1) * (unit(1, 0) * unit(2, 2) - unit(1, 2) * unit(2, 0))
        + unit(0, 2) * (unit(1, 0) * unit(2, 1) - unit(1, 1) * unit(2, 0));
    // NaN, from an axis of length zero, is refused too.
    if determinant.abs() > 1e-6 {
        Ok(())
    } else {
        Err("is singular (an axis has no extent)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voxels_may_be_small_but_not_flat() {
        for size in [1e-5, 1.0, 1e6] {
            let geometry = Geometry::from_spacing([1; 3], [size; 3]);
            assert_eq!(believable(&geometry.affine), Ok(()));
        }
        let mut affine = Geometry::from_spacing([1; 3], [1.0; 3]).affine;
        affine[1] = affine[0];
        assert!(believable(&affine).is_err_and(|e| e.contains("singular")));
        affine[1] = [0.0; 4];
        assert!(believable(&affine).is_err_and(|e| e.contains("singular")));
        for odd in [1e300, 1e-300] {
            affine[1] = [0.0, odd, 0.0, 0.0];
            assert!(believable(&affine).is_err_and(|e| e.contains("sizes")));
        }
        affine[1] = [0.0, 1.0, 0.0, f64::NAN];
        assert!(believable(&affine).is_err_and(|e| e.contains("finite")));
    }
}
