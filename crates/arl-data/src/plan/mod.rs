//! The plan: every decision about a training that follows from the data, as JSON that a person can edit.
//!
//! The rules are nnU-Net v2's (Isensee et al., Nature Methods 2021; `default_experiment_planner.py`,
//! `network_topology.py`, `residual_encoder_unet_planners.py`), for its plain network and its residual encoders M, L and
//! XL, with its estimate of the memory that a training takes. [`Preset::Cpu`] follows the same rules but for the budget:
//! there the patch is shrunk until it has few enough voxels.
//!
//! A plan as JSON, each field as [`Plan`] describes it. All triples are `[D, H, W]`. A field that is unknown, missing or
//! at odds with another is refused by [`Plan::load`]:
//!
//! ```
//! # let text = r#"
//! {
//!   "version": 2,
//!   "dataset": "Dataset005_Prostate",
//!   "channel_names": ["T2"],
//!   "classes": [
//!     {"name": "background", "value": 0},
//!     {"name": "prostate", "value": 1}
//!   ],
//!   "ignore_label": null,
//!   "target_spacing": [3.6, 0.625, 0.625],
//!   "median_shape": [20, 320, 319],
//!   "normalization": [{"scheme": "z_score"}],
//!   "use_mask_for_norm": false,
//!   "patch_size": [20, 320, 256],
//!   "batch_size": 2,
//!   "architecture": "plain",
//!   "stem_stride": [1, 1, 1],
//!   "stages": [
//!     {"features": 32, "kernel": [1, 3, 3], "stride": [1, 1, 1], "blocks": 2},
//!     {"features": 64, "kernel": [1, 3, 3], "stride": [1, 2, 2], "blocks": 2},
//!     {"features": 128, "kernel": [3, 3, 3], "stride": [1, 2, 2], "blocks": 2},
//!     {"features": 256, "kernel": [3, 3, 3], "stride": [2, 2, 2], "blocks": 2},
//!     {"features": 320, "kernel": [3, 3, 3], "stride": [2, 2, 2], "blocks": 2},
//!     {"features": 320, "kernel": [3, 3, 3], "stride": [1, 2, 2], "blocks": 2},
//!     {"features": 320, "kernel": [3, 3, 3], "stride": [1, 2, 2], "blocks": 2}
//!   ],
//!   "decoder_convolutions": 2,
//!   "mirror_axes": [2],
//!   "orientation": "RAS",
//!   "foreground_fraction": 0.33,
//!   "low_resolution": null,
//!   "reasons": ["For whoever reads this plan."]
//! }
//! # "#;
//! # use arl_data::plan::Plan;
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("plan.json");
//! # std::fs::write(&file, text).unwrap();
//! let plan = Plan::load(&file)?;
//! assert_eq!(plan.patch_divisors(), [4, 64, 64]);
//!
//! std::fs::write(&file, text.replace("\"batch_size\"", "\"bach_size\"")).unwrap();
//! assert!(Plan::load(&file).unwrap_err().to_string().contains("unknown field `bach_size`"));
//! # Ok::<(), arl_data::DataError>(())
//! ```

mod configuration;
mod low_resolution;
mod memory;
mod mirror;
mod normalization;
mod options;
mod planner;
mod spacing;
#[cfg(test)]
mod tests;
mod topology;
mod validate;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::{LabelClass, Region};
use crate::error::{DataError, Result};
pub use normalization::ChannelNormalization;
pub use options::{PlanOptions, Preset};

/// The version of the plan's format that this crate writes and reads.
pub const PLAN_VERSION: u32 = 2;

/// Every decision about a training that follows from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this format.
    pub version: u32,
    /// Name of the dataset.
    pub dataset: String,
    /// Channel names, in order.
    pub channel_names: Vec<String>,
    /// Classes sorted by value, background first.
    pub classes: Vec<LabelClass>,
    /// What is learned instead of the classes, in the order of painting; empty where each voxel is of one class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// Voxels with this label count nowhere.
    pub ignore_label: Option<u16>,
    /// Spacing to which everything is resampled, in mm, `[D, H, W]`.
    pub target_spacing: [f64; 3],
    /// Median size of the cropped cases at that spacing, in voxels, `[D, H, W]`.
    pub median_shape: [usize; 3],
    /// How each channel is normalised.
    pub normalization: Vec<ChannelNormalization>,
    /// Whether channels with [`ChannelNormalization::ZScore`] take their statistics from the voxels that are not zero in
    /// some channel (holes filled), and are 0 elsewhere. False when absent.
    #[serde(default)]
    pub use_mask_for_norm: bool,
    /// Size of a training patch in voxels, `[D, H, W]`.
    pub patch_size: [usize; 3],
    /// Patches per step.
    pub batch_size: usize,
    /// The kind of network.
    pub architecture: Architecture,
    /// Stride of the network's first convolution, `[D, H, W]`; above 1 the whole network works at a coarser resolution.
    pub stem_stride: [usize; 3],
    /// The network's stages, finest first.
    pub stages: Vec<StagePlan>,
    /// Convolutions in each stage of the decoder.
    pub decoder_convolutions: usize,
    /// Axes (0 = D, 1 = H, 2 = W) along which patches are mirrored at random.
    pub mirror_axes: Vec<usize>,
    /// How the axes `i, j, k` of all training cases run (`RAS`; see [`axis_codes`](crate::orientation::axis_codes)). Images to
    /// be predicted are turned that way, and their labels back. Absent where the cases differ: nothing is turned then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<String>,
    /// Share of the patches that are centred on a foreground voxel, 0 to 1.
    pub foreground_fraction: f64,
    /// A coarser training that is worth having beside this one; see [`Plan::at_low_resolution`].
    pub low_resolution: Option<LowResolution>,
    /// Why each decision was taken, a sentence each.
    pub reasons: Vec<String>,
}

/// The kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// A U-Net of plain convolutions: a stage's `blocks` are its convolutions.
    Plain,
    /// A U-Net whose encoder has residual blocks of two convolutions (nnU-Net's `BasicBlockD`), after a stem of one
    /// convolution: a stage's `blocks` are those.
    ResidualEncoder,
}

/// One resolution of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// Channels.
    pub features: usize,
    /// Kernel of its convolutions in voxels of this stage, `[D, H, W]`; odd.
    pub kernel: [usize; 3],
    /// Stride of its first convolution, against the stage before, `[D, H, W]`.
    pub stride: [usize; 3],
    /// Blocks of the encoder; see [`Architecture`].
    pub blocks: usize,
}

/// What differs in a training at a coarser spacing: the fields of [`Plan`] with the same names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowResolution {
    /// Spacing to which everything is resampled, in mm, `[D, H, W]`.
    pub target_spacing: [f64; 3],
    /// Median size of the cropped cases at that spacing, in voxels, `[D, H, W]`.
    pub median_shape: [usize; 3],
    /// Size of a training patch in voxels, `[D, H, W]`.
    pub patch_size: [usize; 3],
    /// Patches per step.
    pub batch_size: usize,
    /// Stride of the network's first convolution, `[D, H, W]`.
    pub stem_stride: [usize; 3],
    /// The network's stages, finest first.
    pub stages: Vec<StagePlan>,
}

impl Plan {
    /// Reads a plan and validates it.
    ///
    /// # Errors
    /// When the file is missing, isn't a plan, is of another version, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self> {
        /// Other versions have other fields, so the version is looked at first.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let wrong = |problem: String| DataError::invalid(path, problem, "mend it or delete it");
        let not_a_plan = |error: serde_json::Error| wrong(format!("is not a plan ({error})"));
        let text = std::fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
        let Versioned { version } = serde_json::from_str(&text).map_err(not_a_plan)?;
        validate::version(version).map_err(wrong)?;
        let plan: Self = serde_json::from_str(&text).map_err(not_a_plan)?;
        plan.validate().map_err(wrong)?;
        Ok(plan)
    }

    /// Channels that are normalised within the body alone, and 0 outside of it.
    pub fn masked_channels(&self) -> Vec<usize> {
        let standardised =
            |&channel: &usize| self.normalization[channel] == ChannelNormalization::ZScore;
        match self.use_mask_for_norm {
            true => (0..self.normalization.len()).filter(standardised).collect(),
            false => Vec::new(),
        }
    }

    /// Number of classes, background included.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// Output channels of the network: one per region where there are regions, else one per class.
    pub fn outputs(&self) -> usize {
        match self.regions.len() {
            0 => self.num_classes(),
            regions => regions,
        }
    }

    /// What the patch must divide by, `[D, H, W]`: the product of all strides of a valid plan.
    pub fn patch_divisors(&self) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let strides = self.stages.iter().map(|stage| stage.stride[axis]);
            strides.fold(self.stem_stride[axis], usize::saturating_mul)
        })
    }

    /// Elements of all feature maps of one patch, by which nnU-Net estimates the memory of a training: about 560 million
    /// for 8 GB and two patches of a plain network.
    pub fn feature_map_elements(&self) -> u64 {
        let network = memory::Network {
            architecture: self.architecture,
            stages: &self.stages,
            decoder_convolutions: self.decoder_convolutions,
            stem_stride: self.stem_stride,
            outputs: memory::counted_outputs(
                self.num_classes(),
                self.regions.len(),
                self.ignore_label,
            ),
        };
        network.feature_map_elements(self.patch_size, false)
    }

    /// The plan of the coarser training, if there is one.
    pub fn at_low_resolution(&self) -> Option<Self> {
        let low = self.low_resolution.clone()?;
        Some(Self {
            target_spacing: low.target_spacing,
            median_shape: low.median_shape,
            patch_size: low.patch_size,
            batch_size: low.batch_size,
            stem_stride: low.stem_stride,
            stages: low.stages,
            low_resolution: None,
            ..self.clone()
        })
    }
}
