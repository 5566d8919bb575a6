//! The distance from each voxel of one surface to the nearest voxel of another.
//!
//! Two surfaces worth comparing mostly run close together, so the rows around a voxel are searched first, nearest row
//! first, until no other row can hold anything nearer. Only where that takes too long is a distance transform made.

use ndarray::Array3;
use rayon::prelude::*;

use super::mask::{Mask, nearest_in_row, set_bits};
use crate::distance_transform::squared_distances;

/// Rows searched around a voxel before it is left to the distance transform, which costs more than this many rows only
/// where few voxels need it.
const ROWS: usize = 256;

/// The rows around a voxel's own row, by their distance from it.
pub(super) struct Neighbourhood {
    pub spacing: [f64; 3],
    /// Steps along D and H, and the squared distance in mm².
    rows: Vec<(isize, isize, f64)>,
    /// All rows nearer than this are in `rows`.
    complete: f64,
}

impl Neighbourhood {
    pub fn new(spacing: [f64; 3]) -> Self {
        let squared =
            |d: isize, h: isize| (d as f64 * spacing[0]).powi(2) + (h as f64 * spacing[1]).powi(2);
        // Whatever the spacing, the nearest `ROWS` rows lie within so many steps.
        let reach = ROWS as isize / 2;
        let mut rows: Vec<_> = (-reach..=reach)
            .flat_map(|d| (-reach..=reach).map(move |h| (d, h, squared(d, h))))
            .collect();
        rows.sort_by(|a, b| a.2.total_cmp(&b.2));
        let complete = rows[ROWS].2;
        rows.truncate(ROWS);
        Self {
            spacing,
            rows,
            complete,
        }
    }

    /// Distances in mm from every voxel of `from` to the nearest of `to`, which has the same shape and is not empty.
    ///
    /// They are in the order of the voxels of `from`.
    pub fn distances(&self, from: &Mask, to: &Mask) -> Vec<f64> {
        let slices: Vec<Vec<Option<f64>>> = (0..from.shape[0])
            .into_par_iter()
            .map(|d| {
                let rows = (0..from.shape[1]).flat_map(|h| {
                    set_bits(from.row(d, h)).map(move |w| self.squared_if_near(to, [d, h, w]))
                });
                rows.collect()
            })
            .collect();
        let all_near = slices.iter().flatten().all(Option::is_some);
        if all_near {
            return slices
                .into_iter()
                .flatten()
                .flatten()
                .map(f64::sqrt)
                .collect();
        }
        let squared = squared_distances(to.to_array().view(), self.spacing);
        let voxels = (0..from.shape[0]).flat_map(|d| {
            (0..from.shape[1]).flat_map(move |h| set_bits(from.row(d, h)).map(move |w| [d, h, w]))
        });
        voxels.map(|voxel| squared[voxel].sqrt()).collect()
    }

    /// The squared distance in mm² from a voxel to the nearest of `to`, unless that lies beyond the rows.
    fn squared_if_near(&self, to: &Mask, [d, h, w]: [usize; 3]) -> Option<f64> {
        let [depth, height, width] = to.shape;
        let mut nearest = f64::INFINITY;
        let mut limit = width;
        for &(along_d, along_h, across) in &self.rows {
            if across >= nearest {
                return Some(nearest);
            }
            let (d, h) = (
                d.wrapping_add_signed(along_d),
                h.wrapping_add_signed(along_h),
            );
            if d >= depth || h >= height {
                continue;
            }
            // Rows come with growing distance: only fewer steps along W can be nearer than what was found.
            if let Some(steps) = nearest_in_row(to.row(d, h), w, limit) {
                let squared = across + (steps as f64 * self.spacing[2]).powi(2);
                nearest = nearest.min(squared);
                limit = steps;
            }
        }
        (nearest <= self.complete).then_some(nearest)
    }
}

impl Mask {
    /// One `bool` per voxel.
    fn to_array(&self) -> Array3<bool> {
        let [depth, height, _] = self.shape;
        let mut array = Array3::from_elem(self.shape, false);
        for d in 0..depth {
            for h in 0..height {
                for w in set_bits(self.row(d, h)) {
                    array[[d, h, w]] = true;
                }
            }
        }
        array
    }
}
