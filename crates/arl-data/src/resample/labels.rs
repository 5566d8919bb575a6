//! Label maps: each label interpolated linearly as its own 0/1 volume, without ever making those volumes.

use ndarray::{Array3, ArrayView3, Axis};
use rayon::prelude::*;

use super::axis::{linear, nearest};

/// A label wins a voxel with half of it. The slack makes an exact half (a centre between two voxels) count as one
/// whatever the rounding of the weights.
const HALF: f32 = 0.5 - 1e-6;

/// Two source positions along one axis and the weight of the second.
type Pair = (usize, usize, f32);

/// Resamples label maps linearly, along `separate` (when given) by the nearest voxel.
///
/// Equal to interpolating one 0/1 volume per label and painting, in ascending order, the labels that reach half of a
/// voxel: of two that tie the larger stays, and where none reaches half the voxel is 0.
pub(super) fn resize(
    view: ArrayView3<'_, u16>,
    new_shape: [usize; 3],
    separate: Option<usize>,
) -> Array3<u16> {
    let old_shape: [usize; 3] = view.dim().into();
    let pairs: [Vec<Pair>; 3] = std::array::from_fn(|axis| {
        let (old, new) = (old_shape[axis], new_shape[axis]);
        let pair = |i| match separate {
            Some(a) if a == axis => (nearest(i, old, new), nearest(i, old, new), 0.0),
            _ => linear(i, old, new),
        };
        (0..new).map(pair).collect()
    });
    let view = view.as_standard_layout();
    let [depth_pairs, height_pairs, width_pairs] = &pairs;

    let mut result = Array3::zeros(new_shape);
    result
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(depth_pairs)
        .for_each(|(mut slice, &d)| {
            for (mut line, &h) in slice.rows_mut().into_iter().zip(height_pairs) {
                let row = |d: usize, h: usize| {
                    let start = (d * old_shape[1] + h) * old_shape[2];
                    &view.as_slice().expect("standard layout")[start..start + old_shape[2]]
                };
                let rows = [row(d.0, h.0), row(d.0, h.1), row(d.1, h.0), row(d.1, h.1)];
                let weights = [
                    (1.0 - d.2) * (1.0 - h.2),
                    (1.0 - d.2) * h.2,
                    d.2 * (1.0 - h.2),
                    d.2 * h.2,
                ];
                for (voxel, &w) in line.iter_mut().zip(width_pairs) {
                    *voxel = winner(&rows, &weights, w);
                }
            }
        });
    result
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
