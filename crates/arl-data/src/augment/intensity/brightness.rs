//! Multiplicative brightness.

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::channels;
use crate::augment::draw::{around_one, happens};
use crate::augment::error::{AugmentError, Check};

/// Multiplies each channel by its own random factor.
///
/// ```
/// use arl_data::augment::Brightness;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::<f32>::ones((1, 2, 2, 2));
/// let brighter = Brightness { probability: 1.0, factor: (1.25, 1.25) };
/// brighter.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert_eq!(image[[0, 0, 0, 0]], 1.25);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
        if !happens(self.probability, rng) {
            return;
        }
        for channel in channels(image).0 {
            let factor = around_one(self.factor, rng);
            channel.iter_mut().for_each(|v| *v *= factor);
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("brightness");
        check.probability("probability", self.probability)?;
        check.range("factor", self.factor, (0.0, 100.0))
    }
}
