//! What a person decides about a plan: the preset of the network, the memory, and anything to be taken as given.

use serde::{Deserialize, Serialize};

use super::Architecture;

/// What a plan may spend, and what it must not decide itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanOptions {
    /// The network and its budget.
    pub preset: Preset,
    /// Memory of the device in bytes; `None` for what the preset is meant for. Not for [`Preset::Cpu`], whose patch is
    /// bounded by time instead.
    pub memory: Option<u64>,
    /// Target spacing in mm, `[D, H, W]`, in place of the rule's.
    pub target_spacing: Option<[f64; 3]>,
    /// Patch in voxels, `[D, H, W]`, in place of the rule's; rounded up to what the network divides, and not shrunk to
    /// fit the memory.
    pub patch_size: Option<[usize; 3]>,
    /// Patches per step, in place of the rule's; the more, the smaller the patch that fits.
    pub batch_size: Option<usize>,
}

impl PlanOptions {
    /// The preset's own choices.
    pub fn new(preset: Preset) -> Self {
        Self {
            preset,
            memory: None,
            target_spacing: None,
            patch_size: None,
            batch_size: None,
        }
    }

    /// Memory of the device that the plan is made for, in bytes; `None` where time bounds the patch instead.
    pub fn memory_budget(&self) -> Option<u64> {
        match self.preset.rules().budget {
            Budget::Memory { bytes, .. } => Some(self.memory.unwrap_or(bytes)),
            Budget::PatchVoxels { .. } => None,
        }
    }

    /// Whether the options make sense together; a sentence with the numbers if not.
    pub(super) fn validate(&self) -> Result<(), String> {
        if let Some(spacing) = self.target_spacing
            && !spacing.iter().all(|s| s.is_finite() && *s > 0.0)
        {
            return Err(format!("the target spacing {spacing:?} mm is not positive"));
        }
        if let Some(patch) = self.patch_size
            && (patch.contains(&0) || patch.iter().any(|&edge| edge > super::validate::MAX_EDGE))
        {
            return Err(format!(
                "the patch {patch:?} is not between 1 and {} voxels along each axis",
                super::validate::MAX_EDGE
            ));
        }
        if self.batch_size == Some(0) {
            return Err("the batch size is 0".into());
        }
        match (self.preset.rules().budget, self.memory) {
            (Budget::PatchVoxels { .. }, Some(_)) => Err(format!(
                "the preset {} has no memory budget: time bounds its patch",
                self.preset
            )),
            (Budget::Memory { .. }, Some(0)) => Err("the memory is 0 bytes".into()),
            _ => Ok(()),
        }
    }
}

/// A network with its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// A small plain U-Net that works at half resolution inside and sees patches of at most 64³ voxels: some steps a
    /// second on a few cores.
    Cpu,
    /// nnU-Net's default: a plain U-Net, for 8 GB.
    Plain,
    /// nnU-Net's residual encoder M, for 8 GB.
    #[serde(rename = "resenc-m")]
    ResEncM,
    /// nnU-Net's residual encoder L, for 24 GB.
    #[serde(rename = "resenc-l")]
    ResEncL,
    /// nnU-Net's residual encoder XL, for 40 GB.
    #[serde(rename = "resenc-xl")]
    ResEncXl,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 5] = [
        Self::Cpu,
        Self::Plain,
        Self::ResEncM,
        Self::ResEncL,
        Self::ResEncXl,
    ];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Plain => "plain",
            Self::ResEncM => "resenc-m",
            Self::ResEncL => "resenc-l",
            Self::ResEncXl => "resenc-xl",
        }
    }

    /// The kind of network that it plans.
    pub fn architecture(self) -> Architecture {
        self.rules().architecture
    }

    pub(super) fn rules(self) -> Rules {
        let nnunet = |elements: f64, gigabytes: u64| Budget::Memory {
            elements,
            bytes: gigabytes * 1_000_000_000,
        };
        let residual = |elements: f64, gigabytes: u64| Rules {
            architecture: Architecture::ResidualEncoder,
            encoder_blocks: &[1, 3, 4, 6],
            decoder_convolutions: 1,
            base_features: 32,
            max_features: 320,
            stem_stride: 1,
            foreground_fraction: 0.33,
            // Switched off there.
            max_dataset_share: 1.0,
            budget: nnunet(elements, gigabytes),
        };
        let plain = Rules {
            architecture: Architecture::Plain,
            encoder_blocks: &[2],
            decoder_convolutions: 2,
            base_features: 32,
            max_features: 320,
            stem_stride: 1,
            foreground_fraction: 0.33,
            max_dataset_share: 0.05,
            budget: nnunet(560e6, 8),
        };
        match self {
            // Many small patches, most of them around an organ, teach more in the same minutes than few large ones:
            // benches/RESULTS.md.
            Self::Cpu => Rules {
                base_features: 24,
                max_features: 192,
                stem_stride: 2,
                foreground_fraction: 0.67,
                budget: Budget::PatchVoxels {
                    voxels: 64 * 64 * 64,
                    batch_size: 1,
                },
                ..plain
            },
            Self::Plain => plain,
            Self::ResEncM => residual(680e6, 8),
            Self::ResEncL => residual(2.1e9, 24),
            Self::ResEncXl => residual(3.6e9, 40),
        }
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name() == name)
            .ok_or_else(|| format!("is not one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// The constants of a preset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub architecture: Architecture,
    /// Blocks of each stage, finest first; further stages have as many as the last.
    pub encoder_blocks: &'static [usize],
    pub decoder_convolutions: usize,
    /// Channels of the finest stage; each further stage has twice as many.
    pub base_features: usize,
    pub max_features: usize,
    /// Stride of the first convolution along the axes that are not coarse.
    pub stem_stride: usize,
    pub foreground_fraction: f64,
    /// A batch has at most this share of the dataset's voxels, so that no step sees too much of it.
    pub max_dataset_share: f64,
    pub budget: Budget,
}

/// What bounds the patch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Budget {
    /// With two patches of which each has so many elements in its feature maps, a training takes about so many bytes.
    Memory { elements: f64, bytes: u64 },
    /// Voxels of a patch.
    PatchVoxels { voxels: usize, batch_size: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_read_by_the_name_that_it_is_written_with() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(preset));
            assert_eq!(serde_json::to_value(preset).unwrap(), preset.name());
        }
        let refused = "resenc".parse::<Preset>().unwrap_err();
        assert!(refused.contains("cpu, plain, resenc-m"), "{refused}");
    }

    #[test]
    fn options_that_cannot_be_met_are_refused_with_their_numbers() {
        let refusal = |edit: fn(&mut PlanOptions)| {
            let mut options = PlanOptions::new(Preset::Plain);
            assert_eq!(options.validate(), Ok(()));
            edit(&mut options);
            options.validate().unwrap_err()
        };
        assert!(refusal(|o| o.target_spacing = Some([1.0, 0.0, 1.0])).contains("[1.0, 0.0, 1.0]"));
        assert!(refusal(|o| o.target_spacing = Some([1.0, f64::NAN, 1.0])).contains("NaN"));
        assert!(refusal(|o| o.patch_size = Some([64, 0, 64])).contains("[64, 0, 64]"));
        assert!(refusal(|o| o.patch_size = Some([64, usize::MAX, 64])).contains("patch"));
        assert!(refusal(|o| o.batch_size = Some(0)).contains("batch size is 0"));
        assert!(refusal(|o| o.memory = Some(0)).contains("0 bytes"));
        let cpu = PlanOptions {
            memory: Some(8_000_000_000),
            ..PlanOptions::new(Preset::Cpu)
        };
        assert!(cpu.validate().unwrap_err().contains("no memory budget"));
    }
}
