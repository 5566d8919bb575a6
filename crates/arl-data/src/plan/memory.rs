//! What a training takes of the device's memory, counted in the elements of feature maps as nnU-Net counts it.
//!
//! Sources: nnU-Net v2, `default_experiment_planner.py` (`static_estimate_VRAM_usage`); the package
//! dynamic_network_architectures, `compute_conv_feature_map_size` of each block.

use super::{Architecture, StagePlan};

/// What decides the size of a network's feature maps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a> {
    pub architecture: Architecture,
    pub stages: &'a [StagePlan],
    /// Convolutions in each stage of the decoder.
    pub decoder_convolutions: usize,
    pub stem_stride: [usize; 3],
    /// Channels of the logits.
    pub outputs: usize,
}

/// Logits that nnU-Net counts: one per entry of the label table, which are the classes or the background and the regions,
/// and the ignore label.
pub(super) fn counted_outputs(classes: usize, regions: usize, ignore_label: Option<u16>) -> usize {
    let entries = if regions == 0 { classes } else { regions + 1 };
    entries + usize::from(ignore_label.is_some())
}

impl Network<'_> {
    /// Elements of the outputs of all convolutions for one patch of `patch` voxels, logits included; those of the
    /// coarser decoder stages only with `deep_supervision`. nnU-Net plans without.
    pub fn feature_map_elements(&self, patch: [usize; 3], deep_supervision: bool) -> u64 {
        let divided = |size: [u64; 3], by: [usize; 3]| -> [u64; 3] {
            std::array::from_fn(|axis| size[axis] / by[axis].max(1) as u64)
        };
        let voxels = |size: [u64; 3]| size.iter().product::<u64>();
        let patch = patch.map(|edge| edge as u64);
        let mut size = divided(patch, self.stem_stride);
        let mut elements = 0;
        let mut before = None;
        for stage in self.stages {
            let features = stage.features as u64;
            size = divided(size, stage.stride);
            let maps = match self.architecture {
                Architecture::Plain => stage.blocks as u64,
                Architecture::ResidualEncoder => {
                    // Two convolutions a block; a third where the shortcut changes channels or resolution.
                    let projected = before.is_some_and(|features| features != stage.features)
                        || stage.stride != [1; 3];
                    // The stem: a convolution of its own before the first stage.
                    let stem = before.is_none();
                    2 * stage.blocks as u64 + u64::from(projected) + u64::from(stem)
                }
            };
            elements += maps * features * voxels(size);
            before = Some(stage.features);
        }
        let mut size = divided(patch, self.stem_stride);
        for (level, stage) in self
            .stages
            .split_last()
            .map_or(&[][..], |s| s.1)
            .iter()
            .enumerate()
        {
            size = divided(size, stage.stride);
            // The transposed convolution, and those after it.
            let maps = 1 + self.decoder_convolutions as u64;
            elements += maps * stage.features as u64 * voxels(size);
            if level == 0 {
                elements += self.outputs as u64 * voxels(patch);
            } else if deep_supervision {
                elements += self.outputs as u64 * voxels(size);
            }
        }
        elements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six stages halved in every axis, for patches of 128³ voxels.
    fn six_stages(blocks: [usize; 6]) -> Vec<StagePlan> {
        [32, 64, 128, 256, 320, 320]
            .into_iter()
            .zip(blocks)
            .enumerate()
            .map(|(i, (features, blocks))| StagePlan {
                features,
                kernel: [3; 3],
                stride: [if i == 0 { 1 } else { 2 }; 3],
                blocks,
            })
            .collect()
    }

    #[test]
    fn the_plain_network_counts_as_nnunet_counts_it() {
        let network = Network {
            architecture: Architecture::Plain,
            stages: &six_stages([2; 6]),
            decoder_convolutions: 2,
            stem_stride: [1; 3],
            outputs: 4,
        };
        assert_eq!(network.feature_map_elements([128; 3], false), 454_893_568);
    }

    #[test]
    fn the_residual_encoder_counts_as_nnunet_counts_it() {
        let network = Network {
            architecture: Architecture::ResidualEncoder,
            stages: &six_stages([1, 3, 4, 6, 6, 6]),
            decoder_convolutions: 1,
            stem_stride: [1; 3],
            outputs: 3,
        };
        assert_eq!(network.feature_map_elements([128; 3], false), 557_420_544);
        // The number in nnU-Net's `residual_encoder_unet_planners.py`.
        assert_eq!(network.feature_map_elements([128; 3], true), 558_319_104);
    }
}
