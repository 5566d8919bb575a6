//! Multiplicative brightness.

use ndarray::{Array4, Axis};
use rand::{Rng, RngExt};

use super::factor_around_one;

/// Multiplies each channel by its own random factor.
#[derive(Debug, Clone, PartialEq)]
pub struct Brightness {
    /// How often a patch is changed.
    pub probability: f64,
    /// Range of the factor; half of the draws lie below 1, half above.
    pub factor: (f32, f32),
}

impl Default for Brightness {
    /// nnU-Net's values.
    fn default() -> Self {
        Brightness {
            probability: 0.15,
            factor: (0.75, 1.25),
        }
    }
}

impl Brightness {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !rng.random_bool(self.probability) {
            return;
        }
        for mut channel in image.axis_iter_mut(Axis(0)) {
            let factor = factor_around_one(self.factor, rng);
            channel.mapv_inplace(|v| v * factor);
        }
    }
}
