//! Interpolation along one axis, for many lines at once: every step works on rows of [`LANES`] neighbouring lines,
//! which is the form that vector instructions want, whichever axis of a volume it is.

use std::ops::Range;

use super::Order;

/// Lines treated together.
pub(super) const LANES: usize = 64;

/// One voxel of each of the lines.
pub(super) type Row<const N: usize> = [f32; N];

/// Edge voxels put before and after each line ahead of the cubic prefilter, as `scipy.ndimage` does: the filter's
/// memory fades by 0.27 per voxel, so twelve make the far boundary invisible in single precision.
const PADDING: isize = 12;

/// Voxels read beyond those that an inner part of a line needs, so that the prefilter, begun there, has forgotten where
/// it began: 0.27^16 is below 1e-9.
const MARGIN: isize = 16;

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
///
/// In the floating-point steps of nnU-Net's `default_resampling.py`, so that the rare ties that rounding moves fall
/// to the same side as there.
pub(super) fn nearest(index: usize, old: usize, new: usize) -> usize {
    let x = (old as f64 / new as f64) * (index as f64 + 0.5) - 0.5;
    // A negative number becomes 0.
    ((x + 0.5).floor() as usize).min(old - 1)
}

/// The two voxels around the centre of output voxel `index`, clamped to the axis, and the weight of the second.
pub(super) fn linear(index: usize, old: usize, new: usize) -> (usize, usize, f32) {
    let (first, t) = source(index, old, new);
    let clamp = |i: isize| i.clamp(0, old as isize - 1) as usize;
    (clamp(first), clamp(first + 1), t)
}

/// How one axis goes from `old` to `new` voxels.
#[derive(Clone, Debug)]
pub(super) struct AxisPlan {
    pub old: usize,
    pub order: Order,
    taps: Vec<Taps>,
}

/// The source rows `first`, `first + 1`, … of an output row and their weights: one for nearest, two for linear, four for
/// cubic. Rows before the first or after the last repeat the edge.
#[derive(Clone, Copy, Debug)]
struct Taps {
    first: isize,
    weights: [f32; 4],
}

impl AxisPlan {
    pub fn new(old: usize, new: usize, order: Order) -> Self {
        // At the old size the centres coincide, and every order returns its samples.
        let order = if old == new { Order::Nearest } else { order };
        let taps = |i: usize| match order {
            Order::Nearest => Taps {
                first: nearest(i, old, new) as isize,
                weights: [1.0, 0.0, 0.0, 0.0],
            },
            Order::Linear => {
                let (first, t) = source(i, old, new);
                Taps {
                    first,
                    weights: [1.0 - t, t, 0.0, 0.0],
                }
            }
            Order::Cubic => {
                let (first, t) = source(i, old, new);
                Taps {
                    first: first - 1,
                    weights: cubic_weights(t),
                }
            }
        };
        Self {
            old,
            order,
            taps: (0..new).map(taps).collect(),
        }
    }

    /// Voxels after the resampling.
    pub fn new_len(&self) -> usize {
        self.taps.len()
    }

    /// The source voxel of an output voxel of the order [`Order::Nearest`].
    pub fn nearest(&self, index: usize) -> usize {
        self.taps[index].first as usize
    }

    /// Computes the output rows `outputs` from the source rows that `load` fills in, and hands each to `store`.
    ///
    /// `rows` is working memory that is kept between calls.
    pub fn apply<const N: usize>(
        &self,
        outputs: Range<usize>,
        rows: &mut Vec<Row<N>>,
        mut load: impl FnMut(usize, &mut Row<N>),
        mut store: impl FnMut(usize, &Row<N>),
    ) {
        let Some(last) = outputs.clone().next_back() else {
            return;
        };
        let end = self.old as isize;
        let (begin, stop) = (self.taps[outputs.start].first, self.taps[last].first);
        let needed = match self.order {
            Order::Nearest => begin..stop + 1,
            Order::Linear => begin..stop + 2,
            Order::Cubic => (begin - MARGIN).max(-PADDING)..(stop + 4 + MARGIN).min(end + PADDING),
        };
        let inside = needed.start.max(0)..needed.end.min(end);
        rows.resize((needed.end - needed.start) as usize, [0.0; N]);
        for i in inside.clone() {
            load(i as usize, &mut rows[(i - needed.start) as usize]);
        }
        for i in needed.start..inside.start {
            rows[(i - needed.start) as usize] = rows[(inside.start - needed.start) as usize];
        }
        for i in inside.end..needed.end {
            rows[(i - needed.start) as usize] = rows[(inside.end - 1 - needed.start) as usize];
        }
        if self.order == Order::Cubic {
            prefilter(rows);
        }
        for index in outputs {
            let Taps { first, weights } = self.taps[index];
            let rows = &rows[(first - needed.start) as usize..];
            match self.order {
                Order::Nearest => store(index, &rows[0]),
                Order::Linear => {
                    let [a, b] = [&rows[0], &rows[1]];
                    let [u, v, ..] = weights;
                    store(index, &std::array::from_fn(|l| a[l] * u + b[l] * v));
                }
                Order::Cubic => {
                    let [a, b, c, d] = [&rows[0], &rows[1], &rows[2], &rows[3]];
                    let [t, u, v, w] = weights;
                    let value = |l: usize| (a[l] * t + b[l] * u) + (c[l] * v + d[l] * w);
                    store(index, &std::array::from_fn(value));
                }
            }
        }
    }
}

/// Six times the values of the four cubic B-splines that cover a point `t` after their second centre; the six is the
/// gain that [`prefilter`] leaves out.
fn cubic_weights(t: f32) -> [f32; 4] {
    let u = 1.0 - t;
    [
        u * u * u,
        4.0 - 6.0 * t * t + 3.0 * t * t * t,
        4.0 - 6.0 * u * u + 3.0 * u * u * u,
        t * t * t,
    ]
}

/// Turns samples into a sixth of their cubic B-spline coefficients, in place: one causal and one anticausal recursion
/// per line (Unser, "Splines: a perfect fit for signal and image processing", 1999).
fn prefilter<const N: usize>(rows: &mut [Row<N>]) {
    let n = rows.len();
    let z = POLE as f32;
    // Both recursions begin as on a constant line: the ends are padded with the edge, or far enough away.
    let start = (1.0 / (1.0 - POLE)) as f32;
    rows[0].iter_mut().for_each(|v| *v *= start);
    for i in 1..n {
        let (before, after) = rows.split_at_mut(i);
        let (previous, row) = (&before[i - 1], &mut after[0]);
        for l in 0..N {
            row[l] += z * previous[l];
        }
    }
    let end = (POLE / (POLE * POLE - 1.0)) as f32;
    let previous = rows[n - 2];
    for (v, p) in rows[n - 1].iter_mut().zip(previous) {
        *v = end * (*v + z * p);
    }
    for i in (0..n - 1).rev() {
        let (before, after) = rows.split_at_mut(i + 1);
        let (row, next) = (&mut before[i], &after[0]);
        for l in 0..N {
            row[l] = z * (next[l] - row[l]);
        }
    }
}
