//! The smooth shading of magnetic resonance images.

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::channels;
use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};
use crate::augment::math::{exp, vectorised};

/// Multiplies all channels by the exponential of a random polynomial of the position.
///
/// The position runs from -1 to 1 along each axis of the patch, and the polynomial has every term of at most this order,
/// without the constant one (Van Leemput et al. 1999; TorchIO's `BiasField` has the constant term too). It multiplies the
/// values as they are: after z-score normalisation it acts on the distance to the mean.
///
/// ```
/// use arl_data::augment::BiasField;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::<f32>::ones((1, 9, 9, 9));
/// let shading = BiasField { probability: 1.0, ..Default::default() };
/// shading.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert!((image[[0, 4, 4, 4]] - 1.0).abs() < 1e-6 && image[[0, 0, 0, 0]] != 1.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BiasField {
    /// How often a patch is changed.
    pub probability: f64,
    /// Highest sum of the powers of a term, 1 to 5.
    pub order: usize,
    /// Range of the coefficients.
    pub coefficient: (f32, f32),
}

impl Default for BiasField {
    /// TorchIO's order and coefficients, in one patch of ten.
    fn default() -> Self {
        BiasField {
            probability: 0.1,
            order: 3,
            coefficient: (-0.5, 0.5),
        }
    }
}

impl BiasField {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !happens(self.probability, rng) {
            return;
        }
        let mut terms = Vec::new();
        for d in 0..=self.order {
            for h in 0..=self.order - d {
                for w in 0..=self.order - d - h {
                    if d + h + w > 0 {
                        terms.push(([d, h, w], uniform(self.coefficient, rng)));
                    }
                }
            }
        }
        let (channels, shape) = channels(image);
        for channel in channels {
            shade(channel, shape, &terms, self.order);
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("bias_field");
        check.probability("probability", self.probability)?;
        check.that(
            (1..=5).contains(&self.order),
            "order",
            self.order,
            "from 1 to 5",
        )?;
        check.range("coefficient", self.coefficient, (-10.0, 10.0))
    }
}

/// Multiplies by the exponential of the polynomial with these powers and coefficients.
fn shade(volume: &mut [f32], shape: [usize; 3], terms: &[([usize; 3], f32)], order: usize) {
    let [_, height, width] = shape;
    let at = |i: usize, n: usize| {
        if n > 1 {
            2.0 * i as f32 / (n - 1) as f32 - 1.0
        } else {
            0.0
        }
    };
    let columns: Vec<f32> = (0..width).map(|w| at(w, width)).collect();
    let mut exponents = vec![0.0; width];
    for (row, values) in volume.chunks_exact_mut(width.max(1)).enumerate() {
        let (d, h) = (at(row / height, shape[0]), at(row % height, height));
        // Along a row it is a polynomial of one variable.
        let mut powers = vec![0.0; order + 1];
        for ([i, j, k], coefficient) in terms {
            powers[*k] += coefficient * d.powi(*i as i32) * h.powi(*j as i32);
        }
        vectorised(
            #[inline(always)]
            || {
                exponents.fill(0.0);
                for power in powers.iter().rev() {
                    for (exponent, w) in exponents.iter_mut().zip(&columns) {
                        *exponent = *exponent * w + power;
                    }
                }
                for (value, exponent) in values.iter_mut().zip(&exponents) {
                    *value *= exp(*exponent);
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_evaluated_at_every_voxel() {
        let shape = [3, 4, 5];
        let mut volume = vec![2.0f32; 60];
        let terms = [
            ([1, 0, 0], 0.3),
            ([0, 2, 1], -0.4),
            ([0, 0, 3], 0.2),
            ([1, 1, 1], 0.1),
        ];
        shade(&mut volume, shape, &terms, 3);
        for (i, actual) in volume.iter().enumerate() {
            let at = |i: usize, n: usize| 2.0 * i as f32 / (n - 1) as f32 - 1.0;
            let (d, h, w) = (at(i / 20, 3), at(i / 5 % 4, 4), at(i % 5, 5));
            let exponent = 0.3 * d - 0.4 * h * h * w + 0.2 * w * w * w + 0.1 * d * h * w;
            assert!((actual - 2.0 * exponent.exp()).abs() < 2e-6, "{i}");
        }
    }
}
