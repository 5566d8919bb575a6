//! Gaussian blur.

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::channels;
use super::convolution::{Boundary, convolve};
use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};

/// Smooths some channels with a Gaussian of random width along each axis; beyond the border the image is reflected.
///
/// ```
/// use arl_data::augment::Blur;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::<f32>::zeros((1, 9, 9, 9));
/// image[[0, 4, 4, 4]] = 1.0;
/// let blur = Blur { probability: 1.0, channel_probability: 1.0, deviation: (0.5, 1.0) };
/// blur.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert!(image[[0, 4, 4, 4]] < 0.5 && (image.sum() - 1.0).abs() < 1e-5);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
        if !happens(self.probability, rng) {
            return;
        }
        let (channels, shape) = channels(image);
        for channel in channels {
            if happens(self.channel_probability, rng) {
                smooth(channel, shape, [0; 3].map(|_| uniform(self.deviation, rng)));
            }
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("blur");
        check.probability("probability", self.probability)?;
        check.probability("channel_probability", self.channel_probability)?;
        check.range("deviation", self.deviation, (0.0, 100.0))
    }
}

/// Separable convolution of a volume `[D, H, W]` with a Gaussian of these standard deviations in voxels.
fn smooth(volume: &mut [f32], shape: [usize; 3], deviations: [f32; 3]) {
    for (axis, deviation) in deviations.into_iter().enumerate() {
        let kernel = kernel(deviation);
        let first = -((kernel.len() / 2) as isize);
        convolve(volume, shape, axis, &kernel, first, Boundary::Reflect);
    }
}

/// Normalised samples of a Gaussian. The number of taps is the odd number nearest to six standard deviations and a
/// half.
fn kernel(deviation: f32) -> Vec<f32> {
    let radius = (3.0 * deviation - 0.25).round().max(0.0) as i32;
    if radius == 0 {
        return vec![1.0];
    }
    let sample = |i: i32| (-0.5 * (i as f32 / deviation).powi(2)).exp();
    let samples: Vec<f32> = (-radius..=radius).map(sample).collect();
    let sum: f32 = samples.iter().sum();
    samples.into_iter().map(|v| v / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_the_reference() {
        let close = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?}");
        };
        close(&kernel(0.0), &[1.0]);
        close(&kernel(0.5), &[0.106_507, 0.786_986, 0.106_507]);
        let half = [0.004_433, 0.054_005_6, 0.242_036_2];
        let [a, b, c] = half;
        close(&kernel(1.0), &[a, b, c, 0.399_050_3, c, b, a]);
    }

    #[test]
    fn an_impulse_becomes_the_product_of_kernels() {
        let at = |d: usize, h: usize, w: usize| (d * 11 + h) * 9 + w;
        let mut volume = vec![0.0; 7 * 11 * 9];
        volume[at(3, 5, 5)] = 1.0;
        smooth(&mut volume, [7, 11, 9], [0.5, 1.0, 0.7]);
        let (d, h, w) = (kernel(0.5), kernel(1.0), kernel(0.7));
        let expected = d[2] * h[5] * w[w.len() / 2 - 1];
        assert!((volume[at(4, 7, 4)] - expected).abs() < 1e-7);
        assert!((volume.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_constant_stays_even_on_one_voxel() {
        let mut volume = [3.0f32; 10];
        smooth(&mut volume, [1, 2, 5], [1.0; 3]);
        assert!(volume.iter().all(|v| (v - 3.0).abs() < 1e-5));
    }
}
