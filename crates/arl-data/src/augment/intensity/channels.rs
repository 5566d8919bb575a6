//! An image as one slice per channel, and what is summed over such a slice.

use ndarray::Array4;

use crate::augment::math::vectorised;

/// A multiple of the lanes of any vector unit.
const LANES: usize = 32;
/// Values whose deviations from their own mean are summed at once: they stay in the fastest cache.
const BLOCK: usize = 128 * LANES;

/// The channels of `image` `[C, D, H, W]`, each as its voxels in order, with the shape `[D, H, W]`.
pub(super) fn channels(image: &mut Array4<f32>) -> (impl Iterator<Item = &mut [f32]>, [usize; 3]) {
    if !image.is_standard_layout() {
        *image = image.as_standard_layout().into_owned();
    }
    let (_, d, h, w) = image.dim();
    let voxels = (d * h * w).max(1);
    let values = image.as_slice_mut().unwrap_or_default();
    (values.chunks_exact_mut(voxels), [d, h, w])
}

/// Mean, standard deviation and range of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub mean: f32,
    pub deviation: f32,
    pub low: f32,
    pub high: f32,
}

impl Moments {
    /// Of these values; all 0 if there is none. The deviation is the population's.
    pub fn of(values: &[f32]) -> Self {
        if values.is_empty() {
            return Moments {
                mean: 0.0,
                deviation: 0.0,
                low: 0.0,
                high: 0.0,
            };
        }
        let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for block in values.chunks(BLOCK) {
            let part = vectorised(
                #[inline(always)]
                || Block::of(block),
            );
            // Chan, Golub and LeVeque (1979): the moments of a union.
            let n = block.len() as f64;
            let shift = part.mean - mean;
            let total = count + n;
            mean += shift * n / total;
            squares += part.squares + shift * shift * count * n / total;
            count = total;
            low = low.min(part.low);
            high = high.max(part.high);
        }
        Moments {
            mean: mean as f32,
            deviation: (squares / count).sqrt() as f32,
            low,
            high,
        }
    }
}

/// The moments of a block; `squares` is the sum of the squared deviations from its mean.
struct Block {
    mean: f64,
    squares: f64,
    low: f32,
    high: f32,
}

impl Block {
    #[inline(always)]
    fn of(values: &[f32]) -> Self {
        let (rows, rest) = values.as_chunks::<LANES>();
        let mut sum = [0f32; LANES];
        let mut low = [f32::INFINITY; LANES];
        let mut high = [f32::NEG_INFINITY; LANES];
        for row in rows {
            for lane in 0..LANES {
                sum[lane] += row[lane];
                low[lane] = if row[lane] < low[lane] {
                    row[lane]
                } else {
                    low[lane]
                };
                high[lane] = if row[lane] > high[lane] {
                    row[lane]
                } else {
                    high[lane]
                };
            }
        }
        let lanes = sum.iter().chain(rest).map(|&v| f64::from(v));
        let mean = lanes.sum::<f64>() / values.len() as f64;
        let centre = mean as f32;
        let mut squares = [0f32; LANES];
        for row in rows {
            for lane in 0..LANES {
                let deviation = row[lane] - centre;
                squares[lane] += deviation * deviation;
            }
        }
        let rest_squares = rest.iter().map(|v| (v - centre) * (v - centre));
        Block {
            mean,
            squares: squares.into_iter().chain(rest_squares).map(f64::from).sum(),
            low: low
                .iter()
                .chain(rest)
                .copied()
                .fold(f32::INFINITY, f32::min),
            high: high
                .iter()
                .chain(rest)
                .copied()
                .fold(f32::NEG_INFINITY, f32::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_far_from_zero() {
        for length in [1, 31, 32, 4097, 100_003] {
            let values: Vec<f32> = (0..length)
                .map(|i| 5000.0 + ((i * 7919) % 1013) as f32 / 1013.0)
                .collect();
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let squares = values.iter().map(|&v| (f64::from(v) - mean).powi(2));
            let deviation = (squares.sum::<f64>() / n).sqrt();
            let moments = Moments::of(&values);
            assert!((f64::from(moments.mean) - mean).abs() < 5e-4, "{length}");
            assert!(
                (f64::from(moments.deviation) - deviation).abs() < 1e-4,
                "{length}"
            );
            assert_eq!(moments.low, values.iter().copied().fold(f32::MAX, f32::min));
            assert_eq!(
                moments.high,
                values.iter().copied().fold(f32::MIN, f32::max)
            );
        }
        assert_eq!(Moments::of(&[]).deviation, 0.0);
    }
}
