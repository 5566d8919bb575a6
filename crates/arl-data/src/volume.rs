//! A volume: voxels `[D, H, W]` and where they lie in the patient.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

/// The place of a voxel grid in the world.
///
/// The affine maps NIfTI voxel indices `(i, j, k)` to RAS world coordinates in mm. Arrays are kept as
/// `[D, H, W] = [k, j, i]`, so an array index `[d, h, w]` lies at `affine · (w, h, d, 1)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Voxels along `[D, H, W]`.
    pub shape: [usize; 3],
    /// Rows of the 4×4 matrix from `(i, j, k, 1)` to world mm; the last row is `0 0 0 1`.
    pub affine: [[f64; 4]; 4],
    /// Which of the header's transforms were set, so that a file written with this geometry says the same.
    pub codes: TransformCodes,
}

/// The codes of a NIfTI header's two transforms (0: absent; 1 scanner, 2 aligned, 3 Talairach, 4 MNI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformCodes {
    /// `qform_code`.
    pub qform: i16,
    /// `sform_code`.
    pub sform: i16,
}

impl Geometry {
    /// A geometry from an affine, marked as scanner coordinates.
    pub fn new(shape: [usize; 3], affine: [[f64; 4]; 4]) -> Self {
        Self {
            shape,
            affine,
            codes: TransformCodes { qform: 1, sform: 1 },
        }
    }

    /// An axis-aligned RAS grid with the given voxel spacing in mm, `[D, H, W]`, and the origin at the first voxel.
    pub fn from_spacing(shape: [usize; 3], spacing: [f64; 3]) -> Self {
        let [d, h, w] = spacing;
        Self::new(
            shape,
            [
                [w, 0., 0., 0.],
                [0., h, 0., 0.],
                [0., 0., d, 0.],
                [0., 0., 0., 1.],
            ],
        )
    }

    /// Voxel spacing in mm along `[D, H, W]`: the lengths of the affine's columns.
    pub fn spacing(&self) -> [f64; 3] {
        let column = |c: usize| {
            (0..3)
                .map(|r| self.affine[r][c].powi(2))
                .sum::<f64>()
                .sqrt()
        };
        [column(2), column(1), column(0)]
    }

    /// The array axis (0 = D, 1 = H, 2 = W) that runs most nearly along the patient's left-right direction.
    pub fn left_right_axis(&self) -> usize {
        let spacing = self.spacing();
        (0..3)
            .max_by(|&a, &b| {
                let along = |axis: usize| (self.affine[0][2 - axis] / spacing[axis]).abs();
                along(a).total_cmp(&along(b))
            })
            .unwrap_or(2)
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether two grids are the same: same shape, spacing within 0.1 %, and every corner within a tenth of a voxel.
    ///
    /// # Errors
    /// A phrase with both values, for a message.
    pub fn matches(&self, other: &Self) -> Result<(), String> {
        self.same_size(other)?;
        let distance = self.largest_corner_distance(other);
        let tenth = 0.1 * self.spacing().into_iter().fold(f64::INFINITY, f64::min);
        if distance > tenth {
            return Err(format!("the grids lie up to {distance:.2} mm apart"));
        }
        Ok(())
    }

    /// The part of [`matches`](Self::matches) without which voxels cannot be compared at all: shape and spacing.
    ///
    /// # Errors
    /// A phrase with both values, for a message.
    pub fn same_size(&self, other: &Self) -> Result<(), String> {
        if self.shape != other.shape {
            return Err(format!(
                "shape {:?} differs from {:?} voxels",
                self.shape, other.shape
            ));
        }
        let (a, b) = (self.spacing(), other.spacing());
        if (0..3).any(|i| (a[i] - b[i]).abs() > 1e-3 * a[i].max(b[i])) {
            return Err(format!("spacing {a:.4?} differs from {b:.4?} mm"));
        }
        Ok(())
    }

    /// How far apart, in mm, the same corner of two grids lies at most.
    pub fn largest_corner_distance(&self, other: &Self) -> f64 {
        let [d, h, w] = self.shape.map(|n| n.saturating_sub(1) as f64);
        let mut largest: f64 = 0.0;
        for corner in 0..8 {
            let pick = |bit: usize, n: f64| if corner >> bit & 1 == 1 { n } else { 0.0 };
            let index = [pick(0, w), pick(1, h), pick(2, d), 1.0];
            let squared: f64 = (0..3)
                .map(|r| {
                    let difference: f64 = (0..4)
                        .map(|c| (self.affine[r][c] - other.affine[r][c]) * index[c])
                        .sum();
                    difference.powi(2)
                })
                .sum();
            largest = largest.max(squared.sqrt());
        }
        largest
    }
}

/// Voxels and their geometry.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume<T> {
    /// The voxels, `[D, H, W]`, in standard (row-major) layout.
    pub data: Array3<T>,
    /// Where they lie. Its shape is the shape of `data`.
    pub geometry: Geometry,
}

impl<T> Volume<T> {
    /// Joins voxels and geometry.
    ///
    /// # Panics
    /// When their shapes differ: that is a mistake of the program, never of its input.
    pub fn new(data: Array3<T>, geometry: Geometry) -> Self {
        assert_eq!(
            data.shape(),
            geometry.shape,
            "voxels and geometry differ in shape"
        );
        Self { data, geometry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_is_in_array_order() {
        assert_eq!(
            Geometry::from_spacing([4, 3, 2], [5.0, 2.0, 1.0]).spacing(),
            [5.0, 2.0, 1.0]
        );
    }

    #[test]
    fn left_right_is_found_in_a_permuted_grid() {
        let mut geometry = Geometry::from_spacing([4, 3, 2], [1.0; 3]);
        assert_eq!(geometry.left_right_axis(), 2);
        geometry.affine = [
            [0., 0., -2., 0.],
            [0., 1., 0., 0.],
            [1., 0., 0., 0.],
            [0., 0., 0., 1.],
        ];
        assert_eq!(geometry.left_right_axis(), 0);
    }

    #[test]
    fn a_shifted_grid_does_not_match() {
        let a = Geometry::from_spacing([4, 3, 2], [1.0; 3]);
        let mut b = a.clone();
        assert!(a.matches(&b).is_ok());
        b.affine[1][3] = 0.5;
        assert!(a.matches(&b).unwrap_err().contains("0.50 mm"));
    }
}
