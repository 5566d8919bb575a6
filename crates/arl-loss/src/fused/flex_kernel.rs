//! The arithmetic. A voxel's class scores lie a whole volume apart, so rows of W are taken in blocks into a
//! small buffer `[C][BLOCK]`, where everything else happens; all loops over a block vectorise.
//!
//! One task is one plane (n, d). Sums over a plane are f64 and are added in the order of the planes, so the
//! result has the same bits whatever the number of threads.

use super::ops::{CE, FN, FP, LABELLED, SUMS, TP};
use crate::Regions;
use rayon::prelude::*;
use std::ops::Range;

/// Voxels per block: long enough for the memory to stream, short enough for the buffer to stay in L1.
const BLOCK: usize = 128;

/// What both passes read.
pub(super) struct Volume<'a> {
    /// `[N, C, D, H, W]`.
    pub logits: &'a [f32],
    /// `[N, D, H, W]`.
    pub labels: &'a [i32],
    pub images: usize,
    pub classes: usize,
    pub regions: &'a Regions,
    pub ignore_index: Option<i32>,
}

/// One row segment of one plane: where it lies, and in which part of the plane.
struct Segment {
    /// First voxel in the image, `[D, H, W]` flattened.
    voxel: usize,
    /// Its columns.
    columns: Range<usize>,
}

impl Volume<'_> {
    fn voxels(&self) -> usize {
        self.regions.shape().iter().product()
    }

    /// The class of each voxel of the segment, −1 where it does not count.
    fn classes_of(&self, image: usize, segment: &Segment, class: &mut [i32; BLOCK]) {
        let start = image * self.voxels() + segment.voxel;
        let labels = &self.labels[start..start + segment.columns.len()];
        let ignored = self.ignore_index.unwrap_or(-1);
        let classes = self.classes as i32;
        for (class, &label) in class.iter_mut().zip(labels) {
            *class = if label < 0 || label >= classes || label == ignored {
                -1
            } else {
                label
            };
        }
    }

    /// The scores of class `c` along the segment.
    fn scores(&self, image: usize, c: usize, segment: &Segment) -> &[f32] {
        let start = (image * self.classes + c) * self.voxels() + segment.voxel;
        &self.logits[start..start + segment.columns.len()]
    }
}

/// The sums `[5, N, C, K]`.
pub(super) fn forward(volume: &Volume) -> Vec<f32> {
    let [depth, ..] = volume.regions.shape();
    let [_, kh, kw] = volume.regions.counts();
    let (c, k) = (volume.classes, volume.regions.len());
    let per_plane = SUMS * c * kh * kw;
    let mut planes = vec![0f64; volume.images * depth * per_plane];
    planes
        .par_chunks_mut(per_plane)
        .enumerate()
        .for_each(|(i, sums)| plane_sums(volume, i / depth, i % depth, sums));

    let mut out = vec![0f32; SUMS * volume.images * c * k];
    let mut total = vec![0f64; per_plane];
    for image in 0..volume.images {
        for (kd, interval) in volume.regions.intervals(0).enumerate() {
            total.fill(0.0);
            for d in interval {
                let plane = &planes[(image * depth + d) * per_plane..][..per_plane];
                total
                    .iter_mut()
                    .zip(plane)
                    .for_each(|(total, sum)| *total += sum);
            }
            for (i, total) in total.chunks(kh * kw).enumerate() {
                let (sum, class) = (i / c, i % c);
                let start = ((sum * volume.images + image) * c + class) * k + kd * kh * kw;
                out[start..start + kh * kw]
                    .iter_mut()
                    .zip(total)
                    .for_each(|(out, &total)| *out = total as f32);
            }
        }
    }
    out
}

/// The sums of one plane, `[5, C, kh·kw]`.
fn plane_sums(volume: &Volume, image: usize, depth: usize, sums: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { plane_sums_avx2(volume, image, depth, sums) };
    }
    plane_sums_any(volume, image, depth, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn plane_sums_avx2(volume: &Volume, image: usize, depth: usize, sums: &mut [f64]) {
    plane_sums_any(volume, image, depth, sums);
}

#[inline(always)]
fn plane_sums_any(volume: &Volume, image: usize, depth: usize, sums: &mut [f64]) {
    let classes = volume.classes;
    let [_, height, width] = volume.regions.shape();
    let [_, kh, kw] = volume.regions.counts();
    let parts = kh * kw;
    let column_part = part_of_column(volume.regions);
    let mut scores = vec![[0f32; BLOCK]; classes];
    let mut block = Block::new();
    // False positives gather per column over the rows of a region, so that no sum crosses lanes until its end.
    let mut columns = vec![0f32; classes * width];
    for (row_part, rows) in volume.regions.intervals(1).enumerate() {
        columns.fill(0.0);
        for h in rows {
            for start in (0..width).step_by(BLOCK) {
                let end = (start + BLOCK).min(width);
                let segment = Segment {
                    voxel: (depth * height + h) * width + start,
                    columns: start..end,
                };
                block.exponentials(volume, image, &segment, &mut scores);
                for (i, column) in (start..end).enumerate() {
                    let Ok(class) = usize::try_from(block.class[i]) else {
                        continue;
                    };
                    let p = scores[class][i] * block.inverse[i];
                    let part = class * parts + row_part * kw + column_part[column];
                    sums[TP * classes * parts + part] += f64::from(p);
                    sums[FN * classes * parts + part] += f64::from(1.0 - p);
                    sums[CE * classes * parts + part] +=
                        f64::from(block.sum[i].ln() - block.own[i]);
                    sums[LABELLED * classes * parts + part] += 1.0;
                    scores[class][i] = 0.0;
                }
                for (c, scores) in scores.iter().enumerate() {
                    let column = &mut columns[c * width + start..c * width + end];
                    for ((column, &e), &inverse) in
                        column.iter_mut().zip(scores).zip(&block.inverse)
                    {
                        *column += e * inverse;
                    }
                }
            }
        }
        for c in 0..classes {
            for (column, &value) in columns[c * width..(c + 1) * width].iter().enumerate() {
                sums[(FP * classes + c) * parts + row_part * kw + column_part[column]] +=
                    f64::from(value);
            }
        }
    }
}

/// The gradient with respect to the logits, `[N, C, D, H, W]`, from that with respect to the sums.
pub(super) fn backward(volume: &Volume, gradient: &[f32]) -> Vec<f32> {
    let [depth, height, width] = volume.regions.shape();
    let mut out = vec![0f32; volume.logits.len()];
    // The planes of each (n, d): one per class.
    let mut planes: Vec<Vec<&mut [f32]>> = (0..volume.images * depth).map(|_| Vec::new()).collect();
    for (i, plane) in out.chunks_mut(height * width).enumerate() {
        let (image, d) = (i / (volume.classes * depth), i % depth);
        planes[image * depth + d].push(plane);
    }
    let mut depth_part = Vec::with_capacity(depth);
    for (part, interval) in volume.regions.intervals(0).enumerate() {
        depth_part.extend(interval.map(|_| part));
    }
    planes.into_par_iter().enumerate().for_each(|(i, mut out)| {
        let (image, d) = (i / depth, i % depth);
        plane_gradient(volume, gradient, image, (d, depth_part[d]), &mut out);
    });
    out
}

fn plane_gradient(
    volume: &Volume,
    gradient: &[f32],
    image: usize,
    d: (usize, usize),
    out: &mut [&mut [f32]],
) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { plane_gradient_avx2(volume, gradient, image, d, out) };
    }
    plane_gradient_any(volume, gradient, image, d, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn plane_gradient_avx2(
    volume: &Volume,
    gradient: &[f32],
    image: usize,
    d: (usize, usize),
    out: &mut [&mut [f32]],
) {
    plane_gradient_any(volume, gradient, image, d, out);
}

/// With a, b, f, e the gradients of TP, FP, FN and the cross entropy, and y the voxel's class:
/// `q_c = b_c`, but `q_y = a_y − f_y`; `∂L/∂z_c = p_c·(q_c − Σ_j p_j·q_j) + e_y·(p_c − g_c)`.
#[inline(always)]
fn plane_gradient_any(
    volume: &Volume,
    gradient: &[f32],
    image: usize,
    (depth, depth_part): (usize, usize),
    out: &mut [&mut [f32]],
) {
    let classes = volume.classes;
    let [_, height, width] = volume.regions.shape();
    let [_, kh, kw] = volume.regions.counts();
    let k = volume.regions.len();
    let column_part = part_of_column(volume.regions);
    let mut scores = vec![[0f32; BLOCK]; classes];
    let mut block = Block::new();
    // b_c of each column, for the region row at hand.
    let mut b = vec![0f32; classes * width];
    for (row_part, rows) in volume.regions.intervals(1).enumerate() {
        let first = (depth_part * kh + row_part) * kw;
        let at = |sum: usize, class: usize, column: usize| {
            gradient[((sum * volume.images + image) * classes + class) * k
                + first
                + column_part[column]]
        };
        for c in 0..classes {
            for column in 0..width {
                b[c * width + column] = at(FP, c, column);
            }
        }
        for h in rows {
            for start in (0..width).step_by(BLOCK) {
                let end = (start + BLOCK).min(width);
                let segment = Segment {
                    voxel: (depth * height + h) * width + start,
                    columns: start..end,
                };
                block.exponentials(volume, image, &segment, &mut scores);

                // Σ_j p_j·q_j, first as if no voxel had a label; then what the label changes.
                let mut dot = [0f32; BLOCK];
                for (c, scores) in scores.iter_mut().enumerate() {
                    let b = &b[c * width + start..c * width + end];
                    for (((p, dot), &inverse), &b) in
                        scores.iter_mut().zip(&mut dot).zip(&block.inverse).zip(b)
                    {
                        *p *= inverse;
                        *dot += *p * b;
                    }
                }
                let mut entropy = [0f32; BLOCK];
                let mut own = [0f32; BLOCK];
                for (i, column) in (start..end).enumerate() {
                    let Ok(class) = usize::try_from(block.class[i]) else {
                        continue;
                    };
                    let change =
                        at(TP, class, column) - at(FN, class, column) - b[class * width + column];
                    entropy[i] = at(CE, class, column);
                    own[i] = scores[class][i] * change;
                    dot[i] += own[i];
                }
                let row = h * width + start..h * width + end;
                for ((c, scores), out) in scores.iter().enumerate().zip(out.iter_mut()) {
                    let b = &b[c * width + start..c * width + end];
                    for ((((out, &p), &dot), &entropy), &b) in out[row.clone()]
                        .iter_mut()
                        .zip(scores)
                        .zip(&dot)
                        .zip(&entropy)
                        .zip(b)
                    {
                        *out = p * (b - dot + entropy);
                    }
                }
                for i in 0..end - start {
                    let Ok(class) = usize::try_from(block.class[i]) else {
                        continue;
                    };
                    out[class][row.start + i] += own[i] - entropy[i];
                }
            }
        }
    }
}

/// In which interval of the last axis each column lies.
fn part_of_column(regions: &Regions) -> Vec<usize> {
    let mut parts = Vec::with_capacity(regions.shape()[2]);
    for (part, interval) in regions.intervals(2).enumerate() {
        parts.extend(interval.map(|_| part));
    }
    parts
}

/// What a softmax over the classes of a block leaves besides the exponentials themselves.
struct Block {
    /// The class of each voxel, −1 where it does not count.
    class: [i32; BLOCK],
    /// Sum of the exponentials.
    sum: [f32; BLOCK],
    /// Its inverse; 0 where the voxel does not count.
    inverse: [f32; BLOCK],
    /// The score of the voxel's own class, less the largest.
    own: [f32; BLOCK],
}

impl Block {
    fn new() -> Self {
        Self {
            class: [-1; BLOCK],
            sum: [0.0; BLOCK],
            inverse: [0.0; BLOCK],
            own: [0.0; BLOCK],
        }
    }

    /// `exp(z_c − max z)` for each class, and the rest of the block. All 0 where a voxel does not count.
    #[inline(always)]
    fn exponentials(
        &mut self,
        volume: &Volume,
        image: usize,
        segment: &Segment,
        scores: &mut [[f32; BLOCK]],
    ) {
        let len = segment.columns.len();
        self.class = [-1; BLOCK];
        volume.classes_of(image, segment, &mut self.class);
        let mut largest = [f32::NEG_INFINITY; BLOCK];
        for (c, scores) in scores.iter_mut().enumerate() {
            let source = volume.scores(image, c, segment);
            // Copied, because rows of different classes often lie a multiple of 4 KiB apart and would push
            // each other out of the cache between this read and the next.
            scores[..len].copy_from_slice(source);
            for (largest, &score) in largest.iter_mut().zip(scores.iter()) {
                *largest = if score > *largest { score } else { *largest };
            }
        }
        for i in 0..len {
            if let Ok(class) = usize::try_from(self.class[i]) {
                self.own[i] = scores[class][i] - largest[i];
            }
        }
        self.sum = [0.0; BLOCK];
        for scores in scores.iter_mut() {
            for ((score, sum), &largest) in scores.iter_mut().zip(&mut self.sum).zip(&largest) {
                *score = exp(*score - largest);
                *sum += *score;
            }
        }
        for i in 0..BLOCK {
            self.inverse[i] = 1.0 / self.sum[i];
        }
        for i in 0..len {
            if self.class[i] < 0 {
                // Also clears a NaN, which a factor of 0 would keep.
                self.inverse[i] = 0.0;
                scores.iter_mut().for_each(|scores| scores[i] = 0.0);
            }
        }
    }
}

/// `e^x` for `x <= 0`, to 1e-7 of its value, without a branch or a call, so that loops over it vectorise.
/// 0 below −87, where f32 has no more normal numbers; NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few digits so that its multiples are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    // Taylor to r⁷ on |r| <= ln(2)/2; the first term left out is below 6e-9.
    let mut series = 1.0 / 5040.0;
    series = series * r + 1.0 / 720.0;
    series = series * r + 1.0 / 120.0;
    series = series * r + 1.0 / 24.0;
    series = series * r + 1.0 / 6.0;
    series = series * r + 0.5;
    series = series * r * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { series * power }
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn exponential_is_exact_to_1e_7() {
        for i in 0..870_000 {
            let x = -(i as f32) * 1e-4;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 1.3e-7, "exp({x}) is off by {error:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-2e4), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
