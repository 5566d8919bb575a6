//! Ghosts of periodic motion in magnetic resonance images.

use ndarray::Array4;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::channels::channels;
use super::frequency::filter;
use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};

/// Weakens every n-th spatial frequency along a random axis, which adds n faint copies of the image, shifted along it.
///
/// As TorchIO's `Ghosting`, with the centre of the frequencies left in place.
///
/// ```
/// use arl_data::augment::Ghosting;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::<f32>::zeros((1, 1, 1, 32));
/// image[[0, 0, 0, 3]] = 1.0;
/// let ghosts = Ghosting { probability: 1.0, ghosts: (4, 4), axes: vec![2], ..Default::default() };
/// ghosts.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert!(image[[0, 0, 0, 11]].abs() > 0.05, "a ghost a quarter of the axis further");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ghosting {
    /// How often a patch is changed.
    pub probability: f64,
    /// Least and largest number of ghosts.
    pub ghosts: (usize, usize),
    /// Range of the share that the frequencies lose.
    pub intensity: (f32, f32),
    /// The axes along which ghosts may lie: 0 depth, 1 height, 2 width.
    pub axes: Vec<usize>,
    /// Frequencies up to this share of the highest one are left alone; the mean always is.
    pub restored: f32,
}

impl Default for Ghosting {
    /// TorchIO's values, in one patch of ten.
    fn default() -> Self {
        Ghosting {
            probability: 0.1,
            ghosts: (4, 10),
            intensity: (0.5, 1.0),
            axes: vec![0, 1, 2],
            restored: 0.02,
        }
    }
}

impl Ghosting {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if self.axes.is_empty() || !happens(self.probability, rng) {
            return;
        }
        let axis = self.axes[rng.random_range(0..self.axes.len())];
        let (least, most) = self.ghosts;
        let ghosts = least + rng.random_range(0..=most.saturating_sub(least));
        let kept = 1.0 - uniform(self.intensity, rng);
        let (channels, shape) = channels(image);
        let restored = self.restored * shape[axis] as f32 / 2.0;
        for channel in channels {
            filter(channel, shape, axis, |cycles| {
                let weakened =
                    cycles > 0 && cycles as f32 > restored && cycles % ghosts.max(1) == 0;
                if weakened { kept } else { 1.0 }
            });
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("ghosting");
        check.probability("probability", self.probability)?;
        let (least, most) = self.ghosts;
        let bounds = "two numbers in rising order from 1 to 100";
        check.that(
            1 <= least && least <= most && most <= 100,
            "ghosts",
            self.ghosts,
            bounds,
        )?;
        check.range("intensity", self.intensity, (0.0, 1.0))?;
        check.axes("axes", &self.axes)?;
        check.within("restored", self.restored, (0.0, 1.0))
    }
}
