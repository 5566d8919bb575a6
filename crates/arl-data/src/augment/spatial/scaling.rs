//! Scaling.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};

/// Random scaling about the centre of the patch, by one factor along all of its axes.
///
/// ```
/// use arl_data::augment::Scaling;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let farther = Scaling { probability: 1.0, factor: (1.4, 1.4), axes: vec![1, 2] };
/// let factors = farther.draw(&mut StdRng::seed_from_u64(0)).unwrap();
/// assert!(factors[0] == 1.0 && (factors[1] - 1.4).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scaling {
    /// How often a patch is scaled.
    pub probability: f64,
    /// Range of the factor on the extent that the patch shows: above 1, more is seen and organs are smaller.
    pub factor: (f32, f32),
    /// The axes that are scaled: 0 depth, 1 height, 2 width.
    pub axes: Vec<usize>,
}

impl Default for Scaling {
    /// nnU-Net's values.
    fn default() -> Self {
        Scaling {
            probability: 0.2,
            factor: (0.7, 1.4),
            axes: vec![0, 1, 2],
        }
    }
}

impl Scaling {
    /// nnU-Net's values for patches that are thin along `axis` ("dummy 2D"): along the others.
    pub fn across(axis: usize) -> Self {
        Scaling {
            axes: (0..3).filter(|&other| other != axis).collect(),
            ..Scaling::default()
        }
    }

    /// The factors along `[D, H, W]` of the next patch, if it is to be scaled.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<[f64; 3]> {
        if !happens(self.probability, rng) {
            return None;
        }
        let factor = f64::from(uniform(self.factor, rng));
        Some([0, 1, 2].map(|axis| {
            if self.axes.contains(&axis) {
                factor
            } else {
                1.0
            }
        }))
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("scaling");
        check.probability("probability", self.probability)?;
        // A patch of twice the extent reads eight times the voxels.
        check.range("factor", self.factor, (0.1, 2.0))?;
        check.axes("axes", &self.axes)
    }
}
