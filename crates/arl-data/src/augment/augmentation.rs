//! All that is done to a training patch.

use std::path::Path;

use ndarray::{Array3, Array4};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::error::Check;
use super::{AugmentError, IntensityTransform, PatchSource, Spatial};
use crate::{DataError, Result};

/// Random variation of training patches: first what they show, in one resampling, then their values, one transform after
/// the other.
///
/// ```
/// use arl_data::augment::{InMemory, Preset};
/// use ndarray::{Array3, Array4};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// # fn main() -> arl_data::Result<()> {
/// let (image, labels) = (Array4::zeros((1, 40, 40, 40)), Array3::ones((40, 40, 40)));
/// let case = InMemory { image: image.view(), labels: labels.view(), outside: 0 };
/// let augmentation = Preset::Nnunet.augmentation([32; 3], &[0, 1, 2]);
/// let mut rng = StdRng::seed_from_u64(7);
/// let (patch, labels) = augmentation.patch(&case, [4; 3], [32; 3], [1.0; 3], &mut rng)?;
/// assert_eq!((patch.dim(), labels.dim()), ((1, 32, 32, 32), (32, 32, 32)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// What the patches show.
    pub spatial: Spatial,
    /// What becomes of their values, in this order.
    pub intensity: Vec<IntensityTransform>,
}

impl Augmentation {
    /// Reads a JSON file such as
    /// `{"spatial": {"rotation": {"max_degrees": [0, 0, 15]}, "mirror": {"axes": [2]}}, "intensity": [{"noise": {}}]}`:
    /// a transform that isn't named isn't done, and a parameter that isn't given has its default.
    ///
    /// # Errors
    /// When the file can't be read or understood, or a parameter is out of its bounds.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
        let cure = "correct it; a run's config.json holds an example under \"augment\"";
        let augmentation: Augmentation = serde_json::from_str(&text)
            .map_err(|error| DataError::invalid(path, error.to_string(), cure))?;
        augmentation
            .validate()
            .map_err(|error| DataError::invalid(path, error.to_string(), cure))?;
        Ok(augmentation)
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> std::result::Result<(), AugmentError> {
        self.spatial.validate()?;
        self.intensity
            .iter()
            .try_for_each(IntensityTransform::validate)
    }

    /// Checks the parameters, also those that depend on the patches: `size` in voxels, `spacing` in mm.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate_for(
        &self,
        size: [usize; 3],
        spacing: [f64; 3],
    ) -> std::result::Result<(), AugmentError> {
        self.validate()?;
        match &self.spatial.elastic {
            Some(elastic) => elastic.validate_for(size, spacing),
            None => Ok(()),
        }
    }

    /// Checks that images of so many channels have those that transforms name.
    ///
    /// # Errors
    /// The first that they have not.
    pub fn validate_channels(&self, channels: usize) -> std::result::Result<(), AugmentError> {
        let mut named = self
            .intensity
            .iter()
            .flat_map(IntensityTransform::named_channels);
        match named.find(|&&channel| channel >= channels) {
            None => Ok(()),
            Some(channel) => {
                let bounds = format!("below {channels}, the number of channels of the images");
                Check("intensity").that(false, "channel", channel, bounds)
            }
        }
    }

    /// Reads the patch of `size` voxels that begins at `start`, varied: image `[C, D, H, W]` and labels `[D, H, W]`.
    ///
    /// `spacing` is the source's, in mm. The same state of the generator gives the same patch.
    ///
    /// # Errors
    /// Those of the source.
    pub fn patch(
        &self,
        source: &(impl PatchSource + ?Sized),
        start: [i64; 3],
        size: [usize; 3],
        spacing: [f64; 3],
        rng: &mut impl Rng,
    ) -> Result<(Array4<f32>, Array3<u16>)> {
        let map = self.spatial.draw(size, spacing, rng);
        let (mut image, labels) = map.read(source, start)?;
        for transform in &self.intensity {
            transform.apply(&mut image, rng);
        }
        Ok((image, labels))
    }
}
