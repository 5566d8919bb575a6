//! Gaussian blur.

use ndarray::{Array4, ArrayViewMut3, Axis};
use rand::{Rng, RngExt};

/// Smooths some channels with a Gaussian of random width along each axis; beyond the border the image is reflected.
#[derive(Debug, Clone, PartialEq)]
pub struct Blur {
    /// How often a patch is changed at all.
    pub probability: f64,
    /// How often a channel of such a patch is changed.
    pub channel_probability: f64,
    /// Range of the standard deviation in voxels, drawn per channel and axis.
    pub deviation: (f32, f32),
}

impl Default for Blur {
    /// nnU-Net's values.
    fn default() -> Self {
        Blur {
            probability: 0.2,
            channel_probability: 0.5,
            deviation: (0.5, 1.0),
        }
    }
}

impl Blur {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !rng.random_bool(self.probability) {
            return;
        }
        for channel in image.axis_iter_mut(Axis(0)) {
            if rng.random_bool(self.channel_probability) {
                let (low, high) = self.deviation;
                let deviations = [0; 3].map(|_| rng.random_range(low..high));
                smooth(channel, deviations);
            }
        }
    }
}

/// Separable convolution of `volume` `[D, H, W]` with a Gaussian of these standard deviations in voxels.
fn smooth(mut volume: ArrayViewMut3<'_, f32>, deviations: [f32; 3]) {
    let shape: [usize; 3] = volume.dim().into();
    let mut values: Vec<f32> = volume.iter().copied().collect();
    for (axis, deviation) in deviations.into_iter().enumerate() {
        let inner = shape[axis + 1..].iter().product();
        convolve(&mut values, shape[axis], inner, &kernel(deviation));
    }
    volume
        .iter_mut()
        .zip(values)
        .for_each(|(v, smooth)| *v = smooth);
}

/// Normalised samples of a Gaussian. The number of taps is the odd number nearest to six standard deviations and a
/// half.
fn kernel(deviation: f32) -> Vec<f32> {
    let radius = (3.0 * deviation - 0.25).round().max(0.0) as i32;
    let sample = |i: i32| (-0.5 * (i as f32 / deviation).powi(2)).exp();
    let samples: Vec<f32> = (-radius..=radius).map(sample).collect();
    let sum: f32 = samples.iter().sum();
    samples.into_iter().map(|v| v / sum).collect()
}

/// Convolves along the middle axis of `[outer, n, inner]`.
fn convolve(values: &mut [f32], n: usize, inner: usize, kernel: &[f32]) {
    let radius = kernel.len() / 2;
    let mut padded = vec![0.0; (n + 2 * radius) * inner];
    for block in values.chunks_exact_mut(n * inner) {
        for (i, row) in padded.chunks_exact_mut(inner).enumerate() {
            let source = reflect(i as isize - radius as isize, n);
            row.copy_from_slice(&block[source * inner..][..inner]);
        }
        block.fill(0.0);
        for (k, weight) in kernel.iter().enumerate() {
            block
                .iter_mut()
                .zip(&padded[k * inner..])
                .for_each(|(v, p)| *v += weight * p);
        }
    }
}

/// Index within `0..n` after reflecting about the first and last voxel as often as needed.
fn reflect(index: isize, n: usize) -> usize {
    let last = n as isize - 1;
    if last == 0 {
        return 0;
    }
    let folded = index.rem_euclid(2 * last);
    folded.min(2 * last - folded) as usize
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn kernels_of_the_reference() {
        let close = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?}");
        };
        close(&kernel(0.5), &[0.106_507, 0.786_986, 0.106_507]);
        let half = [0.004_433, 0.054_005_6, 0.242_036_2];
        let [a, b, c] = half;
        close(&kernel(1.0), &[a, b, c, 0.399_050_3, c, b, a]);
    }

    #[test]
    fn an_impulse_becomes_the_product_of_kernels() {
        let mut volume = Array3::<f32>::zeros((7, 11, 9));
        volume[[3, 5, 5]] = 1.0;
        smooth(volume.view_mut(), [0.5, 1.0, 0.7]);
        let (d, h, w) = (kernel(0.5), kernel(1.0), kernel(0.7));
        assert!((volume[[4, 7, 4]] - d[2] * h[5] * w[w.len() / 2 - 1]).abs() < 1e-7);
        assert!((volume.sum() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_constant_stays_even_on_one_voxel() {
        let mut volume = Array3::from_elem((1, 2, 5), 3.0f32);
        smooth(volume.view_mut(), [1.0; 3]);
        assert!(volume.iter().all(|v| (v - 3.0).abs() < 1e-5));
    }
}
