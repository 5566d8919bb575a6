//! Label maps: each label interpolated linearly as its own 0/1 volume, without ever making those volumes.

use std::ops::Range;

use ndarray::{Array3, ArrayView3, Axis, CowArray, Ix3};
use rayon::prelude::*;

use super::Interpolation;
use super::axis::{linear, nearest};

/// A label wins a voxel with half of it. The slack makes an exact half (a centre between two voxels) count as one
/// whatever the rounding of the weights.
const HALF: f32 = 0.5 - 1e-6;

/// Two source positions along one axis and the weight of the second.
type Pair = (usize, usize, f32);

/// A label map on its way to another shape.
///
/// Equal to interpolating one 0/1 volume per label and painting, in ascending order, the labels that reach half of a
/// voxel: of two that tie the larger stays, and where none reaches half the voxel is 0.
#[derive(Debug)]
pub struct LabelResampler<'a> {
    source: CowArray<'a, u16, Ix3>,
    pairs: [Vec<Pair>; 3],
}

impl<'a> LabelResampler<'a> {
    /// Prepares the resampling of `view` to `new_shape`.
    ///
    /// # Panics
    /// When an axis of either shape is empty.
    pub fn new(
        view: ArrayView3<'a, u16>,
        new_shape: [usize; 3],
        interpolation: Interpolation,
    ) -> Self {
        let old_shape: [usize; 3] = view.dim().into();
        super::check_shapes(old_shape, new_shape);
        let pairs = std::array::from_fn(|axis| {
            let (old, new) = (old_shape[axis], new_shape[axis]);
            let pair = |i| {
                if interpolation == Interpolation::SeparateAxis(axis) {
                    (nearest(i, old, new), nearest(i, old, new), 0.0)
                } else {
                    linear(i, old, new)
                }
            };
            (0..new).map(pair).collect()
        });
        // Rows are read as slices; a crop has them, and only a view of swapped axes must be copied.
        let source = if old_shape[2] == 1 || view.strides()[2] == 1 {
            CowArray::from(view)
        } else {
            CowArray::from(view.as_standard_layout().into_owned())
        };
        Self { source, pairs }
    }

    /// Voxels of the result along `[D, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.pairs[axis].len())
    }

    /// The whole result, `[D, H, W]`.
    pub fn whole(&self) -> Array3<u16> {
        let mut result = Array3::zeros(self.shape());
        let planes = 0..self.shape()[0];
        self.planes(planes, result.as_slice_mut().expect("a new array"));
        result
    }

    /// Computes the planes `planes` of the result into `out`, `[planes, H, W]`.
    ///
    /// # Panics
    /// When `out` has another length, or a plane lies beyond the last.
    pub fn planes(&self, planes: Range<usize>, out: &mut [u16]) {
        let [_, height, width] = self.shape();
        assert_eq!(
            out.len(),
            planes.len() * height * width,
            "labels of {planes:?}"
        );
        let [along_d, along_h, along_w] = &self.pairs;
        out.par_chunks_mut(height * width)
            .zip(&along_d[planes])
            .for_each(|(plane, &d)| {
                for (line, &h) in plane.chunks_exact_mut(width).zip(along_h) {
                    self.line(d, h, along_w, line);
                }
            });
    }

    fn line(&self, d: Pair, h: Pair, along_w: &[Pair], line: &mut [u16]) {
        let row = |d: usize, h: usize| {
            let plane = self.source.index_axis(Axis(0), d);
            plane
                .index_axis_move(Axis(0), h)
                .to_slice()
                .expect("rows of one stride")
        };
        let rows = [row(d.0, h.0), row(d.0, h.1), row(d.1, h.0), row(d.1, h.1)];
        // Most rows of most volumes hold one label.
        let first = rows[0][0];
        if rows.iter().all(|row| row.iter().all(|v| *v == first)) {
            line.fill(first);
            return;
        }
        let weights = [
            (1.0 - d.2) * (1.0 - h.2),
            (1.0 - d.2) * h.2,
            d.2 * (1.0 - h.2),
            d.2 * h.2,
        ];
        for (voxel, &w) in line.iter_mut().zip(along_w) {
            *voxel = winner(&rows, &weights, w);
        }
    }
}

/// The label of one voxel, from four source rows with their weights and a position along them.
fn winner(rows: &[&[u16]; 4], weights: &[f32; 4], (left, right, t): Pair) -> u16 {
    let first = rows[0][left];
    if rows
        .iter()
        .all(|row| row[left] == first && row[right] == first)
    {
        return first;
    }
    let mut candidates = [(0u16, 0f32); 8];
    for (k, (row, weight)) in rows.iter().zip(weights).enumerate() {
        candidates[2 * k] = (row[left], weight * (1.0 - t));
        candidates[2 * k + 1] = (row[right], weight * t);
    }
    let share = |label| {
        candidates
            .iter()
            .filter(|c| c.0 == label)
            .map(|c| c.1)
            .sum::<f32>()
    };
    let winners = candidates
        .iter()
        .map(|c| c.0)
        .filter(|label| share(*label) >= HALF);
    winners.max().unwrap_or(0)
}
