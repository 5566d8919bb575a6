//! Gamma correction.

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::{Moments, channels};
use crate::augment::draw::{around_one, happens};
use crate::augment::error::{AugmentError, Check};
use crate::augment::math::{unit_power, vectorised};

/// Smallest range and deviation that are divided by.
const SMALLEST: f32 = 1e-7;

/// Raises each channel, scaled to 0..1, to its own random power, and restores its mean and standard deviation.
///
/// ```
/// use arl_data::augment::Gamma;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::from_shape_fn((1, 1, 1, 5), |(_, _, _, w)| w as f32);
/// let dark = Gamma { probability: 1.0, power: (1.5, 1.5), invert: false };
/// dark.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert!((image.mean().unwrap() - 2.0).abs() < 1e-6);
/// assert!(image[[0, 0, 0, 2]] < 2.0, "the middle has become darker");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gamma {
    /// How often a patch is changed.
    pub probability: f64,
    /// Range of the power; half of the draws lie below 1, half above.
    pub power: (f32, f32),
    /// Whether the power acts on the negated image, so that it bends the bright end instead of the dark one.
    pub invert: bool,
}

impl Default for Gamma {
    /// nnU-Net's second gamma transform, on the image as it is.
    fn default() -> Self {
        Gamma {
            probability: 0.3,
            power: (0.7, 1.5),
            invert: false,
        }
    }
}

impl Gamma {
    /// nnU-Net's first gamma transform, on the negated image.
    pub fn inverted() -> Self {
        Gamma {
            probability: 0.1,
            invert: true,
            ..Gamma::default()
        }
    }

    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !happens(self.probability, rng) {
            return;
        }
        for channel in channels(image).0 {
            bend(channel, around_one(self.power, rng), self.invert);
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("gamma");
        check.probability("probability", self.probability)?;
        check.range("power", self.power, (0.01, 100.0))
    }
}

/// Applies one power to one channel.
fn bend(channel: &mut [f32], power: f32, invert: bool) {
    let before = Moments::of(channel);
    let range = before.high - before.low;
    // The distance from the end that the power leaves in place, which is the bright one of the negated image.
    let (end, sign) = if invert {
        (before.high, -1.0)
    } else {
        (before.low, 1.0)
    };
    let (to_unit, to_image) = (sign / range.max(SMALLEST), sign * range);
    vectorised(
        #[inline(always)]
        || {
            for v in channel.iter_mut() {
                *v = unit_power((*v - end) * to_unit, power) * to_image + end;
            }
        },
    );
    let after = Moments::of(channel);
    let scale = before.deviation / after.deviation.max(SMALLEST);
    vectorised(
        #[inline(always)]
        || {
            for v in channel {
                *v = (*v - after.mean) * scale + before.mean;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_stay_and_the_order_of_values_too() {
        for invert in [false, true] {
            let mut x: Vec<f32> = (0..60u8).map(f32::from).collect();
            let before = Moments::of(&x);
            bend(&mut x, 1.4, invert);
            let after = Moments::of(&x);
            assert!((before.mean - after.mean).abs() < 1e-3);
            assert!((before.deviation - after.deviation).abs() < 1e-3);
            assert!(x.is_sorted());
            // A power above one flattens the end it starts from.
            let (first, last) = (x[1] - x[0], x[59] - x[58]);
            assert_eq!(first < last, !invert);
        }
    }

    #[test]
    fn a_constant_stays() {
        let mut x = [5.0f32; 8];
        bend(&mut x, 0.7, false);
        assert!(x.iter().all(|v| (v - 5.0).abs() < 1e-5));
    }
}
