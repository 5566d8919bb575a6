//! Softmax against class indices.

use super::flex_volume::{
    BLOCK, IGNORED, Labels, Score, Segment, Target, Volume, exp, parts, segments,
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
    fn with_simd<S: Simd>(self, _: S) {
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
        let mut columns = vec![0f32; classes * width];
        for (row_part, rows) in volume.regions.intervals(1).enumerate() {
            columns.fill(0.0);
            for h in rows {
                for segment in segments((depth * height + h) * width, width) {
                    block.exponentials(volume, image, &segment, &mut scores);
                    for (i, column) in segment.columns.clone().enumerate() {
                        let Ok(class) = usize::try_from(block.class[i]) else {
                            continue;
                        };
                        let p = scores[class][i] * block.inverse[i];
                        let part = class * parts_of_plane + row_part * kw + column_part[column];
                        let mut add = |sum: usize, value: f32| {
                            sums[sum * classes * parts_of_plane + part] += f64::from(value);
                        };
                        add(TP, p);
                        add(FN, 1.0 - p);
                        add(CE, block.sum[i].ln() - block.own[i]);
                        add(LABELLED, 1.0);
                        scores[class][i] = 0.0;
                    }
                    for (c, scores) in scores.iter().enumerate() {
                        let start = c * width;
                        let column = &mut columns
                            [start + segment.columns.start..start + segment.columns.end];
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
                    sums[(FP * classes + c) * parts_of_plane
                        + row_part * kw
                        + column_part[column]] += f64::from(value);
                }
            }
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
    fn with_simd<S: Simd>(self, _: S) {
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
                for segment in segments((depth * height + h) * width, width) {
                    let Segment { columns, .. } = &segment;
                    block.exponentials(volume, image, &segment, &mut scores);

                    // Σ_j p_j·q_j, first as if no voxel had a label; then what the label changes.
                    let mut dot = [0f32; BLOCK];
                    for (c, scores) in scores.iter_mut().enumerate() {
                        let b = &b[c * width + columns.start..c * width + columns.end];
                        for (((p, dot), &inverse), &b) in
                            scores.iter_mut().zip(&mut dot).zip(&block.inverse).zip(b)
                        {
                            *p *= inverse;
                            *dot += *p * b;
                        }
                    }
                    let mut entropy = [0f32; BLOCK];
                    let mut own = [0f32; BLOCK];
                    for (i, column) in columns.clone().enumerate() {
                        let Ok(class) = usize::try_from(block.class[i]) else {
                            continue;
                        };
                        let change = at(TP, class, column)
                            - at(FN, class, column)
                            - b[class * width + column];
                        entropy[i] = at(CE, class, column);
                        own[i] = scores[class][i] * change;
                        dot[i] += own[i];
                    }
                    for (c, scores) in scores.iter_mut().enumerate() {
                        let b = &b[c * width + columns.start..c * width + columns.end];
                        for (((p, &dot), &entropy), &b) in
                            scores.iter_mut().zip(&dot).zip(&entropy).zip(b)
                        {
                            *p *= b - dot + entropy;
                        }
                    }
                    for i in 0..columns.len() {
                        if let Ok(class) = usize::try_from(block.class[i]) {
                            scores[class][i] += own[i] - entropy[i];
                        }
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
    fn with_simd<S: Simd>(self, _: S) {
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
                block.exponentials(volume, image, &segment, &mut scores);
                for (i, column) in segment.columns.clone().enumerate() {
                    if block.class[i] >= 0 {
                        out[h * width + column] = block.sum[i].ln() - block.own[i];
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
            inverse: [0.0; BLOCK],
            own: [0.0; BLOCK],
        }
    }

    /// `exp(z_c − max z)` for each class, and the rest of the block. All 0 where a voxel does not count.
    #[inline(always)]
    fn exponentials<E: Score>(
        &mut self,
        volume: &Volume<E>,
        image: usize,
        segment: &Segment,
        scores: &mut [[f32; BLOCK]],
    ) {
        let len = segment.columns.len();
        self.class = [IGNORED; BLOCK];
        volume.channels(labels(volume), image, segment, &mut self.class);
        let mut largest = [f32::NEG_INFINITY; BLOCK];
        for (c, scores) in scores.iter_mut().enumerate() {
            // Copied, because rows of different classes often lie a multiple of 4 KiB apart and would push
            // each other out of the cache between this read and the next.
            volume.scores(image, c, segment, scores);
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

fn labels<'a, E>(volume: &'a Volume<E>) -> &'a Labels<'a> {
    match &volume.target {
        Target::Labels(labels) => labels,
        Target::Shares(_) => unreachable!("shares have a kernel of their own"),
    }
}
