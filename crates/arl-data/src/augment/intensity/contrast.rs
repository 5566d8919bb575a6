//! Contrast about the mean.

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::{Moments, channels};
use crate::augment::draw::{around_one, happens};
use crate::augment::error::{AugmentError, Check};
use crate::augment::math::vectorised;

/// Moves the values of each channel away from or towards the channel's mean, within their old range.
///
/// ```
/// use arl_data::augment::Contrast;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::from_shape_fn((1, 1, 1, 5), |(_, _, _, w)| w as f32);
/// let harder = Contrast { probability: 1.0, factor: (1.5, 1.5) };
/// harder.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert_eq!(image.as_slice().unwrap(), [0.0, 0.5, 2.0, 3.5, 4.0]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
        if !happens(self.probability, rng) {
            return;
        }
        for channel in channels(image).0 {
            let factor = around_one(self.factor, rng);
            let Moments {
                mean, low, high, ..
            } = Moments::of(channel);
            vectorised(
                #[inline(always)]
                || {
                    for v in channel {
                        *v = ((*v - mean) * factor + mean).max(low).min(high);
                    }
                },
            );
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("contrast");
        check.probability("probability", self.probability)?;
        check.range("factor", self.factor, (0.0, 100.0))
    }
}
