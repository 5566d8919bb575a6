use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::seeded::seeded;
use crate::{
    CicekUNet, CicekUNetConfig, ModelError, Padding, SegmentationModel, UNet, UNetConfig, VNet,
    VNetConfig,
};

/// Describes any of the networks; as JSON it is part of a trained model.
///
/// ```
/// use arl_models::{NetworkConfig, SegmentationModel, VNetConfig};
/// use burn::tensor::Device;
///
/// let config = NetworkConfig::VNet(VNetConfig::new(1, 2).with_features(4));
/// config.check_patch([16, 16, 32])?;
/// let network = config.init_seeded(&Device::flex(), 1)?;
/// assert_eq!(network.num_classes(), 2);
/// # Ok::<(), arl_models::ModelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "snake_case")]
pub enum NetworkConfig {
    /// nnU-Net's plain or residual-encoder U-Net.
    #[serde(rename = "unet")]
    UNet(UNetConfig),
    /// V-Net.
    #[serde(rename = "vnet")]
    VNet(VNetConfig),
    /// The first 3D U-Net.
    #[serde(rename = "cicek_unet")]
    CicekUNet(CicekUNetConfig),
}

impl NetworkConfig {
    /// Whether a network can be built from this description.
    ///
    /// # Errors
    /// Says which number does not work, and what would.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            Self::UNet(config) => config.validate(),
            Self::VNet(config) => config.validate(),
            Self::CicekUNet(config) => config.validate(),
        }
    }

    /// Whether the network gives logits of every voxel of images of `patch` voxels `[D, H, W]`, which is what training
    /// and the sliding window need.
    ///
    /// # Errors
    /// If a size does not fit the strides, or the network has valid convolutions.
    pub fn check_patch(&self, patch: [usize; 3]) -> Result<(), ModelError> {
        match self {
            Self::UNet(config) => config.check_patch(patch),
            Self::VNet(config) => config.check_patch(patch),
            Self::CicekUNet(config) if config.padding == Padding::Valid => {
                let logits = config.output_size(patch)?;
                Err(ModelError::SmallerLogits { patch, logits })
            }
            Self::CicekUNet(config) => config.check_patch(patch),
        }
    }

    /// Channels of the images, and classes of the logits.
    pub fn channels(&self) -> (usize, usize) {
        match self {
            Self::UNet(config) => (config.in_channels, config.num_classes),
            Self::VNet(config) => (config.in_channels, config.num_classes),
            Self::CicekUNet(config) => (config.in_channels, config.num_classes),
        }
    }

    /// Builds the network. Weights are drawn at first use; [`init_seeded`](Self::init_seeded) draws them now.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn try_init(&self, device: &Device) -> Result<Network, ModelError> {
        Ok(match self {
            Self::UNet(config) => Network::UNet(config.try_init(device)?),
            Self::VNet(config) => Network::VNet(config.try_init(device)?),
            Self::CicekUNet(config) => Network::CicekUNet(config.try_init(device)?),
        })
    }

    /// Builds the network and draws all its weights from `seed`, as [`UNetConfig::init_seeded`] does.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init_seeded(&self, device: &Device, seed: u64) -> Result<Network, ModelError> {
        Ok(seeded(self.try_init(device)?, device, seed))
    }
}

/// Any of the networks, made by [`NetworkConfig::try_init`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Network {
    /// nnU-Net's plain or residual-encoder U-Net.
    UNet(UNet),
    /// V-Net.
    VNet(VNet),
    /// The first 3D U-Net.
    CicekUNet(CicekUNet),
}

impl Network {
    /// The description that the network was made from.
    pub fn config(&self) -> NetworkConfig {
        match self {
            Self::UNet(network) => NetworkConfig::UNet(network.config().clone()),
            Self::VNet(network) => NetworkConfig::VNet(network.config().clone()),
            Self::CicekUNet(network) => NetworkConfig::CicekUNet(network.config().clone()),
        }
    }

    fn model(&self) -> &dyn SegmentationModel {
        match self {
            Self::UNet(network) => network,
            Self::VNet(network) => network,
            Self::CicekUNet(network) => network,
        }
    }
}

impl SegmentationModel for Network {
    fn forward(&self, images: Tensor<5>) -> Vec<Tensor<5>> {
        self.model().forward(images)
    }

    fn predict(&self, images: Tensor<5>) -> Tensor<5> {
        self.model().predict(images)
    }

    fn num_classes(&self) -> usize {
        self.model().num_classes()
    }

    fn patch_divisors(&self) -> [usize; 3] {
        self.model().patch_divisors()
    }
}
