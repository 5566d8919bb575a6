//! The distance from each voxel of one surface to the nearest voxel of another.
//!
//! Two surfaces worth comparing mostly run close together, so the rows around a voxel are searched first, nearest row
//! first, until no other row can hold anything nearer. Where that takes too long, distance transforms of single slices
//! answer: they need little memory however large the volume and however bad the prediction.

use ndarray::Array3;
use rayon::prelude::*;

use super::mask::{Mask, nearest_in_row, set_bits};
use crate::distance_transform::squared_distances;

/// Rows searched around a voxel before it is left to the distance transforms.
const ROWS: usize = 256;

/// Slices whose distance transforms are in memory together.
const SLICES: usize = 16;

/// What lies around a voxel of a volume.
pub(super) struct Neighbourhood {
    pub spacing: [f64; 3],
    /// Along which axes a voxel has neighbours at all: a single slice is a 2D image.
    pub axes: [bool; 3],
    /// Rows by their distance from the voxel's own: steps along D and H, and the squared distance in mm².
    rows: Vec<(isize, isize, f64)>,
    /// All rows nearer than this are in `rows`.
    complete: f64,
}

/// A voxel whose nearest voxel may lie beyond the searched rows.
struct Far {
    /// Its place among all voxels of its surface.
    index: usize,
    voxel: [usize; 3],
    /// The smallest squared distance found so far.
    squared: f64,
}

impl Neighbourhood {
    /// For a volume of this shape.
    pub fn new(shape: (usize, usize, usize), spacing: [f64; 3]) -> Self {
        // A volume of one voxel has all of its neighbours outside.
        let single = shape == (1, 1, 1);
        let axes = [shape.0, shape.1, shape.2].map(|length| length > 1 || single);
        let squared =
            |d: isize, h: isize| (d as f64 * spacing[0]).powi(2) + (h as f64 * spacing[1]).powi(2);
        // Whatever the spacing, the nearest `ROWS` rows lie within so many steps.
        let reach = ROWS as isize / 2;
        let mut rows: Vec<_> = (-reach..=reach)
            .flat_map(|d| (-reach..=reach).map(move |h| (d, h, squared(d, h))))
            .collect();
        rows.select_nth_unstable_by(ROWS, |a, b| a.2.total_cmp(&b.2));
        let complete = rows[ROWS].2;
        rows.truncate(ROWS);
        rows.sort_by(|a, b| a.2.total_cmp(&b.2));
        Self {
            spacing,
            axes,
            rows,
            complete,
        }
    }

    /// Distances in mm from every voxel of `from` to the nearest of `to`, which has the same shape and is not empty.
    ///
    /// They are in the order of the voxels of `from`.
    pub fn distances(&self, from: &Mask, to: &Mask) -> Vec<f64> {
        let searched: Vec<Vec<Result<f64, f64>>> = (0..from.shape[0])
            .into_par_iter()
            .map(|d| {
                from.voxels_of_slice(d)
                    .map(|voxel| self.search(to, voxel))
                    .collect()
            })
            .collect();
        let searched: Vec<Result<f64, f64>> = searched.into_iter().flatten().collect();
        let voxels = (0..from.shape[0]).flat_map(|d| from.voxels_of_slice(d));
        let uncertain = voxels.zip(&searched).enumerate();
        let mut far: Vec<Far> = uncertain
            .filter_map(|(index, (voxel, found))| {
                let squared = found.err()?;
                Some(Far {
                    index,
                    voxel,
                    squared,
                })
            })
            .collect();
        self.search_slices(to, &mut far);
        let mut distances: Vec<f64> = searched
            .into_iter()
            .map(|found| found.unwrap_or_else(|bound| bound).sqrt())
            .collect();
        for Far { index, squared, .. } in far {
            distances[index] = squared.sqrt();
        }
        distances
    }

    /// The squared distance in mm² from a voxel to the nearest of `to`; a bound above it where that may lie beyond the
    /// rows.
    fn search(&self, to: &Mask, [d, h, w]: [usize; 3]) -> Result<f64, f64> {
        let [depth, height, width] = to.shape;
        let mut nearest = f64::INFINITY;
        let mut limit = width;
        for &(along_d, along_h, across) in &self.rows {
            if across >= nearest {
                return Ok(nearest);
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
        if nearest <= self.complete {
            Ok(nearest)
        } else {
            Err(nearest)
        }
    }

    /// Completes the search of `far` with all slices of `to`.
    fn search_slices(&self, to: &Mask, far: &mut [Far]) {
        if far.is_empty() {
            return;
        }
        let slices: Vec<usize> = (0..to.shape[0])
            .filter(|&d| to.voxels_of_slice(d).next().is_some())
            .collect();
        for slices in slices.chunks(SLICES) {
            let within_slices: Vec<_> = slices
                .par_iter()
                .map(|&d| (d, squared_distances(to.slice(d).view(), self.spacing)))
                .collect();
            far.par_iter_mut().for_each(|far| {
                let [d, h, w] = far.voxel;
                for (slice, within) in &within_slices {
                    let across = (d.abs_diff(*slice) as f64 * self.spacing[0]).powi(2);
                    if across < far.squared {
                        far.squared = far.squared.min(across + within[[0, h, w]]);
                    }
                }
            });
        }
    }
}

impl Mask {
    /// The voxels inside of one slice along D, row by row.
    fn voxels_of_slice(&self, d: usize) -> impl Iterator<Item = [usize; 3]> {
        (0..self.shape[1]).flat_map(move |h| set_bits(self.row(d, h)).map(move |w| [d, h, w]))
    }

    /// One slice `[1, H, W]` with a `bool` per voxel.
    fn slice(&self, d: usize) -> Array3<bool> {
        let mut slice = Array3::from_elem([1, self.shape[1], self.shape[2]], false);
        for [_, h, w] in self.voxels_of_slice(d) {
            slice[[0, h, w]] = true;
        }
        slice
    }
}
