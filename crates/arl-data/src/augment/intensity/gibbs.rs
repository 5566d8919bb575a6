//! Ringing at edges.

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::channels;
use super::frequency::filter;
use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};

/// Cuts off the highest spatial frequencies along some axes, as a scanner does that does not measure them: edges ring.
///
/// The measured frequencies form a box, one share of each axis; MONAI's `GibbsNoise` keeps a ball of them instead.
///
/// ```
/// use arl_data::augment::Gibbs;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::from_shape_fn((1, 1, 1, 32), |(_, _, _, w)| if w < 16 { 0.0 } else { 1.0f32 });
/// let ringing = Gibbs { probability: 1.0, kept: (0.5, 0.5), axes: vec![2] };
/// ringing.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert!(image.iter().any(|v| *v > 1.05), "it overshoots beside the edge");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gibbs {
    /// How often a patch is changed.
    pub probability: f64,
    /// Range of the share of the frequencies that is kept along each axis, drawn per channel.
    pub kept: (f32, f32),
    /// The axes whose frequencies are cut: 0 depth, 1 height, 2 width.
    pub axes: Vec<usize>,
}

impl Default for Gibbs {
    /// At least half of the frequencies of all axes, in one patch of ten.
    fn default() -> Self {
        Gibbs {
            probability: 0.1,
            kept: (0.5, 1.0),
            axes: vec![0, 1, 2],
        }
    }
}

impl Gibbs {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !happens(self.probability, rng) {
            return;
        }
        let (channels, shape) = channels(image);
        for channel in channels {
            let kept = uniform(self.kept, rng);
            for &axis in &self.axes {
                let highest = kept * shape[axis] as f32 / 2.0;
                filter(channel, shape, axis, |cycles| {
                    if cycles as f32 <= highest { 1.0 } else { 0.0 }
                });
            }
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("gibbs");
        check.probability("probability", self.probability)?;
        check.range("kept", self.kept, (0.0, 1.0))?;
        check.axes("axes", &self.axes)
    }
}
