//! Additive Gaussian noise.

use ndarray::Array4;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// Adds independent Gaussian noise of one random strength to all channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// How often a patch is changed.
    pub probability: f64,
    /// Largest standard deviation, in units of the normalised image; the one used is uniform from 0 to it.
    pub max_deviation: f32,
}

impl Default for Noise {
    /// nnU-Net's values. Its parameter is named a variance but used as a standard deviation, and so it is here.
    fn default() -> Self {
        Noise {
            probability: 0.1,
            max_deviation: 0.1,
        }
    }
}

impl Noise {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !rng.random_bool(self.probability) {
            return;
        }
        let deviation = rng.random_range(0.0..=self.max_deviation);
        for v in image.iter_mut() {
            let unit: f32 = rng.sample(StandardNormal);
            *v += deviation * unit;
        }
    }
}
