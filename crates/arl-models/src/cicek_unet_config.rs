use burn::config::Config;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::checks::{check_count, check_divisors, check_extent};
use crate::seeded::seeded;
use crate::{CicekUNet, LayerConfig, ModelError};

/// Resolutions of the network.
pub(crate) const LEVELS: usize = 4;

/// What 3×3×3 convolutions do at the border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Zeros around: sizes stay, and logits are as large as the image.
    #[default]
    Same,
    /// None, as in the paper: each convolution takes a voxel off every side, and logits are smaller than the image by 44
    /// voxels on every side.
    Valid,
}

/// Describes a [`CicekUNet`]; as JSON it is part of a trained model.
///
/// The paper's setting is 3 channels, 3 classes, 32 features and [`Padding::Valid`]. It has the paper's 19,069,955
/// parameters, if like the paper one counts neither those of batch normalisation nor the biases of the transposed convolutions, which
/// no normalisation follows.
#[derive(Config, Debug, PartialEq)]
pub struct CicekUNetConfig {
    /// Channels of the images.
    pub in_channels: usize,
    /// Classes, background included.
    pub num_classes: usize,
    /// Channels of the very first convolution; the paper's 32.
    #[config(default = 32)]
    pub features: usize,
    /// What convolutions do at the border.
    #[config(default = "Padding::Same")]
    pub padding: Padding,
    /// What follows each convolution but the last, which makes the classes.
    #[config(default = "LayerConfig::cicek_unet()")]
    pub layers: LayerConfig,
}

impl CicekUNetConfig {
    /// Whether a network can be built from this description.
    ///
    /// # Errors
    /// Says which number does not work, and what would.
    pub fn validate(&self) -> Result<(), ModelError> {
        check_count("in_channels", self.in_channels)?;
        check_count("num_classes", self.num_classes)?;
        check_count("features", self.features)?;
        self.layers.validate([self.features])
    }

    /// `[D, H, W]`: of which each size of a patch must be a multiple, with padding. Without padding see
    /// [`check_patch`](Self::check_patch).
    pub fn patch_divisors(&self) -> [usize; 3] {
        [1 << (LEVELS - 1); 3]
    }

    /// Whether images of `patch` voxels `[D, H, W]` go through the network.
    ///
    /// # Errors
    /// With padding, if a size is not a multiple of 8. Without, if a size would be odd before it is pooled, or used up.
    pub fn check_patch(&self, patch: [usize; 3]) -> Result<(), ModelError> {
        self.validate()?;
        if self.padding == Padding::Same {
            let divisors = self.patch_divisors();
            check_divisors(patch, divisors)?;
            return self.layers.check_deepest(patch, divisors);
        }
        check_extent(patch)?;
        match (0..3).find(|&axis| valid_output(patch[axis]).is_none()) {
            Some(axis) => Err(ModelError::ValidPatchSize {
                patch,
                axis,
                below: (0..patch[axis])
                    .rev()
                    .find(|&size| valid_output(size).is_some()),
                above: (patch[axis]..)
                    .find(|&size| valid_output(size).is_some())
                    .unwrap_or(usize::MAX),
            }),
            None => Ok(()),
        }
    }

    /// Voxels of the logits `[D, H, W]` for images of `patch` voxels.
    ///
    /// # Errors
    /// As [`check_patch`](Self::check_patch).
    pub fn output_size(&self, patch: [usize; 3]) -> Result<[usize; 3], ModelError> {
        self.check_patch(patch)?;
        Ok(match self.padding {
            Padding::Same => patch,
            Padding::Valid => patch.map(|size| valid_output(size).unwrap_or(0)),
        })
    }

    /// Builds the network. Weights are drawn at first use; [`init_seeded`](Self::init_seeded) draws them now.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn try_init(&self, device: &Device) -> Result<CicekUNet, ModelError> {
        self.validate()?;
        Ok(CicekUNet::new(self.clone(), device))
    }

    /// Builds the network and draws all its weights from `seed`, as [`UNetConfig::init_seeded`] does.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    ///
    /// [`UNetConfig::init_seeded`]: crate::UNetConfig::init_seeded
    pub fn init_seeded(&self, device: &Device, seed: u64) -> Result<CicekUNet, ModelError> {
        Ok(seeded(self.try_init(device)?, device, seed))
    }
}

/// Voxels that are left of an axis of `size` voxels after all valid convolutions; `None` where one is odd before it is
/// pooled, or nothing is left.
fn valid_output(size: usize) -> Option<usize> {
    let mut size = size;
    for _ in 1..LEVELS {
        size = size.checked_sub(4).filter(|size| size.is_multiple_of(2))? / 2;
    }
    size = size.checked_sub(4)?;
    for _ in 1..LEVELS {
        size = (2 * size).checked_sub(4)?;
    }
    (size > 0).then_some(size)
}
