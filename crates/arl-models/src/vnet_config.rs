use burn::config::Config;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::checks::{check_count, check_divisors};
use crate::seeded::seeded;
use crate::{LayerConfig, ModelError, VNet};

/// Resolutions of a V-Net.
pub(crate) const LEVELS: usize = 5;

/// Which of the two published V-Nets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VNetVariant {
    /// The paper's figure 2: 1, 2, 3, 3, 3 convolutions down and 3, 3, 2, 1 up, then 1×1×1 to the classes. These are the
    /// ones that give the receptive fields of the paper's table 1. 65,175,314 parameters with one channel and two
    /// classes.
    #[default]
    Paper,
    /// The authors' Caffe network (`train_noPooling_ResNet_cinque.prototxt`): 1, 1, 2, 3, 3 down and 3, 2, 1, 1 up, then
    /// 5×5×5 to the classes, PReLU and 1×1×1. 61,982,682 parameters with one channel and two classes.
    Prototxt,
}

impl VNetVariant {
    /// Convolutions of each stage on the way down, finest first.
    pub(crate) fn down(self) -> [usize; LEVELS] {
        match self {
            Self::Paper => [1, 2, 3, 3, 3],
            Self::Prototxt => [1, 1, 2, 3, 3],
        }
    }

    /// Convolutions of each stage on the way up, finest first.
    pub(crate) fn up(self) -> [usize; LEVELS - 1] {
        match self {
            Self::Paper => [1, 2, 3, 3],
            Self::Prototxt => [1, 1, 2, 3],
        }
    }
}

/// Describes a [`VNet`]; as JSON it is part of a trained model.
#[derive(Config, Debug, PartialEq)]
pub struct VNetConfig {
    /// Channels of the images; they must divide [`features`](Self::features).
    pub in_channels: usize,
    /// Classes, background included.
    pub num_classes: usize,
    /// Which of the published networks.
    #[config(default = "VNetVariant::Paper")]
    pub variant: VNetVariant,
    /// Channels of the finest level; each coarser one has twice as many. The published networks have 16.
    #[config(default = 16)]
    pub features: usize,
    /// What follows each convolution but the last ones, which make the classes.
    #[config(default = "LayerConfig::vnet()")]
    pub layers: LayerConfig,
}

impl VNetConfig {
    /// Whether a network can be built from this description.
    ///
    /// # Errors
    /// Says which number does not work, and what would.
    pub fn validate(&self) -> Result<(), ModelError> {
        check_count("in_channels", self.in_channels)?;
        check_count("num_classes", self.num_classes)?;
        check_count("features", self.features)?;
        if !self.features.is_multiple_of(self.in_channels) {
            return Err(ModelError::RepeatedChannels {
                channels: self.in_channels,
                features: self.features,
            });
        }
        self.layers.validate([self.features])
    }

    /// `[D, H, W]`: of which each size of a patch must be a multiple.
    pub fn patch_divisors(&self) -> [usize; 3] {
        [1 << (LEVELS - 1); 3]
    }

    /// Whether images of `patch` voxels `[D, H, W]` go through the network.
    ///
    /// # Errors
    /// If a size is not a multiple of 16, or 16³ voxels are too few for instance normalisation.
    pub fn check_patch(&self, patch: [usize; 3]) -> Result<(), ModelError> {
        self.validate()?;
        let divisors = self.patch_divisors();
        check_divisors(patch, divisors)?;
        self.layers.check_deepest(patch, divisors)
    }

    /// Builds the network. Weights are drawn at first use; [`init_seeded`](Self::init_seeded) draws them now.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn try_init(&self, device: &Device) -> Result<VNet, ModelError> {
        self.validate()?;
        Ok(VNet::new(self.clone(), device))
    }

    /// Builds the network and draws all its weights from `seed`, as [`UNetConfig::init_seeded`] does.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    ///
    /// [`UNetConfig::init_seeded`]: crate::UNetConfig::init_seeded
    pub fn init_seeded(&self, device: &Device, seed: u64) -> Result<VNet, ModelError> {
        Ok(seeded(self.try_init(device)?, device, seed))
    }
}
