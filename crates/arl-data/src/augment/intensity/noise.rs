//! Additive Gaussian noise.

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::channels;
use super::normal::Normals;
use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};

/// Adds independent Gaussian noise of one random strength to all channels.
///
/// ```
/// use arl_data::augment::Noise;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::<f32>::zeros((1, 8, 8, 8));
/// let noise = Noise { probability: 1.0, deviation: (0.1, 0.1) };
/// noise.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert!((image.std(0.0) - 0.1).abs() < 0.01);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// How often a patch is changed.
    pub probability: f64,
    /// Range of the standard deviation, in units of the normalised image.
    pub deviation: (f32, f32),
}

impl Default for Noise {
    /// nnU-Net's values. Its parameter is named a variance but used as a standard deviation, and so it is here.
    fn default() -> Self {
        Noise {
            probability: 0.1,
            deviation: (0.0, 0.1),
        }
    }
}

impl Noise {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !happens(self.probability, rng) {
            return;
        }
        let deviation = uniform(self.deviation, rng);
        let mut normals = Normals::new(rng);
        for channel in channels(image).0 {
            normals.add_to(channel, deviation);
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("noise");
        check.probability("probability", self.probability)?;
        check.range("deviation", self.deviation, (0.0, f32::MAX))
    }
}
