//! The configuration of a run, saved with it as `config.json`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use arl_data::augment::{Augmentation, Preset};
use arl_data::cache::{CacheDtype, CacheOptions};
use arl_data::files;
use arl_data::plan::Plan;
use arl_data::split::Fold;
use arl_data::{LabelRemap, ReadOptions};
use arl_loss::{EmptyRegions, LossConfig, LossKind, RegionGrid, RegionReduction};
use arl_models::Precision;
use serde::{Deserialize, Serialize};

use crate::budget::Length;
use crate::cli::TrainArguments;
use crate::layers::LayerChoices;
use crate::planning::Planning;

/// Bytes for batches that are made ahead, unless told otherwise.
const LOADER_MEMORY: u64 = 1_000_000_000;
/// Edge of the loss's regions in voxels, and AdamW's initial learning rate, unless told otherwise.
const REGION_SIZE: usize = 16;
const LEARNING_RATE: f64 = 3e-3;
const MAX_WORKERS: usize = 1024;

/// Threads that make batches, unless told otherwise: one beside a training that needs the cores itself, else all cores
/// but one, and at most twelve, as in nnU-Net.
fn default_workers(cpu: bool) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match cpu {
        true => 1,
        false => cores.saturating_sub(1).clamp(1, 12),
    }
}

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

/// Which network is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ModelChoice {
    /// The U-Net that the plan describes: nnU-Net's plain or residual encoder network.
    #[default]
    Unet,
    /// V-Net as in the paper (Milletari et al. 2016).
    Vnet,
    /// V-Net as its authors published it for Caffe.
    VnetPrototxt,
    /// The first 3D U-Net (Çiçek et al. 2016), with padded convolutions.
    CicekUnet,
}

/// Everything that a person chose about a run, or that was chosen for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Version of the program that made the run.
    pub version: String,
    /// The checkpoint that the network came from, if it was trained elsewhere; what says how it is trained means nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<PathBuf>,
    /// The order into which nnU-Net puts the axes `[D, H, W]` of an image for an imported network, if it is another one. Here
    /// its weights are turned instead, and back when they are exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transpose_forward: Option<[usize; 3]>,
    /// The dataset directory.
    pub dataset: PathBuf,
    /// Label values that are read as others: the pairs that were found, if `auto` was asked for.
    #[serde(default)]
    pub remap_labels: Option<LabelRemap>,
    /// Whether files of one case may lie in different places.
    #[serde(default)]
    pub ignore_geometry: bool,
    /// The network.
    #[serde(default)]
    pub model: ModelChoice,
    /// The layers behind its convolutions.
    #[serde(default)]
    pub layers: LayerChoices,
    /// The numbers that are computed with.
    #[serde(default)]
    pub precision: Precision,
    /// Whether normalised features are computed again in the backward pass instead of kept.
    #[serde(default)]
    pub gradient_checkpointing: bool,
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
    /// What was decided about the plan; nothing, where it was given with `--plan`.
    pub planning: Planning,
    /// Where the preprocessed cases lie, if not in the run.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// Number format of cached intensities.
    #[serde(default)]
    pub cache_dtype: CacheDtype,
    /// Threads that make batches; they change none.
    pub workers: usize,
    /// Bytes for batches that are made ahead.
    pub loader_memory: u64,
}

/// What a config file given with `--config` may hold: any part of [`TrainConfig`]. A file that names another dataset keeps
/// its cache and how it was read to itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PartialConfig {
    #[serde(rename = "version")]
    _version: Option<String>,
    #[serde(rename = "imported_from")]
    _imported_from: Option<PathBuf>,
    #[serde(rename = "transpose_forward")]
    _transpose_forward: Option<[usize; 3]>,
    dataset: Option<PathBuf>,
    remap_labels: Option<LabelRemap>,
    ignore_geometry: Option<bool>,
    model: Option<ModelChoice>,
    layers: LayerChoices,
    precision: Option<Precision>,
    gradient_checkpointing: Option<bool>,
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
    planning: Planning,
    cache: Option<PathBuf>,
    cache_dtype: Option<CacheDtype>,
    workers: Option<usize>,
    loader_memory: Option<u64>,
}

impl PartialConfig {
    fn of(arguments: &TrainArguments) -> anyhow::Result<Self> {
        let Some(path) = &arguments.config else {
            return Ok(Self::default());
        };
        let mut file: Self = read_json(path).context("--config")?;
        if file
            .dataset
            .take()
            .is_some_and(|other| !same_place(&other, &arguments.dataset))
        {
            // What another run found out about its own dataset means nothing for this one.
            (file.remap_labels, file.ignore_geometry, file.cache) = (None, None, None);
        }
        Ok(file)
    }
}

/// Whether both paths lead to the same file or directory.
fn same_place(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// How and where a new run reads and computes: needed before the rest of its configuration is known.
pub fn first_choices(arguments: &TrainArguments) -> anyhow::Result<(ReadOptions, DeviceChoice)> {
    let file = PartialConfig::of(arguments)?;
    let asked = &arguments.reading;
    let reading = ReadOptions {
        remap_labels: asked.remap_labels.clone().or(file.remap_labels),
        ignore_geometry: asked.ignore_geometry || file.ignore_geometry.unwrap_or(false),
    };
    let device = arguments.device.or(file.device);
    Ok((reading, device.unwrap_or(DeviceChoice::Auto)))
}

impl TrainConfig {
    /// The configuration of a new run: the command line, else the file of `--config`, else the defaults. `reading`
    /// is that of the opened dataset.
    pub fn new(
        arguments: &TrainArguments,
        reading: ReadOptions,
        cpu: bool,
    ) -> anyhow::Result<Self> {
        let file = PartialConfig::of(arguments)?;
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
            imported_from: None,
            transpose_forward: None,
            dataset: arguments.dataset.clone(),
            remap_labels: reading.remap_labels,
            ignore_geometry: reading.ignore_geometry,
            model: arguments.model.or(file.model).unwrap_or_default(),
            layers: arguments.layers.or(&file.layers),
            precision: arguments.precision.or(file.precision).unwrap_or_default(),
            gradient_checkpointing: arguments.gradient_checkpointing
                || file.gradient_checkpointing.unwrap_or(false),
            loss,
            region_size: arguments
                .region_size
                .or(file.region_size)
                .unwrap_or(REGION_SIZE),
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
                .unwrap_or(LEARNING_RATE),
            augment: match &arguments.augment {
                Some(text) => Augment::from_argument(text)?,
                None => file.augment.unwrap_or(Augment::Preset(if cpu {
                    Preset::Light
                } else {
                    Preset::Nnunet
                })),
            },
            planning: match arguments.plan {
                Some(_) => Planning::default(),
                None => arguments.planning.clone().or(file.planning),
            },
            cache: match arguments.cache.clone().or(file.cache) {
                Some(path) => Some(std::path::absolute(&path).context(path.display().to_string())?),
                None => None,
            },
            cache_dtype: (arguments.cache_dtype.or(file.cache_dtype)).unwrap_or_default(),
            workers: (arguments.workers.or(file.workers)).unwrap_or_else(|| default_workers(cpu)),
            loader_memory: (arguments.loader_memory.or(file.loader_memory))
                .unwrap_or(LOADER_MEMORY),
        };
        config.validate()?;
        Ok(config)
    }

    /// The configuration of a run whose network was trained elsewhere.
    pub fn imported(
        plan: &Plan,
        from: &Path,
        layers: LayerChoices,
        transpose_forward: [usize; 3],
    ) -> anyhow::Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            imported_from: Some(std::path::absolute(from).context(from.display().to_string())?),
            transpose_forward: Some(transpose_forward).filter(|order| *order != [0, 1, 2]),
            dataset: PathBuf::from(&plan.dataset),
            remap_labels: None,
            ignore_geometry: false,
            model: ModelChoice::Unet,
            layers,
            precision: Precision::F32,
            gradient_checkpointing: false,
            loss: match plan.regions.is_empty() {
                true => LossKind::ArlCe,
                false => LossKind::Arl,
            },
            region_size: REGION_SIZE,
            region_reduction: RegionReduction::Present,
            empty_regions: EmptyRegions::default(),
            epochs: None,
            minutes: None,
            steps_per_epoch: 250,
            device: DeviceChoice::Auto,
            seed: 0,
            fold: Fold::All,
            learning_rate: LEARNING_RATE,
            augment: Augment::Preset(Preset::Nnunet),
            planning: Planning::default(),
            cache: None,
            cache_dtype: CacheDtype::default(),
            workers: default_workers(false),
            loader_memory: LOADER_MEMORY,
        })
    }

    /// Whether the numbers make sense; a run's own configuration can have been edited.
    pub fn validate(&self) -> anyhow::Result<()> {
        // A century.
        let positive = |minutes: f64| minutes > 0.0 && minutes <= 5e7;
        anyhow::ensure!(
            self.region_size > 0,
            "the region size must be at least 1 voxel"
        );
        anyhow::ensure!(self.steps_per_epoch > 0, "an epoch needs at least 1 step");
        anyhow::ensure!(self.epochs != Some(0), "at least 1 epoch is needed");
        anyhow::ensure!(
            self.epochs
                .unwrap_or(1)
                .checked_mul(self.steps_per_epoch)
                .is_some(),
            "{:?} epochs of {} steps are too many to count",
            self.epochs,
            self.steps_per_epoch
        );
        anyhow::ensure!(
            self.minutes.is_none_or(positive),
            "--minutes must be positive, and no more than a century's"
        );
        anyhow::ensure!(
            self.learning_rate > 0.0 && self.learning_rate <= 1.0,
            "the learning rate {} is not in (0, 1]",
            self.learning_rate
        );
        anyhow::ensure!(
            self.workers <= MAX_WORKERS,
            "{} workers are more than {MAX_WORKERS}",
            self.workers
        );
        anyhow::ensure!(
            self.loader_memory > 0,
            "the loader needs memory for at least one batch"
        );
        Ok(())
    }

    /// How the cache is made.
    pub fn cache_options(&self) -> CacheOptions {
        CacheOptions {
            dtype: self.cache_dtype,
            ..CacheOptions::default()
        }
    }

    /// The length of the training.
    pub fn length(&self) -> Length {
        match (self.minutes, self.epochs) {
            (Some(minutes), _) => Length::Time(Duration::from_secs_f64(minutes * 60.0)),
            (None, epochs) => Length::Steps(epochs.unwrap_or(1) * self.steps_per_epoch),
        }
    }

    /// The loss with its regions, cut by size but never larger than the patch. (These regions are boxes; those of a plan
    /// are sets of labels.)
    ///
    /// # Errors
    /// A loss that needs classes that exclude each other, where the plan has regions.
    pub fn loss_config(&self, plan: &Plan) -> anyhow::Result<LossConfig> {
        let region = plan.patch_size.map(|edge| edge.min(self.region_size));
        let loss = LossConfig::of(self.loss)
            .with_regions(RegionGrid::size(region))
            .with_region_reduction(self.region_reduction)
            .with_empty_regions(self.empty_regions);
        match plan.regions.is_empty() {
            true => Ok(loss.with_ignore_index(plan.ignore_label.map(i64::from))),
            false => loss
                .for_overlapping_classes()
                .with_context(|| format!("--loss {} can't learn the dataset's regions", self.loss)),
        }
    }

    /// How the run's dataset is read.
    pub fn reading(&self) -> ReadOptions {
        ReadOptions {
            remap_labels: self.remap_labels.clone(),
            ignore_geometry: self.ignore_geometry,
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
