//! Contrast about the mean.

use ndarray::{Array4, Axis};
use rand::{Rng, RngExt};

use super::factor_around_one;

/// Moves the values of each channel away from or towards the channel's mean, within their old range.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrast {
    /// How often a patch is changed.
    pub probability: f64,
    /// Range of the factor on the distance to the mean; half of the draws lie below 1, half above.
    pub factor: (f32, f32),
}

impl Default for Contrast {
    /// nnU-Net's values.
    fn default() -> Self {
        Contrast {
            probability: 0.15,
            factor: (0.75, 1.25),
        }
    }
}

impl Contrast {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !rng.random_bool(self.probability) {
            return;
        }
        for mut channel in image.axis_iter_mut(Axis(0)) {
            let factor = factor_around_one(self.factor, rng);
            let mean = channel.mean().unwrap_or(0.0);
            let low = channel.iter().copied().fold(f32::INFINITY, f32::min);
            let high = channel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            channel.mapv_inplace(|v| ((v - mean) * factor + mean).max(low).min(high));
        }
    }
}
