//! Softmax against class indices.

use super::flex_volume::{
    BLOCK, IGNORED, LANES, Labels, Score, Segment, Target, Volume, exp_vector, ln, parts, segments,
};
use super::ops::{CE, FN, FP, LABELLED, TP};
use pulp::{Arch, Simd, WithSimd};

/// The sums `[5, N, C, K]`.
pub(super) fn forward<E: Score>(volume: &Volume<E>) -> Vec<f32> {
    let arch = Arch::new();
    volume.sum_planes(volume.pass.sums(), |image, depth, sums| {
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

/// `−ln p` of each voxel's own class, `[N, D, H, W]`.
pub(super) fn voxel_cross_entropy<E: Score>(volume: &Volume<E>) -> Vec<f32> {
    use rayon::prelude::*;
    let [depth, height, width] = volume.regions.shape();
    let arch = Arch::new();
    let mut out = vec![0f32; volume.images * depth * height * width];
    out.par_chunks_mut(height * width)
        .enumerate()
        .for_each(|(i, out)| {
            arch.dispatch(PlaneEntropy {
                volume,
                image: i / depth,
                depth: i % depth,
                out,
            });
        });
    out
}

/// The sums of one plane, `[5, C, kh·kw]`.
struct PlaneSums<'a, 'b, E> {
    volume: &'a Volume<'b, E>,
    image: usize,
    depth: usize,
    sums: &'a mut [f64],
}

impl<E: Score> WithSimd for PlaneSums<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            volume,
            image,
            depth,
            sums,
        } = self;
        let classes = volume.classes;
        let [_, height, width] = volume.regions.shape();
        let [_, kh, kw] = volume.regions.counts();
        let parts_of_plane = kh * kw;
        let column_part = parts(volume.regions, 2);
        let mut scores = vec![[0f32; BLOCK]; classes];
        let mut block = Block::new();
        // False positives gather per column over the rows of a region, so that no sum crosses lanes until its end.
        let padded = width.next_multiple_of(LANES);
        let mut columns = vec![0f32; classes * padded];
        for (row_part, rows) in volume.regions.intervals(1).enumerate() {
            columns.fill(0.0);
            for h in rows {
                for segment in segments((depth * height + h) * width, width) {
                    let len = block.exponentials(simd, volume, image, &segment, &mut scores);
                    // Neighbours mostly share class and region: their sums meet in registers.
                    let mut run = Run::default();
                    let mut at = usize::MAX;
                    for (i, column) in segment.columns.clone().enumerate() {
                        let Ok(class) = usize::try_from(block.class[i]) else {
                            continue;
                        };
                        let part = class * parts_of_plane + row_part * kw + column_part[column];
                        if part != at {
                            run.add_to(sums, at, classes * parts_of_plane);
                            (run, at) = (Run::default(), part);
                        }
                        let p = scores[class][i] * block.inverse[i];
                        scores[class][i] = 0.0;
                        run.tp += p;
                        run.fn_ += 1.0 - p;
                        run.ce += block.log_sum[i] - block.own[i];
                        run.labelled += 1.0;
                    }
                    run.add_to(sums, at, classes * parts_of_plane);
                    let start = segment.columns.start;
                    for (columns, scores) in columns.chunks_exact_mut(padded).zip(&scores) {
                        let columns = &mut columns[start..start + len];
                        for ((column, &e), &inverse) in
                            columns.iter_mut().zip(scores).zip(&block.inverse)
                        {
                            *column += e * inverse;
                        }
                    }
                }
            }
            for (c, columns) in columns.chunks_exact(padded).enumerate() {
                for (&value, &part) in columns.iter().zip(&column_part) {
                    sums[(FP * classes + c) * parts_of_plane + row_part * kw + part] +=
                        f64::from(value);
                }
            }
        }
    }
}

/// The sums of neighbours of one class and region, of a block at most.
#[derive(Default)]
struct Run {
    tp: f32,
    fn_: f32,
    ce: f32,
    labelled: f32,
}

impl Run {
    /// `part` of each sum; the sums lie `stride` apart.
    #[inline(always)]
    fn add_to(&self, sums: &mut [f64], part: usize, stride: usize) {
        if self.labelled > 0.0 {
            sums[TP * stride + part] += f64::from(self.tp);
            sums[FN * stride + part] += f64::from(self.fn_);
            sums[CE * stride + part] += f64::from(self.ce);
            sums[LABELLED * stride + part] += f64::from(self.labelled);
        }
    }
}

/// With a, b, f, e the gradients of TP, FP, FN and the cross entropy, and y the voxel's class:
/// `q_c = b_c`, but `q_y = a_y − f_y`; `∂L/∂z_c = p_c·(q_c − Σ_j p_j·q_j) + e_y·(p_c − g_c)`.
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
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            volume,
            gradient,
            image,
            depth: (depth, depth_part),
            out,
        } = self;
        let classes = volume.classes;
        let [_, height, width] = volume.regions.shape();
        let [_, kh, kw] = volume.regions.counts();
        let k = volume.regions.len();
        let column_part = parts(volume.regions, 2);
        let mut scores = vec![[0f32; BLOCK]; classes];
        let mut block = Block::new();
        let padded = width.next_multiple_of(LANES);
        // For the region row at hand: b_c of each column, and of each class and part what its label changes,
        // a − f − b and e.
        let mut b = vec![0f32; classes * padded];
        let mut of_label = vec![(0f32, 0f32); classes * kw];
        for (row_part, rows) in volume.regions.intervals(1).enumerate() {
            let first = (depth_part * kh + row_part) * kw;
            for c in 0..classes {
                let at = |sum: usize, part: usize| {
                    gradient[((sum * volume.images + image) * classes + c) * k + first + part]
                };
                for (b, &part) in b[c * padded..].iter_mut().zip(&column_part) {
                    *b = at(FP, part);
                }
                for part in 0..kw {
                    let change = at(TP, part) - at(FN, part) - at(FP, part);
                    of_label[c * kw + part] = (change, at(CE, part));
                }
            }
            for h in rows {
                for segment in segments((depth * height + h) * width, width) {
                    let len = block.exponentials(simd, volume, image, &segment, &mut scores);
                    let columns = &segment.columns;
                    let mut own = [0f32; BLOCK];
                    let mut entropy = [0f32; BLOCK];
                    for (i, &part) in column_part[columns.clone()].iter().enumerate() {
                        let class = block.class[i].max(0) as usize;
                        let (change, of_entropy) = of_label[class * kw + part];
                        entropy[i] = if block.class[i] < 0 { 0.0 } else { of_entropy };
                        // 0 by its last factor where the voxel does not count.
                        own[i] = scores[class][i] * change * block.inverse[i];
                    }
                    for v in 0..len / S::F32_LANES {
                        let b_of =
                            |c: usize| S::as_simd_f32s(&b[c * padded + columns.start..]).0[v];
                        let inverse = S::as_simd_f32s(&block.inverse).0[v];
                        // Σ_j p_j·q_j: as if no voxel had a label, and what the label changes.
                        let mut dot = S::as_simd_f32s(&own).0[v];
                        for (c, scores) in scores.iter_mut().enumerate() {
                            let p = &mut S::as_mut_simd_f32s(scores).0[v];
                            *p = simd.mul_f32s(*p, inverse);
                            dot = simd.mul_add_e_f32s(*p, b_of(c), dot);
                        }
                        let rest = simd.sub_f32s(S::as_simd_f32s(&entropy).0[v], dot);
                        for (c, scores) in scores.iter_mut().enumerate() {
                            let p = &mut S::as_mut_simd_f32s(scores).0[v];
                            *p = simd.mul_f32s(*p, simd.add_f32s(b_of(c), rest));
                        }
                    }
                    for (i, &class) in block.class[..columns.len()].iter().enumerate() {
                        // Nothing is added where the voxel does not count.
                        scores[class.max(0) as usize][i] += own[i] - entropy[i];
                    }
                    let row = h * width + columns.start..h * width + columns.end;
                    for (scores, out) in scores.iter().zip(out.iter_mut()) {
                        E::store(&scores[..columns.len()], &mut out[row.clone()]);
                    }
                }
            }
        }
    }
}

/// `−ln p` of one plane, `[H, W]`.
struct PlaneEntropy<'a, 'b, E> {
    volume: &'a Volume<'b, E>,
    image: usize,
    depth: usize,
    out: &'a mut [f32],
}

impl<E: Score> WithSimd for PlaneEntropy<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            volume,
            image,
            depth,
            out,
        } = self;
        let [_, height, width] = volume.regions.shape();
        let mut scores = vec![[0f32; BLOCK]; volume.classes];
        let mut block = Block::new();
        for h in 0..height {
            for segment in segments((depth * height + h) * width, width) {
                block.exponentials(simd, volume, image, &segment, &mut scores);
                for (i, column) in segment.columns.clone().enumerate() {
                    if block.class[i] >= 0 {
                        out[h * width + column] = block.log_sum[i] - block.own[i];
                    }
                }
            }
        }
    }
}

/// What a softmax over the classes of a block leaves besides the exponentials themselves.
struct Block {
    /// The class of each voxel, negative where it does not count.
    class: [i32; BLOCK],
    /// Sum of the exponentials.
    sum: [f32; BLOCK],
    /// Its logarithm.
    log_sum: [f32; BLOCK],
    /// Its inverse; 0 where the voxel does not count.
    inverse: [f32; BLOCK],
    /// The score of the voxel's own class, less the largest.
    own: [f32; BLOCK],
}

impl Block {
    fn new() -> Self {
        Self {
            class: [IGNORED; BLOCK],
            sum: [0.0; BLOCK],
            log_sum: [0.0; BLOCK],
            inverse: [0.0; BLOCK],
            own: [0.0; BLOCK],
        }
    }

    /// `exp(z_c − max z)` for each class, and the rest of the block. All 0 where a voxel does not count. Returns the length
    /// that loops go over: the segment's, in whole lanes.
    #[inline(always)]
    fn exponentials<S: Simd, E: Score>(
        &mut self,
        simd: S,
        volume: &Volume<E>,
        image: usize,
        segment: &Segment,
        scores: &mut [[f32; BLOCK]],
    ) -> usize {
        let len = segment.columns.len();
        let padded = len.next_multiple_of(LANES);
        self.class = [IGNORED; BLOCK];
        volume.channels(labels(volume), image, segment, &mut self.class);
        for (c, scores) in scores.iter_mut().enumerate() {
            // Copied, because rows of different classes often lie a multiple of 4 KiB apart and would push
            // each other out of the cache between this read and the next.
            volume.scores(image, c, segment, scores);
        }
        for (i, &class) in self.class[..len].iter().enumerate() {
            // That of class 0 where the voxel does not count; nothing reads it.
            self.own[i] = scores[class.max(0) as usize][i];
        }
        for v in 0..padded / S::F32_LANES {
            let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
            for scores in scores.iter() {
                largest = simd.max_f32s(largest, S::as_simd_f32s(scores).0[v]);
            }
            let mut sum = simd.splat_f32s(0.0);
            for scores in scores.iter_mut() {
                let score = &mut S::as_mut_simd_f32s(scores).0[v];
                *score = exp_vector(simd, simd.sub_f32s(*score, largest));
                sum = simd.add_f32s(sum, *score);
            }
            S::as_mut_simd_f32s(&mut self.sum).0[v] = sum;
            let own = &mut S::as_mut_simd_f32s(&mut self.own).0[v];
            *own = simd.sub_f32s(*own, largest);
        }
        for i in 0..padded {
            self.inverse[i] = 1.0 / self.sum[i];
            self.log_sum[i] = ln(self.sum[i]);
        }
        let all_count = self.class[..len]
            .iter()
            .fold(true, |all, &class| all & (class >= 0));
        let ignored = if all_count { 0..0 } else { 0..len };
        for i in ignored {
            if self.class[i] < 0 {
                // Also clears a NaN, which a factor of 0 would keep.
                self.inverse[i] = 0.0;
                scores.iter_mut().for_each(|scores| scores[i] = 0.0);
            }
        }
        padded
    }
}

fn labels<'a, E>(volume: &'a Volume<E>) -> &'a Labels<'a> {
    match &volume.target {
        Target::Labels(labels) => labels,
        Target::Shares(_) => unreachable!("shares have a kernel of their own"),
    }
}
