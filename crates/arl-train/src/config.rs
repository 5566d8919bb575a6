//! The configuration of a run, saved with it as `config.json`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use arl_data::augment::{Augmentation, Preset};
use arl_data::files;
use arl_data::plan::{Plan, PlanOptions};
use arl_data::split::Fold;
use arl_loss::{EmptyRegions, LossConfig, LossKind, RegionGrid, RegionReduction};
use serde::{Deserialize, Serialize};

use crate::budget::Length;
use crate::cli::TrainArguments;

/// Which kind of device to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The best real GPU, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU through Vulkan, Metal or DirectX 12.
    Wgpu,
    /// An NVIDIA GPU through CUDA.
    Cuda,
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        })
    }
}

/// Random changes of the patches.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Augment {
    /// A set of transforms by name.
    Preset(Preset),
    /// The transforms themselves, as a run saves them.
    Transforms(Box<Augmentation>),
}

impl Augment {
    /// A preset's name, or a JSON file of transforms.
    pub fn from_argument(text: &str) -> anyhow::Result<Self> {
        if let Ok(preset) = text.parse() {
            return Ok(Self::Preset(preset));
        }
        let path = Path::new(text);
        anyhow::ensure!(
            path.exists(),
            "--augment {text}: no preset and no file; use none, light, nnunet or a JSON file of transforms"
        );
        Ok(Self::Transforms(Box::new(Augmentation::load(path)?)))
    }

    /// The transforms for the patches of a plan.
    pub fn transforms(&self, plan: &Plan) -> Augmentation {
        match self {
            Self::Preset(preset) => preset.augmentation(plan.patch_size, &plan.mirror_axes),
            Self::Transforms(transforms) => (**transforms).clone(),
        }
    }
}

// Not derived: an untagged enum's error would not say what is wrong with the transforms.
impl<'de> Deserialize<'de> for Augment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.is_string() {
            return serde_json::from_value(value)
                .map(Self::Preset)
                .map_err(D::Error::custom);
        }
        let transforms: Augmentation = serde_json::from_value(value).map_err(D::Error::custom)?;
        transforms.validate().map_err(D::Error::custom)?;
        Ok(Self::Transforms(Box::new(transforms)))
    }
}

/// Everything that a person chose about a run, or that was chosen for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Version of the program that made the run.
    pub version: String,
    /// The dataset directory.
    pub dataset: PathBuf,
    /// The loss.
    pub loss: LossKind,
    /// Edge of the loss's regions in voxels.
    pub region_size: usize,
    /// How the losses of the regions become one number.
    pub region_reduction: RegionReduction,
    /// What a region costs the classes that it lacks.
    #[serde(default)]
    pub empty_regions: EmptyRegions,
    /// Length in epochs, if not in minutes.
    pub epochs: Option<usize>,
    /// Length in minutes, if not in epochs.
    pub minutes: Option<f64>,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Where it was asked to compute.
    pub device: DeviceChoice,
    /// Seed of weights, patches and augmentation.
    pub seed: u64,
    /// Which cases are held out.
    pub fold: Fold,
    /// Initial learning rate of AdamW.
    pub learning_rate: f64,
    /// Random changes of the patches.
    pub augment: Augment,
}

/// What a config file given with `--config` may hold: any part of [`TrainConfig`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PartialConfig {
    #[serde(rename = "version")]
    _version: Option<String>,
    #[serde(rename = "dataset")]
    _dataset: Option<PathBuf>,
    loss: Option<LossKind>,
    region_size: Option<usize>,
    region_reduction: Option<RegionReduction>,
    empty_regions: Option<EmptyRegions>,
    epochs: Option<usize>,
    minutes: Option<f64>,
    steps_per_epoch: Option<usize>,
    device: Option<DeviceChoice>,
    seed: Option<u64>,
    fold: Option<Fold>,
    learning_rate: Option<f64>,
    augment: Option<Augment>,
}

impl TrainConfig {
    /// The configuration of a new run: the command line, else the file of `--config`, else the defaults.
    pub fn new(arguments: &TrainArguments, cpu: bool) -> anyhow::Result<Self> {
        let file: PartialConfig = match &arguments.config {
            Some(path) => read_json(path).context("--config")?,
            None => PartialConfig::default(),
        };
        let loss = match &arguments.loss {
            Some(name) => name.parse()?,
            None => file.loss.unwrap_or(LossKind::ArlCe),
        };
        let minutes = arguments
            .minutes
            .or(file.minutes.filter(|_| arguments.epochs.is_none()));
        let epochs = match minutes {
            Some(_) => None,
            None => Some(arguments.epochs.or(file.epochs).unwrap_or(100)),
        };
        let config = Self {
            version: env!("CARGO_PKG_VERSION").into(),
            dataset: arguments.dataset.clone(),
            loss,
            region_size: arguments.region_size.or(file.region_size).unwrap_or(16),
            region_reduction: match &arguments.region_reduction {
                Some(name) => name.parse()?,
                None => file.region_reduction.unwrap_or(RegionReduction::Present),
            },
            empty_regions: match &arguments.empty_regions {
                Some(name) => name.parse()?,
                None => file.empty_regions.unwrap_or_default(),
            },
            epochs,
            minutes,
            steps_per_epoch: (arguments.steps_per_epoch.or(file.steps_per_epoch))
                .unwrap_or(if cpu { 100 } else { 250 }),
            device: arguments
                .device
                .or(file.device)
                .unwrap_or(DeviceChoice::Auto),
            seed: arguments.seed.or(file.seed).unwrap_or(0),
            fold: arguments.fold.or(file.fold).unwrap_or(Fold::All),
            learning_rate: arguments
                .learning_rate
                .or(file.learning_rate)
                .unwrap_or(3e-3),
            augment: match &arguments.augment {
                Some(text) => Augment::from_argument(text)?,
                None => file.augment.unwrap_or(Augment::Preset(if cpu {
                    Preset::Light
                } else {
                    Preset::Nnunet
                })),
            },
        };
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> anyhow::Result<()> {
        let positive = |minutes: f64| minutes.is_finite() && minutes > 0.0;
        anyhow::ensure!(
            self.region_size > 0,
            "the region size must be at least 1 voxel"
        );
        anyhow::ensure!(self.steps_per_epoch > 0, "an epoch needs at least 1 step");
        anyhow::ensure!(self.epochs != Some(0), "at least 1 epoch is needed");
        anyhow::ensure!(
            self.minutes.is_none_or(positive),
            "--minutes must be positive"
        );
        anyhow::ensure!(
            self.learning_rate > 0.0 && self.learning_rate <= 1.0,
            "the learning rate {} is not in (0, 1]",
            self.learning_rate
        );
        Ok(())
    }

    /// The length of the training.
    pub fn length(&self) -> Length {
        match (self.minutes, self.epochs) {
            (Some(minutes), _) => Length::Time(Duration::from_secs_f64(minutes * 60.0)),
            (None, epochs) => Length::Steps(epochs.unwrap_or(1) * self.steps_per_epoch),
        }
    }

    /// The loss with its regions, cut by size but never larger than the patch.
    pub fn loss_config(&self, patch: [usize; 3], ignore_label: Option<u16>) -> LossConfig {
        let region = patch.map(|edge| edge.min(self.region_size));
        LossConfig::of(self.loss)
            .with_regions(RegionGrid::size(region))
            .with_region_reduction(self.region_reduction)
            .with_empty_regions(self.empty_regions)
            .with_ignore_index(ignore_label.map(i64::from))
    }
}

/// What a device lets the plan spend.
pub fn plan_options(cpu: bool) -> PlanOptions {
    if cpu {
        // Three steps a second on two cores, at half resolution inside. Many small patches, most of them around an
        // organ, teach more in the same minutes than few large ones: benches/RESULTS.md.
        PlanOptions {
            max_patch_voxels: 64 * 64 * 64,
            batch_size: 1,
            base_features: 24,
            max_features: 192,
            stem_stride: 2,
            foreground_fraction: 0.67,
            target_spacing: None,
            patch_size: None,
        }
    } else {
        PlanOptions {
            max_patch_voxels: 128 * 128 * 128,
            batch_size: 2,
            base_features: 32,
            max_features: 320,
            stem_stride: 1,
            foreground_fraction: 0.33,
            target_spacing: None,
            patch_size: None,
        }
    }
}

/// Reads a JSON file; the error names the file.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{} can't be understood", path.display()))
}

/// Writes a JSON file whole or not at all.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(files::replace(path, ".json", |temporary| {
        std::fs::write(temporary, text)
    })?)
}
