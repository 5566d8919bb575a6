//! One pass of separable interpolation: resample the first axis of a volume and move it to the end.
//!
//! Three passes treat every axis once and restore the order of the axes. Reading runs along the two axes that
//! follow the first, so all inner loops are over contiguous memory whatever the axis.

use rayon::prelude::*;

use super::Order;

/// Columns treated together: wide enough for vector instructions, narrow enough that a column block stays in cache.
const LANES: usize = 32;

/// Edge voxels put before and after each line ahead of the cubic prefilter, as `scipy.ndimage` does: the filter's
/// memory fades by 0.27 per voxel, so twelve make the far boundary invisible in single precision.
const PADDING: usize = 12;

/// Pole of the recursive filter that turns samples into cubic B-spline coefficients: `sqrt(3) - 2`.
const POLE: f64 = -0.267_949_192_431_122_7;

/// The source voxels of one output voxel along one axis, as `first + t` with `0 <= t < 1`.
///
/// Centres of voxels correspond: `x = (i + 0.5) * old / new - 0.5`. Computed in integers, so that ties (a centre
/// exactly between two voxels) do not depend on rounding.
fn source(index: usize, old: usize, new: usize) -> (isize, f32) {
    let (index, old, new) = (index as i64, old as i64, new as i64);
    let numerator = (2 * index + 1) * old - new;
    let first = numerator.div_euclid(2 * new);
    let t = numerator.rem_euclid(2 * new) as f64 / (2 * new) as f64;
    (first as isize, t as f32)
}

/// The voxel nearest to the centre of output voxel `index`; the later one of two equally near.
pub(super) fn nearest(index: usize, old: usize, new: usize) -> usize {
    ((2 * index + 1) * old / (2 * new)).min(old - 1)
}

/// The two voxels around the centre of output voxel `index`, clamped to the axis, and the weight of the second.
pub(super) fn linear(index: usize, old: usize, new: usize) -> (usize, usize, f32) {
    let (first, t) = source(index, old, new);
    let clamp = |i: isize| i.clamp(0, old as isize - 1) as usize;
    (clamp(first), clamp(first + 1), t)
}

/// Source rows and weights of one output row; unused places carry weight 0.
type Taps = [(usize, f32); 4];

/// Taps of every output position; for [`Order::Cubic`] the rows count from the padded start.
fn taps(old: usize, new: usize, order: Order) -> Vec<Taps> {
    let tap = |i: usize| match order {
        Order::Nearest => {
            let row = nearest(i, old, new);
            [(row, 1.0), (row, 0.0), (row, 0.0), (row, 0.0)]
        }
        Order::Linear => {
            let (a, b, t) = linear(i, old, new);
            [(a, 1.0 - t), (b, t), (a, 0.0), (a, 0.0)]
        }
        Order::Cubic => {
            let (first, t) = source(i, old, new);
            let weights = cubic_weights(t);
            // `first` is at least -1 and at most old - 1, so the taps stay inside the padding.
            [0, 1, 2, 3].map(|k| {
                (
                    (first + k as isize - 1 + PADDING as isize) as usize,
                    weights[k],
                )
            })
        }
    };
    (0..new).map(tap).collect()
}

/// Values of the four cubic B-splines that cover a point `t` after their second centre.
fn cubic_weights(t: f32) -> [f32; 4] {
    let u = 1.0 - t;
    [
        u * u * u / 6.0,
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
        (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0,
        t * t * t / 6.0,
    ]
}

/// Resamples the first axis of `[old, lanes]` to `new` positions and returns `[lanes, new]`.
pub(super) fn resample_first(source: &[f32], old: usize, new: usize, order: Order) -> Vec<f32> {
    let lanes = source.len() / old;
    let mut result = vec![0.0; lanes * new];
    // At the old size the centres coincide and every order returns its samples: only the axes move.
    let order = if old == new { Order::Nearest } else { order };
    let taps = taps(old, new, order);
    let padding = if order == Order::Cubic { PADDING } else { 0 };

    result
        .par_chunks_mut(LANES * new)
        .enumerate()
        .for_each_init(
            || vec![[0.0f32; LANES]; old + 2 * padding],
            |rows, (block, out)| {
                let start = block * LANES;
                let width = out.len() / new;
                for (k, row) in rows.iter_mut().enumerate() {
                    let i = k.saturating_sub(padding).min(old - 1);
                    row[..width].copy_from_slice(&source[i * lanes + start..][..width]);
                }
                if order == Order::Cubic {
                    prefilter(rows);
                }
                for (j, tap) in taps.iter().enumerate() {
                    let value = combine(rows, tap, order);
                    for (lane, v) in value[..width].iter().enumerate() {
                        out[lane * new + j] = *v;
                    }
                }
            },
        );
    result
}

/// Weighted sum of the rows named by `tap`.
fn combine(rows: &[[f32; LANES]], tap: &Taps, order: Order) -> [f32; LANES] {
    let [a, b, c, d] = tap.map(|(row, _)| &rows[row]);
    let [wa, wb, wc, wd] = tap.map(|(_, weight)| weight);
    match order {
        Order::Nearest => *a,
        Order::Linear => std::array::from_fn(|l| a[l] * wa + b[l] * wb),
        Order::Cubic => std::array::from_fn(|l| a[l] * wa + b[l] * wb + c[l] * wc + d[l] * wd),
    }
}

/// Turns samples into cubic B-spline coefficients, in place: one causal and one anticausal recursion per column,
/// mirrored at the ends (Unser, "Splines: a perfect fit for signal and image processing", 1999).
fn prefilter(rows: &mut [[f32; LANES]]) {
    let n = rows.len();
    let z = POLE as f32;
    // Start of the causal recursion: the padding repeats the edge voxel, so its sum over the mirrored past is that
    // of a constant line up to 0.27^12.
    let gain = ((1.0 - POLE) * (1.0 - 1.0 / POLE)) as f32;
    for row in rows.iter_mut() {
        row.iter_mut().for_each(|v| *v *= gain);
    }
    rows[0].iter_mut().for_each(|v| *v /= 1.0 - z);
    for i in 1..n {
        let previous = rows[i - 1];
        rows[i]
            .iter_mut()
            .zip(previous)
            .for_each(|(v, p)| *v += z * p);
    }
    let before = rows[n - 2];
    let end = (POLE / (POLE * POLE - 1.0)) as f32;
    rows[n - 1]
        .iter_mut()
        .zip(before)
        .for_each(|(v, p)| *v = end * (*v + z * p));
    for i in (0..n - 1).rev() {
        let next = rows[i + 1];
        rows[i]
            .iter_mut()
            .zip(next)
            .for_each(|(v, p)| *v = z * (p - *v));
    }
}
