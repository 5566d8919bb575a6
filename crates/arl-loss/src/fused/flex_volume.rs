//! What the kernels on the CPU share: how they read a volume, and how they go through it.
//!
//! A voxel's class scores lie a whole volume apart, so rows of W are taken in blocks into a small buffer `[C][BLOCK]`,
//! where everything else happens; all loops over a block vectorise.
//!
//! One task is one plane (n, d). Sums over a plane are f64 and are added in the order of the planes, so the result has
//! the same bits whatever the number of threads.

use super::ops::Pass;
use crate::Regions;
use burn::tensor::{bf16, f16};
use half::slice::HalfFloatSliceExt;
use pulp::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Voxels per block: long enough for the memory to stream, short enough for the buffer to stay in L1.
pub(super) const BLOCK: usize = 128;

/// A type that logits come in.
pub(super) trait Score: Copy + Default + Send + Sync {
    /// Reads as f32.
    fn load(source: &[Self], scores: &mut [f32]);
    /// Rounds f32.
    fn store(scores: &[f32], out: &mut [Self]);
}

impl Score for f32 {
    fn load(source: &[Self], scores: &mut [f32]) {
        scores.copy_from_slice(source);
    }

    fn store(scores: &[f32], out: &mut [Self]) {
        out.copy_from_slice(scores);
    }
}

impl Score for f16 {
    fn load(source: &[Self], scores: &mut [f32]) {
        source.convert_to_f32_slice(scores);
    }

    fn store(scores: &[f32], out: &mut [Self]) {
        out.convert_from_f32_slice(scores);
    }
}

impl Score for bf16 {
    fn load(source: &[Self], scores: &mut [f32]) {
        source.convert_to_f32_slice(scores);
    }

    fn store(scores: &[f32], out: &mut [Self]) {
        out.convert_from_f32_slice(scores);
    }
}

/// Class indices, in the type they come in.
pub(super) enum Labels<'a> {
    I64(&'a [i64]),
    I32(&'a [i32]),
    I16(&'a [i16]),
    I8(&'a [i8]),
    U64(&'a [u64]),
    U32(&'a [u32]),
    U16(&'a [u16]),
    U8(&'a [u8]),
}

/// What the logits should have been.
pub(super) enum Target<'a> {
    /// `[N, D, H, W]`.
    Labels(Labels<'a>),
    /// `[N, C, D, H, W]`.
    Shares(&'a [f32]),
}

/// What both passes read.
pub(super) struct Volume<'a, E> {
    /// `[N, C, D, H, W]`.
    pub logits: &'a [E],
    pub target: Target<'a>,
    pub images: usize,
    pub classes: usize,
    pub regions: &'a Regions,
    pub pass: Pass,
}

/// One row segment of one plane.
pub(super) struct Segment {
    /// First voxel in the image, `[D, H, W]` flattened.
    pub voxel: usize,
    /// Its columns.
    pub columns: Range<usize>,
}

/// The channel of a voxel that does not count.
pub(super) const IGNORED: i32 = -2;

impl<E: Score> Volume<'_, E> {
    pub fn voxels(&self) -> usize {
        self.regions.shape().iter().product()
    }

    /// The scores of class `c` along the segment, the rest of the block left alone.
    pub fn scores(&self, image: usize, c: usize, segment: &Segment, scores: &mut [f32; BLOCK]) {
        let start = (image * self.classes + c) * self.voxels() + segment.voxel;
        let len = segment.columns.len();
        E::load(&self.logits[start..start + len], &mut scores[..len]);
        prefetch(&self.logits[start + len..(start + 2 * len).min(self.logits.len())]);
    }

    /// The channel of each voxel of the segment, where the target is labels.
    #[inline(always)]
    pub fn channels(
        &self,
        labels: &Labels,
        image: usize,
        segment: &Segment,
        out: &mut [i32; BLOCK],
    ) {
        let start = image * self.voxels() + segment.voxel;
        let range = start..start + segment.columns.len();
        let first = self.pass.first_label(self.classes) as i32;
        let end = first + self.classes as i32;
        // A label below 0 counts nowhere as it is, and one that i32 can't hold is no class.
        let ignored = self.pass.ignore_index.unwrap_or(-1);
        let ignored = i32::try_from(ignored).unwrap_or(-1);
        let out = &mut out[..range.len()];
        #[inline(always)]
        fn read<L: Copy>(labels: &[L], out: &mut [i32], channel: impl Fn(L) -> i32) {
            for (out, &label) in out.iter_mut().zip(labels) {
                *out = channel(label);
            }
        }
        let channel = |label: i32| {
            if label < 0 || label >= end || label == ignored {
                IGNORED
            } else {
                label - first
            }
        };
        let wide = |label: i64| channel(i32::try_from(label).unwrap_or(-1));
        match labels {
            Labels::I64(labels) => read(&labels[range], out, wide),
            Labels::I32(labels) => read(&labels[range], out, channel),
            Labels::I16(labels) => read(&labels[range], out, |label| channel(label.into())),
            Labels::I8(labels) => read(&labels[range], out, |label| channel(label.into())),
            Labels::U64(labels) => read(&labels[range], out, |label| {
                wide(i64::try_from(label).unwrap_or(-1))
            }),
            Labels::U32(labels) => read(&labels[range], out, |label| wide(label.into())),
            Labels::U16(labels) => read(&labels[range], out, |label| channel(label.into())),
            Labels::U8(labels) => read(&labels[range], out, |label| channel(label.into())),
        }
    }

    /// Sums `[S, N, C, K]` from those of each plane, `[S, C, kh·kw]`, that `plane(image, depth, sums)` adds up.
    pub fn sum_planes(
        &self,
        sums: usize,
        plane: impl Fn(usize, usize, &mut [f64]) + Sync,
    ) -> Vec<f32> {
        let [depth, ..] = self.regions.shape();
        let [_, kh, kw] = self.regions.counts();
        let (c, k) = (self.classes, self.regions.len());
        let per_plane = sums * c * kh * kw;
        let mut planes = vec![0f64; self.images * depth * per_plane];
        planes
            .par_chunks_mut(per_plane)
            .enumerate()
            .for_each(|(i, sums)| plane(i / depth, i % depth, sums));

        let mut out = vec![0f32; sums * self.images * c * k];
        let mut total = vec![0f64; per_plane];
        for image in 0..self.images {
            for (kd, interval) in self.regions.intervals(0).enumerate() {
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
                    let start = ((sum * self.images + image) * c + class) * k + kd * kh * kw;
                    out[start..start + kh * kw]
                        .iter_mut()
                        .zip(total)
                        .for_each(|(out, &total)| *out = total as f32);
                }
            }
        }
        out
    }

    /// A tensor like the logits from its planes: `plane(image, (depth, its part), out)`, with `[H, W]` for each class.
    pub fn fill_planes(
        &self,
        plane: impl Fn(usize, (usize, usize), &mut [&mut [E]]) + Sync,
    ) -> Vec<E> {
        let [depth, height, width] = self.regions.shape();
        let mut out = vec![E::default(); self.logits.len()];
        // The planes of each (n, d): one per class.
        let mut planes: Vec<Vec<&mut [E]>> = (0..self.images * depth).map(|_| Vec::new()).collect();
        for (i, plane) in out.chunks_mut(height * width).enumerate() {
            let (image, d) = (i / (self.classes * depth), i % depth);
            planes[image * depth + d].push(plane);
        }
        let depth_part = parts(self.regions, 0);
        planes.into_par_iter().enumerate().for_each(|(i, mut out)| {
            let (image, d) = (i / depth, i % depth);
            plane(image, (d, depth_part[d]), &mut out);
        });
        out
    }
}

/// Fetches what the next block will read of a class. The rows of many classes are more streams than a processor follows by
/// itself.
#[inline(always)]
fn prefetch<E>(next: &[E]) {
    #[cfg(target_arch = "x86_64")]
    for line in next.chunks(64 / size_of::<E>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching reads and writes nothing that a program can see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = next;
}

/// In which interval of an axis each of its coordinates lies.
pub(super) fn parts(regions: &Regions, axis: usize) -> Vec<usize> {
    let mut parts = Vec::with_capacity(regions.shape()[axis]);
    for (part, interval) in regions.intervals(axis).enumerate() {
        parts.extend(interval.map(|_| part));
    }
    parts
}

/// The blocks of a row of `width` voxels that starts at `voxel`.
pub(super) fn segments(voxel: usize, width: usize) -> impl Iterator<Item = Segment> {
    (0..width).step_by(BLOCK).map(move |start| Segment {
        voxel: voxel + start,
        columns: start..(start + BLOCK).min(width),
    })
}

/// A multiple of the lanes of any vector.
pub(super) const LANES: usize = 16;

/// As [`exp`], of a vector.
#[inline(always)]
pub(super) fn exp_vector<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let number = |number: f32| simd.splat_f32s(number);
    let underflows = simd.less_than_f32s(x, number(-87.0));
    let x = simd.select_f32s(underflows, number(-87.0), x);
    let shifted = simd.mul_add_e_f32s(x, number(std::f32::consts::LOG2_E), number(ROUND));
    let n = simd.sub_f32s(shifted, number(ROUND));
    let r = simd.mul_add_e_f32s(n, number(-LN2_HIGH), x);
    let r = simd.mul_add_e_f32s(n, number(-LN2_LOW), r);
    let mut series = number(EXP_SERIES[0]);
    for coefficient in &EXP_SERIES[1..] {
        series = simd.mul_add_e_f32s(series, r, number(*coefficient));
    }
    series = simd.mul_add_e_f32s(series, simd.mul_f32s(r, r), simd.add_f32s(r, number(1.0)));
    let biased = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    let power = simd.wrapping_dyn_shl_u32s(biased, simd.splat_u32s(23));
    let e = simd.mul_f32s(series, simd.transmute_f32s_u32s(power));
    simd.select_f32s(underflows, number(0.0), e)
}

/// 1.5·2²³: adding it rounds to an integer, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;
// ln 2 in two parts, the first with few digits so that its multiples are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// The polynomial of Cephes' expf on |r| <= ln(2)/2, from r⁷ to r².
const EXP_SERIES: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
];

/// `a·b + c`, in one operation where the processor has it.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` for `x <= 0`, to 1e-7 of its value, without a branch or a call, so that loops over it vectorise.
/// 0 below −87, where f32 has no more normal numbers; NaN stays NaN. `FUSED` where the processor multiplies and adds in one.
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = multiply_add::<FUSED>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FUSED>(n, -LN2_HIGH, clamped);
    let r = multiply_add::<FUSED>(n, -LN2_LOW, r);
    let mut series = EXP_SERIES[0];
    for coefficient in &EXP_SERIES[1..] {
        series = multiply_add::<FUSED>(series, r, *coefficient);
    }
    series = multiply_add::<FUSED>(series, r * r, r + 1.0);
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { series * power }
}

/// `ln x` for normal `x > 0`, NaN of NaN, to 2e-7 of its value or 1e-7 near 1, as `exp`.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    // The mantissa in [√½, √2), and the exponent that is left.
    let exponent = bits.wrapping_sub(0x3f35_04f3) as i32 >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub((exponent as u32) << 23));
    // 2·artanh(s), |s| < 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut series = 1.0 / 9.0;
    series = series * square + 1.0 / 7.0;
    series = series * square + 1.0 / 5.0;
    series = series * square + 1.0 / 3.0;
    let logarithm = exponent as f32 * std::f32::consts::LN_2 + 2.0 * (s + s * square * series);
    // NaN has bits like a large number's.
    if x > 0.0 { logarithm } else { f32::NAN }
}

/// `ln(1 + x)` for `0 <= x <= 1`, to 2e-7 of its value, as `exp`.
#[inline(always)]
pub(super) fn ln_1p(x: f32) -> f32 {
    // 2·artanh(s); s <= 1/3, and the first term left out is below 2e-8 of the value.
    let s = x / (2.0 + x);
    let square = s * s;
    let mut series = 1.0 / 13.0;
    series = series * square + 1.0 / 11.0;
    series = series * square + 1.0 / 9.0;
    series = series * square + 1.0 / 7.0;
    series = series * square + 1.0 / 5.0;
    series = series * square + 1.0 / 3.0;
    2.0 * (s + s * square * series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::WithSimd;

    fn check_exponential(exp: impl Fn(f32) -> f32) {
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

    #[test]
    fn exponential_is_exact_to_1e_7() {
        check_exponential(exp::<true>);
        check_exponential(exp::<false>);
        struct One(f32);
        impl pulp::WithSimd for One {
            type Output = f32;

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> f32 {
                let mut row = [0f32; LANES];
                S::as_mut_simd_f32s(&mut row).0[0] = exp_vector(simd, simd.splat_f32s(self.0));
                row[0]
            }
        }
        let arch = pulp::Arch::new();
        check_exponential(|x| arch.dispatch(One(x)));
        check_exponential(|x| One(x).with_simd(pulp::Scalar::new()));
    }

    #[test]
    fn logarithm_of_a_sum_is_exact_to_2e_7() {
        assert_eq!(ln(1.0), 0.0);
        for i in 1..1_000_000 {
            let x = 1.0 + (i as f32) * 1e-3;
            let expected = f64::from(x).ln();
            let error = (f64::from(ln(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "ln({x}) is off by {error:e}");
        }
    }

    #[test]
    fn logarithm_of_one_and_more_is_exact_to_2e_7() {
        assert_eq!(ln_1p(0.0), 0.0);
        for i in 1..100_000 {
            let x = (i as f32 / 100_000.0).powi(3);
            let expected = f64::from(x).ln_1p();
            let error = (f64::from(ln_1p(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "ln_1p({x}) is off by {error:e}");
        }
    }
}
