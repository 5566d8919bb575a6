//! Convolution along one axis of a volume, which blurring and filters of spatial frequencies share.

use crate::augment::math::vectorised;

/// Values summed at once.
const LANES: usize = 64;

/// What lies beyond the ends of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boundary {
    /// The volume, reflected about its first and last voxel.
    Reflect,
    /// The volume again.
    Repeat,
}

impl Boundary {
    /// Index within `0..n`.
    fn index(self, index: isize, n: usize) -> usize {
        let n = n as isize;
        let inside = match self {
            Boundary::Repeat => index.rem_euclid(n),
            Boundary::Reflect if n == 1 => 0,
            Boundary::Reflect => {
                let folded = index.rem_euclid(2 * (n - 1));
                folded.min(2 * (n - 1) - folded)
            }
        };
        inside as usize
    }
}

/// `out[i] = Σ kernel[k] · in[i + first + k]` along `axis` of a volume of this shape `[D, H, W]`.
pub(super) fn convolve(
    volume: &mut [f32],
    shape: [usize; 3],
    axis: usize,
    kernel: &[f32],
    first: isize,
    boundary: Boundary,
) {
    let n = shape[axis];
    if volume.is_empty() {
        return;
    }
    let source: Vec<usize> = (0..n + kernel.len() - 1)
        .map(|i| boundary.index(i as isize + first, n))
        .collect();
    let [_, height, width] = shape;
    vectorised(
        #[inline(always)]
        || match axis {
            2 => along_rows(volume, width, kernel, &source),
            1 => {
                for slice in volume.chunks_exact_mut(height * width) {
                    across_rows(slice, width, width, kernel, &source);
                }
            }
            _ => {
                // A block of columns at a time: what is read again is still in the cache.
                for start in (0..height * width).step_by(width) {
                    across_rows(&mut volume[start..], width, height * width, kernel, &source);
                }
            }
        },
    );
}

/// Along the axis of contiguous rows.
#[inline(always)]
fn along_rows(volume: &mut [f32], width: usize, kernel: &[f32], source: &[usize]) {
    let mut padded = vec![0.0; source.len()];
    for row in volume.chunks_exact_mut(width) {
        for (to, &from) in padded.iter_mut().zip(source) {
            *to = row[from];
        }
        weighted_sum(row, kernel, |k| &padded[k..]);
    }
}

/// Along the axis in which rows of `width` values lie `stride` apart.
#[inline(always)]
fn across_rows(block: &mut [f32], width: usize, stride: usize, kernel: &[f32], source: &[usize]) {
    let n = source.len() + 1 - kernel.len();
    let mut copy = Vec::with_capacity(n * width);
    for row in 0..n {
        copy.extend_from_slice(&block[row * stride..][..width]);
    }
    for i in 0..n {
        let out = &mut block[i * stride..][..width];
        weighted_sum(out, kernel, |k| &copy[source[i + k] * width..]);
    }
}

/// `out = Σ weights[k] · rows(k)`, each row at least as long as `out`.
#[inline(always)]
fn weighted_sum<'a>(out: &mut [f32], weights: &[f32], rows: impl Fn(usize) -> &'a [f32]) {
    let (blocks, rest) = out.as_chunks_mut::<LANES>();
    let summed = blocks.len() * LANES;
    for (block, out) in blocks.iter_mut().enumerate() {
        let mut sum = [0f32; LANES];
        for (k, weight) in weights.iter().enumerate() {
            let row = &rows(k)[block * LANES..][..LANES];
            for lane in 0..LANES {
                sum[lane] += weight * row[lane];
            }
        }
        *out = sum;
    }
    for (at, out) in rest.iter_mut().enumerate() {
        let terms = weights.iter().enumerate();
        *out = terms.fold(0.0, |sum, (k, weight)| sum + weight * rows(k)[summed + at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_and_boundary_against_the_definition() {
        let shape = [5, 3, 37];
        let volume: Vec<f32> = (0..5 * 3 * 37).map(|i| ((i * 31) % 17) as f32).collect();
        let kernel = [0.5, -1.0, 2.0, 0.25];
        for boundary in [Boundary::Reflect, Boundary::Repeat] {
            for (axis, stride) in [(0, 3 * 37), (1, 37), (2, 1)] {
                let mut out = volume.clone();
                convolve(&mut out, shape, axis, &kernel, -1, boundary);
                for (at, &actual) in out.iter().enumerate() {
                    let i = at / stride % shape[axis];
                    let expected: f32 = (0..4)
                        .map(|k| {
                            let from = boundary.index(i as isize + k as isize - 1, shape[axis]);
                            kernel[k] * volume[at - i * stride + from * stride]
                        })
                        .sum();
                    assert!((actual - expected).abs() < 1e-5, "{boundary:?} {axis} {at}");
                }
            }
        }
    }

    #[test]
    fn indices_beyond_the_ends() {
        let indices = |boundary: Boundary| [-5, -1, 0, 3, 4, 9].map(|i| boundary.index(i, 4));
        assert_eq!(indices(Boundary::Reflect), [1, 1, 0, 3, 2, 3]);
        assert_eq!(indices(Boundary::Repeat), [3, 3, 0, 3, 0, 1]);
        assert_eq!(Boundary::Reflect.index(-7, 1), 0);
    }
}
