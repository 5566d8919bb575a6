use std::fmt::Display;

use burn::config::Config;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::checks::{LARGEST_KERNEL, check_count, check_divisors, check_most};
use crate::seeded::seeded;
use crate::{LayerConfig, ModelError, UNet};

/// One resolution level of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageConfig {
    /// Number of feature channels.
    pub features: usize,
    /// Convolution kernel `[D, H, W]` in voxels; odd sizes, at most 127.
    pub kernel: [usize; 3],
    /// By how much this stage is coarser than the one before, `[D, H, W]`. Ones for the first stage.
    pub stride: [usize; 3],
}

impl StageConfig {
    /// A stage of `features` channels.
    pub fn new(features: usize, kernel: [usize; 3], stride: [usize; 3]) -> Self {
        Self {
            features,
            kernel,
            stride,
        }
    }
}

/// Describes a [`UNet`]; as JSON it is part of a trained model.
#[derive(Config, Debug, PartialEq)]
pub struct UNetConfig {
    /// Channels of the images.
    pub in_channels: usize,
    /// Classes, background included.
    pub num_classes: usize,
    /// Resolution levels, finest first; at least two.
    pub stages: Vec<StageConfig>,
    /// Stride `[D, H, W]` of the very first convolution. Above 1 the whole network works at a coarser
    /// resolution, for a fraction of the time and memory; the finest logits still have full resolution.
    #[config(default = "[1, 1, 1]")]
    pub stem_stride: [usize; 3],
    /// Whether every decoder level has a head, or only the finest.
    #[config(default = true)]
    pub deep_supervision: bool,
    /// Convolutions in each stage on the way down; without meaning for a residual encoder.
    #[config(default = 2)]
    pub convolutions_per_encoder_stage: usize,
    /// Makes a residual encoder, with so many residual blocks in each stage, behind a single convolution that keeps the
    /// resolution but for [`stem_stride`](Self::stem_stride) (nnU-Net's `ResidualEncoderUNet`, whose presets have 1, 3,
    /// 4, 6, 6, 6, … blocks and one convolution per decoder stage).
    pub residual_blocks: Option<Vec<usize>>,
    /// Convolutions in each stage on the way up.
    #[config(default = 2)]
    pub convolutions_per_decoder_stage: usize,
    /// What follows each convolution but the heads.
    #[config(default = "LayerConfig::nnunet()")]
    pub layers: LayerConfig,
}

impl UNetConfig {
    /// Whether a network can be built from this description.
    ///
    /// # Errors
    /// Says which number does not work, and what would.
    pub fn validate(&self) -> Result<(), ModelError> {
        check_count("in_channels", self.in_channels)?;
        check_count("num_classes", self.num_classes)?;
        let (down, up) = (
            self.convolutions_per_encoder_stage,
            self.convolutions_per_decoder_stage,
        );
        check_count("convolutions_per_encoder_stage", down)?;
        check_count("convolutions_per_decoder_stage", up)?;
        check_counts("stem_stride", &self.stem_stride)?;
        if self.stages.len() < 2 {
            let stages = self.stages.len();
            return Err(ModelError::TooFewStages { stages });
        }
        for (i, stage) in self.stages.iter().enumerate() {
            self.validate_stage(i, stage)?;
        }
        check_counts("the product of all strides", &self.patch_divisors())?;
        let features = self.stages.iter().map(|stage| stage.features);
        self.layers.validate(features)?;
        if let Some(blocks) = &self.residual_blocks {
            if blocks.len() != self.stages.len() {
                return Err(ModelError::ResidualBlocks {
                    given: blocks.len(),
                    stages: self.stages.len(),
                });
            }
            check_counts("residual blocks of a stage", blocks)?;
        }
        Ok(())
    }

    fn validate_stage(&self, i: usize, stage: &StageConfig) -> Result<(), ModelError> {
        let kernel = stage.kernel;
        check_count(format_args!("features of stage {i}"), stage.features)?;
        check_counts(format_args!("stride of stage {i}"), &stage.stride)?;
        for size in kernel {
            check_most(format_args!("kernel of stage {i}"), size, LARGEST_KERNEL)?;
        }
        if let Some(axis) = kernel.iter().position(|size| size.is_multiple_of(2)) {
            return Err(ModelError::EvenKernel {
                stage: i,
                kernel,
                axis,
            });
        }
        if i == 0 && stage.stride != [1; 3] {
            return Err(ModelError::FirstStride {
                stride: stage.stride,
            });
        }
        let (what, stride) = match i {
            0 => ("stem".into(), self.stem_stride),
            _ => (format!("stage {i}"), stage.stride),
        };
        match (0..3).find(|&axis| kernel[axis] < stride[axis]) {
            Some(axis) => Err(ModelError::SkippedVoxels {
                what,
                stride,
                kernel,
                axis,
            }),
            None => Ok(()),
        }
    }

    /// `[D, H, W]`: the product of all strides, of which each size of a patch must be a multiple.
    pub fn patch_divisors(&self) -> [usize; 3] {
        let stages = self.stages.iter().map(|stage| stage.stride);
        stages.fold(self.stem_stride, |product, stride| {
            std::array::from_fn(|axis| product[axis].saturating_mul(stride[axis]))
        })
    }

    /// Whether images of `patch` voxels `[D, H, W]` go through the network.
    ///
    /// # Errors
    /// If a size is not a multiple of [`patch_divisors`](Self::patch_divisors), or if the deepest stage would
    /// be left with a single voxel that instance normalisation would turn into a constant.
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
    pub fn try_init(&self, device: &Device) -> Result<UNet, ModelError> {
        self.validate()?;
        Ok(UNet::new(self.clone(), device))
    }

    /// Builds the network and draws all its weights from `seed`: the same seed on the same kind of device
    /// gives the same weights, as long as no other thread draws tensors of random numbers meanwhile.
    /// Seeds the device, whose random numbers go on from there.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init_seeded(&self, device: &Device, seed: u64) -> Result<UNet, ModelError> {
        Ok(seeded(self.try_init(device)?, device, seed))
    }
}

/// [`check_count`] of several.
fn check_counts(what: impl Display + Copy, values: &[usize]) -> Result<(), ModelError> {
    (values.iter()).try_for_each(|&value| check_count(what, value))
}
