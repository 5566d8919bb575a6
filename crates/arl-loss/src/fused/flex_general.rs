//! Softmax or sigmoid, against class indices or shares, with all sums.

use super::flex_volume::{
    BLOCK, IGNORED, Score, Segment, Target, Volume, exp, ln, ln_1p, parts, segments,
};
use super::ops::{CE, FN, FOCAL, FP, LABELLED, OTHER, SQUARES, TARGET_SQUARES, TP, VOXELS};
use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

const SUMS: usize = 10;

/// The sums `[10, N, C, K]`.
pub(super) fn forward<E: Score>(volume: &Volume<E>) -> Vec<f32> {
    let arch = Arch::new();
    volume.sum_planes(SUMS, |image, depth, sums| {
        arch.dispatch(PlaneSums {
            volume,
            image,
            depth,
            sums,
        });
    })
}

/// The gradient with respect to the logits, `[N, C, D, H, W]`, from that with respect to the sums.
pub(super) fn backward<E: Score>(volume: &Volume<E>, gradient: &[f32]) -> Vec<E> {
    let arch = Arch::new();
    volume.fill_planes(|image, depth, out| {
        arch.dispatch(PlaneGradient {
            volume,
            gradient,
            image,
            depth,
            out,
        });
    })
}

/// What is known of one class along a block.
#[derive(Clone, Copy)]
struct Class {
    /// Probability.
    p: [f32; BLOCK],
    /// `1 − p`.
    q: [f32; BLOCK],
    /// `ln p`.
    log_p: [f32; BLOCK],
    /// `ln(1 − p)`, with sigmoid.
    log_q: [f32; BLOCK],
    /// Share, 0 where the voxel does not count.
    g: [f32; BLOCK],
    /// 1 where the voxel counts, else 0.
    counts: [f32; BLOCK],
}

impl Class {
    const EMPTY: Self = Self {
        p: [0.0; BLOCK],
        q: [0.0; BLOCK],
        log_p: [0.0; BLOCK],
        log_q: [0.0; BLOCK],
        g: [0.0; BLOCK],
        counts: [0.0; BLOCK],
    };
}

/// Fills all classes for one segment. What does not count, or lies beyond the segment, is as of a logit of 0.
#[inline(always)]
fn read<E: Score, const FUSED: bool>(
    volume: &Volume<E>,
    image: usize,
    segment: &Segment,
    classes: &mut [Class],
) {
    let len = segment.columns.len();
    let mut everywhere = [0f32; BLOCK];
    match &volume.target {
        Target::Labels(labels) => {
            let mut channel = [IGNORED; BLOCK];
            volume.channels(labels, image, segment, &mut channel);
            for (everywhere, &channel) in everywhere.iter_mut().zip(&channel) {
                *everywhere = if channel == IGNORED { 0.0 } else { 1.0 };
            }
            for (c, class) in classes.iter_mut().enumerate() {
                class.counts = everywhere;
                for (g, &channel) in class.g.iter_mut().zip(&channel) {
                    *g = if channel == c as i32 { 1.0 } else { 0.0 };
                }
            }
        }
        Target::Shares(shares) => {
            everywhere[..len].fill(1.0);
            for (c, class) in classes.iter_mut().enumerate() {
                let start = (image * volume.classes + c) * volume.voxels() + segment.voxel;
                class.counts = [0.0; BLOCK];
                class.g = [0.0; BLOCK];
                for (i, &share) in shares[start..start + len].iter().enumerate() {
                    // A NaN is not at least 0 either.
                    if share >= 0.0 {
                        class.g[i] = share;
                        class.counts[i] = 1.0;
                    } else {
                        everywhere[i] = 0.0;
                    }
                }
            }
            if !volume.pass.sigmoid {
                for class in classes.iter_mut() {
                    class.counts = everywhere;
                    for (g, &counts) in class.g.iter_mut().zip(&everywhere) {
                        *g = if counts == 0.0 { 0.0 } else { *g };
                    }
                }
            }
        }
    }
    for (c, class) in classes.iter_mut().enumerate() {
        let mut scores = [0f32; BLOCK];
        volume.scores(image, c, segment, &mut scores);
        for ((log_p, &score), &counts) in class.log_p.iter_mut().zip(&scores).zip(&class.counts) {
            *log_p = if counts == 0.0 { 0.0 } else { score };
        }
    }
    if volume.pass.sigmoid {
        for class in classes.iter_mut() {
            for i in 0..BLOCK {
                // Finite, so that no share of 0 makes a NaN of it.
                let z = class.log_p[i];
                let z = if z < -1e30 { -1e30 } else { z };
                let z = if z > 1e30 { 1e30 } else { z };
                let e = exp::<FUSED>(-z.abs());
                let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
                // ln of the larger; that of the smaller is |z| below it.
                let log = -ln_1p(e);
                let positive = z >= 0.0;
                class.p[i] = if positive { large } else { small };
                class.q[i] = if positive { small } else { large };
                class.log_p[i] = if positive { log } else { log + z };
                class.log_q[i] = if positive { log - z } else { log };
            }
        }
        return;
    }
    let mut largest = [f32::NEG_INFINITY; BLOCK];
    for class in classes.iter() {
        for (largest, &score) in largest.iter_mut().zip(&class.log_p) {
            *largest = if score > *largest { score } else { *largest };
        }
    }
    let mut sum = [0f32; BLOCK];
    for class in classes.iter_mut() {
        for i in 0..BLOCK {
            // Of a logit of −∞ too, so that no share of 0 makes a NaN of it.
            let z = class.log_p[i] - largest[i];
            class.log_p[i] = if z < -1e30 { -1e30 } else { z };
            class.p[i] = exp::<FUSED>(class.log_p[i]);
            sum[i] += class.p[i];
        }
    }
    let log_sum = sum.map(ln);
    for class in classes.iter_mut() {
        for i in 0..BLOCK {
            class.log_p[i] -= log_sum[i];
            class.p[i] /= sum[i];
            class.q[i] = 1.0 - class.p[i];
        }
    }
}

/// `x^gamma` for `x` in 0 to 1.
#[inline(always)]
fn power(x: f32, gamma: f32) -> f32 {
    if gamma == 2.0 { x * x } else { x.powf(gamma) }
}

/// `γ·x^(γ−1)`, finite at 0 also for γ < 1, where it is multiplied by what vanishes faster.
#[inline(always)]
fn power_slope(x: f32, gamma: f32) -> f32 {
    if gamma == 2.0 {
        2.0 * x
    } else {
        gamma * x.max(1e-30).powf(gamma - 1.0)
    }
}

/// The sum of some values: in 16 lanes, which are then added in f64.
#[inline(always)]
fn add_up(values: &[f32]) -> f64 {
    let mut lanes = [0f32; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    let rest = chunks.remainder().iter().map(|&value| f64::from(value));
    lanes.iter().map(|&lane| f64::from(lane)).chain(rest).sum()
}

/// Where the columns of a segment pass from one region to the next: the part, and its columns within the segment.
fn runs(column_part: &[usize], segment: &Segment) -> Vec<(usize, Range<usize>)> {
    let columns = &column_part[segment.columns.clone()];
    let mut runs = Vec::new();
    let mut start = 0;
    for run in columns.chunk_by(|a, b| a == b) {
        runs.push((run[0], start..start + run.len()));
        start += run.len();
    }
    runs
}

/// The sums of one plane, `[10, C, kh·kw]`.
struct PlaneSums<'a, 'b, E> {
    volume: &'a Volume<'b, E>,
    image: usize,
    depth: usize,
    sums: &'a mut [f64],
}

impl<E: Score> WithSimd for PlaneSums<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // All vector units that `pulp` knows multiply and add in one.
        if S::IS_SCALAR {
            self.run::<false>();
        } else {
            self.run::<true>();
        }
    }
}

impl<E: Score> PlaneSums<'_, '_, E> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self {
            volume,
            image,
            depth,
            sums,
        } = self;
        let [_, height, width] = volume.regions.shape();
        let [_, kh, kw] = volume.regions.counts();
        let column_part = parts(volume.regions, 2);
        let mut classes = vec![Class::EMPTY; volume.classes];
        let mut terms = [[0f32; BLOCK]; SUMS];
        for (row_part, rows) in volume.regions.intervals(1).enumerate() {
            for h in rows {
                for segment in segments((depth * height + h) * width, width) {
                    read::<E, FUSED>(volume, image, &segment, &mut classes);
                    let runs = runs(&column_part, &segment);
                    for (c, class) in classes.iter().enumerate() {
                        class_terms(volume, class, &mut terms);
                        for (sum, terms) in terms.iter().enumerate() {
                            let first = (sum * volume.classes + c) * kh * kw + row_part * kw;
                            for (part, run) in &runs {
                                sums[first + part] += add_up(&terms[run.clone()]);
                            }
                        }
                    }
                }
            }
        }
    }
}

// Indices, because iterators over as many rows would hide that all have the length of a block.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn class_terms<E>(volume: &Volume<E>, class: &Class, terms: &mut [[f32; BLOCK]; SUMS]) {
    let (sigmoid, gamma) = (volume.pass.sigmoid, volume.pass.gamma);
    for i in 0..BLOCK {
        let (p, q, g, counts) = (class.p[i], class.q[i], class.g[i], class.counts[i]);
        let not_g = counts - g;
        terms[TP][i] = p * g;
        terms[FP][i] = p * not_g;
        terms[FN][i] = q * g;
        terms[CE][i] = -class.log_p[i] * g;
        terms[LABELLED][i] = g;
        terms[VOXELS][i] = counts;
        terms[OTHER][i] = match sigmoid {
            true => -class.log_q[i] * not_g,
            false => -class.log_p[i] * counts,
        };
        terms[SQUARES][i] = p * p * counts;
        terms[TARGET_SQUARES][i] = g * g;
    }
    for i in 0..BLOCK {
        let mut focal = power(class.q[i], gamma) * terms[CE][i];
        if sigmoid {
            focal += power(class.p[i], gamma) * terms[OTHER][i];
        }
        terms[FOCAL][i] = focal;
    }
}

/// With softmax, and `r_c = ∂L/∂(ln p_c)`: `∂L/∂z_c = r_c − p_c·Σ_j r_j`. With sigmoid, each class for itself.
struct PlaneGradient<'a, 'b, 'c, E> {
    volume: &'a Volume<'b, E>,
    gradient: &'a [f32],
    image: usize,
    /// The plane, and which part of the axis it lies in.
    depth: (usize, usize),
    /// One plane per class.
    out: &'a mut [&'c mut [E]],
}

impl<E: Score> WithSimd for PlaneGradient<'_, '_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // All vector units that `pulp` knows multiply and add in one.
        if S::IS_SCALAR {
            self.run::<false>();
        } else {
            self.run::<true>();
        }
    }
}

impl<E: Score> PlaneGradient<'_, '_, '_, E> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self {
            volume,
            gradient,
            image,
            depth: (depth, depth_part),
            out,
        } = self;
        let [_, height, width] = volume.regions.shape();
        let [_, kh, kw] = volume.regions.counts();
        let k = volume.regions.len();
        let column_part = parts(volume.regions, 2);
        let mut classes = vec![Class::EMPTY; volume.classes];
        let mut slopes = vec![[0f32; BLOCK]; volume.classes];
        for (row_part, rows) in volume.regions.intervals(1).enumerate() {
            let first = (depth_part * kh + row_part) * kw;
            for h in rows {
                for segment in segments((depth * height + h) * width, width) {
                    read::<E, FUSED>(volume, image, &segment, &mut classes);
                    let runs = runs(&column_part, &segment);
                    let mut total = [0f32; BLOCK];
                    for (c, class) in classes.iter().enumerate() {
                        for (part, run) in &runs {
                            let weights: [f32; SUMS] = std::array::from_fn(|sum| {
                                let of_class = (sum * volume.images + image) * volume.classes + c;
                                gradient[of_class * k + first + part]
                            });
                            class_slope(volume, class, &weights, run.clone(), &mut slopes[c]);
                        }
                        for (total, &slope) in total.iter_mut().zip(&slopes[c]) {
                            *total += slope;
                        }
                    }
                    if !volume.pass.sigmoid {
                        for (class, slopes) in classes.iter().zip(&mut slopes) {
                            for ((slope, &p), &total) in slopes.iter_mut().zip(&class.p).zip(&total)
                            {
                                *slope -= p * total;
                            }
                        }
                    }
                    let columns = &segment.columns;
                    let row = h * width + columns.start..h * width + columns.end;
                    for (slopes, out) in slopes.iter().zip(out.iter_mut()) {
                        E::store(&slopes[..columns.len()], &mut out[row.clone()]);
                    }
                }
            }
        }
    }
}

/// The derivative with respect to `ln p` with softmax, to the logit with sigmoid.
#[inline(always)]
fn class_slope<E>(
    volume: &Volume<E>,
    class: &Class,
    weights: &[f32; SUMS],
    run: Range<usize>,
    out: &mut [f32; BLOCK],
) {
    let gamma = volume.pass.gamma;
    for i in run.clone() {
        let (p, q, g, counts) = (class.p[i], class.q[i], class.g[i], class.counts[i]);
        let not_g = counts - g;
        let overlap = p
            * ((weights[TP] - weights[FN]) * g
                + weights[FP] * not_g
                + 2.0 * weights[SQUARES] * p * counts);
        out[i] = if volume.pass.sigmoid {
            overlap * q - weights[CE] * g * q + weights[OTHER] * not_g * p
        } else {
            overlap - weights[CE] * g - weights[OTHER] * counts
        };
    }
    if weights[FOCAL] == 0.0 {
        return;
    }
    for i in run {
        let (p, q, g) = (class.p[i], class.q[i], class.g[i]);
        let of_own = g * (power_slope(q, gamma) * p * class.log_p[i] - power(q, gamma));
        out[i] += weights[FOCAL]
            * if volume.pass.sigmoid {
                let of_other = power(p, gamma) - power_slope(p, gamma) * q * class.log_q[i];
                q * of_own + p * (class.counts[i] - g) * of_other
            } else {
                of_own
            };
    }
}
