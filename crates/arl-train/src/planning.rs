//! What a person may decide about a plan, on the command line and in the file of `--config`.

use arl_data::plan::{PlanOptions, Preset};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::bytes;

/// Options of a new plan; what is not given follows from the data and the device.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Planning {
    /// Network and its budget: cpu, plain (nnU-Net's default), resenc-m, resenc-l or resenc-xl (its
    /// residual encoders) [default: cpu on a CPU, plain on a GPU]
    #[arg(long)]
    pub preset: Option<Preset>,
    /// Memory of the GPU that a training may take, such as 12GB: the more, the larger the patch [default: 8GB, for
    /// resenc-l 24GB, for resenc-xl 40GB]
    #[arg(long, value_name = "BYTES", value_parser = bytes::parse)]
    pub memory: Option<u64>,
    /// Patches per step; the more, the smaller they are
    #[arg(long, value_name = "PATCHES")]
    pub batch: Option<usize>,
    /// Size of a patch in voxels, D,H,W, rounded up to what the network divides; not shrunk to fit the memory
    #[arg(long, value_name = "D,H,W", value_parser = triple::<usize>)]
    pub patch: Option<[usize; 3]>,
    /// Spacing in mm to which everything is resampled, D,H,W
    #[arg(long, value_name = "D,H,W", value_parser = triple::<f64>)]
    pub spacing: Option<[f64; 3]>,
}

impl Planning {
    /// These choices, completed by others.
    pub fn or(self, other: Self) -> Self {
        Self {
            preset: self.preset.or(other.preset),
            memory: self.memory.or(other.memory),
            batch: self.batch.or(other.batch),
            patch: self.patch.or(other.patch),
            spacing: self.spacing.or(other.spacing),
        }
    }

    /// The options for a kind of device.
    pub fn options(&self, cpu: bool) -> PlanOptions {
        let preset = if cpu { Preset::Cpu } else { Preset::Plain };
        PlanOptions {
            preset: self.preset.unwrap_or(preset),
            memory: self.memory,
            target_spacing: self.spacing,
            patch_size: self.patch,
            batch_size: self.batch,
        }
    }
}

/// Reads three numbers between commas.
fn triple<T: std::str::FromStr>(text: &str) -> Result<[T; 3], String> {
    let numbers: Result<Vec<T>, _> = text.split(',').map(|word| word.trim().parse()).collect();
    numbers
        .ok()
        .and_then(|numbers| <[T; 3]>::try_from(numbers).ok())
        .ok_or_else(|| "write three numbers such as 64,96,96".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_decides_what_nobody_chose() {
        let nothing = Planning::default();
        assert_eq!(nothing.options(true), PlanOptions::new(Preset::Cpu));
        assert_eq!(nothing.options(false), PlanOptions::new(Preset::Plain));
        let file = Planning {
            preset: Some(Preset::ResEncL),
            batch: Some(4),
            ..Planning::default()
        };
        let chosen = Planning {
            batch: Some(1),
            ..Planning::default()
        };
        let options = chosen.or(file).options(true);
        assert_eq!(
            (options.preset, options.batch_size),
            (Preset::ResEncL, Some(1))
        );
    }

    #[test]
    fn triples_are_three_numbers() {
        assert_eq!(triple("64, 96,96"), Ok([64usize, 96, 96]));
        assert_eq!(triple("1.5,0.8,0.8"), Ok([1.5, 0.8, 0.8]));
        for text in ["64", "64,96", "64,96,96,96", "64,,96", "64,-1,3"] {
            assert!(triple::<usize>(text).is_err(), "{text}");
        }
    }
}
