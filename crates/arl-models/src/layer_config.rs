use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ModelError;

/// What rescales the features behind a convolution; each with a scale and an offset per channel that are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// Nothing.
    None,
    /// Mean and variance of each channel of each image (Ulyanov et al. 2016).
    Instance,
    /// Mean and variance of each channel over the batch in training, those gathered meanwhile in prediction (Ioffe &
    /// Szegedy, ICML 2015).
    Batch,
    /// Mean and variance of each group of channels of each image (Wu & He, ECCV 2018).
    Group {
        /// Groups into which the channels of every convolution are divided.
        groups: usize,
    },
}

/// What makes the network more than one linear map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Zero below zero.
    Relu,
    /// Multiplied below zero.
    LeakyRelu {
        /// By this factor, at least 0 and below 1.
        slope: f64,
    },
    /// Multiplied below zero by a factor per channel that is learned and begins at 0.25 (He et al., ICCV 2015).
    #[serde(rename = "prelu")]
    PRelu,
}

/// What follows each convolution of a network: dropout, normalisation and activation, in this order, which is nnU-Net's
/// (`ConvDropoutNormReLU`).
///
/// ```
/// use arl_models::{Activation, LayerConfig, Normalization};
///
/// let layers = LayerConfig {
///     normalization: "group:8".parse()?,
///     dropout: 0.2,
///     ..LayerConfig::nnunet()
/// };
/// assert_eq!(layers.normalization, Normalization::Group { groups: 8 });
/// assert_eq!(layers.activation, Activation::LeakyRelu { slope: 0.01 });
/// # Ok::<(), arl_models::ModelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerConfig {
    /// What rescales the features.
    pub normalization: Normalization,
    /// What is applied to the rescaled features.
    pub activation: Activation,
    /// Probability of a channel of an image to be set to 0 in training, the others being scaled up in turn; at least 0 and
    /// below 1. Whole channels, because neighbouring voxels say much the same (Tompson et al., CVPR 2015).
    pub dropout: f64,
}

impl LayerConfig {
    /// nnU-Net's: instance normalisation, leaky ReLU of slope 0.01.
    pub const fn nnunet() -> Self {
        Self {
            normalization: Normalization::Instance,
            activation: Activation::LeakyRelu { slope: 0.01 },
            dropout: 0.0,
        }
    }

    /// V-Net's: PReLU alone.
    pub const fn vnet() -> Self {
        Self {
            normalization: Normalization::None,
            activation: Activation::PRelu,
            dropout: 0.0,
        }
    }

    /// The first 3D U-Net's: batch normalisation, ReLU.
    pub const fn cicek_unet() -> Self {
        Self {
            normalization: Normalization::Batch,
            activation: Activation::Relu,
            dropout: 0.0,
        }
    }

    /// Whether convolutions of so many channels can have these layers behind them.
    ///
    /// # Errors
    /// Says which number does not work, and what would.
    pub fn validate(&self, channels: impl IntoIterator<Item = usize>) -> Result<(), ModelError> {
        if let Normalization::Group { groups } = self.normalization {
            let uneven = |channels: &usize| groups == 0 || !channels.is_multiple_of(groups);
            if let Some(channels) = channels.into_iter().find(uneven) {
                return Err(ModelError::Groups { groups, channels });
            }
        }
        if let Activation::LeakyRelu { slope } = self.activation
            && !(0.0..1.0).contains(&slope)
        {
            return Err(ModelError::Share {
                what: "the slope of the leaky ReLU",
                value: slope,
            });
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ModelError::Share {
                what: "dropout",
                value: self.dropout,
            });
        }
        Ok(())
    }

    /// Whether the deepest stage of a network, where a patch `[D, H, W]` has shrunk by `divisors`, has voxels enough.
    pub(crate) fn check_deepest(
        &self,
        patch: [usize; 3],
        divisors: [usize; 3],
    ) -> Result<(), ModelError> {
        // The only voxel is its own mean.
        match self.normalization == Normalization::Instance && patch == divisors {
            true => Err(ModelError::PatchTooSmall { patch, divisors }),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Instance => f.write_str("instance"),
            Self::Batch => f.write_str("batch"),
            Self::Group { groups } => write!(f, "group:{groups}"),
        }
    }
}

impl FromStr for Normalization {
    type Err = ModelError;

    /// Reads `none`, `instance`, `batch` or `group:8`.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let groups = |text: &str| text.strip_prefix("group:")?.parse().ok();
        Ok(match text {
            "none" => Self::None,
            "instance" => Self::Instance,
            "batch" => Self::Batch,
            _ => Self::Group {
                groups: groups(text).ok_or_else(|| ModelError::Unknown {
                    what: "normalization",
                    text: text.into(),
                    known: "none, instance, batch, or group:8 for 8 groups",
                })?,
            },
        })
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relu => f.write_str("relu"),
            Self::LeakyRelu { slope } => write!(f, "leaky-relu:{slope}"),
            Self::PRelu => f.write_str("prelu"),
        }
    }
}

impl FromStr for Activation {
    type Err = ModelError;

    /// Reads `relu`, `prelu`, `leaky-relu` (of slope 0.01) or `leaky-relu:0.1`.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let slope = |text: &str| text.strip_prefix("leaky-relu:")?.parse().ok();
        Ok(match text {
            "relu" => Self::Relu,
            "prelu" => Self::PRelu,
            "leaky-relu" => LayerConfig::nnunet().activation,
            _ => Self::LeakyRelu {
                slope: slope(text).ok_or_else(|| ModelError::Unknown {
                    what: "activation",
                    text: text.into(),
                    known: "relu, prelu, leaky-relu, or leaky-relu:0.1 for a slope of 0.1",
                })?,
            },
        })
    }
}
