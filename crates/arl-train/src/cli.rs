//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bytes;
use crate::commands::evaluate::Tolerances;
use crate::config::{DeviceChoice, ModelChoice};
use crate::layers::LayerChoices;
use crate::planning::Planning;
use arl_data::cache::CacheDtype;
use arl_data::metrics::Metric;
use arl_data::split::Fold;
use arl_data::{LabelRemap, ReadOptions};
use arl_loss::{EmptyRegions, LossKind, RegionReduction};
use arl_models::Precision;

/// Train 3D medical image segmentation with the adaptive region-specific loss.
///
/// A dataset is told by what lies in it: nnU-Net raw (dataset.json, imagesTr, labelsTr, imagesTs), the Medical
/// Segmentation Decathlon (dataset.json that lists the cases), a MONAI datalist (the JSON file, or its directory), or
/// two folders, images* and labels*, paired by file name.
///
///   arl demo                                   the whole way on a synthetic cohort, no download
///   arl train DATASET --out RUN --minutes 60   plan, preprocess, train
///   arl predict RUN DATASET/imagesTs --out P   segment new images
///   arl evaluate P DATASET/labelsTs            Dice, HD95, NSD and others per case and class
#[derive(Parser)]
#[command(version, verbatim_doc_comment, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
// One is made in the life of the program.
#[allow(clippy::large_enum_variant)]
#[derive(Subcommand)]
pub enum Command {
    /// List the devices of this machine and which one would be chosen
    Devices(DevicesArguments),
    /// Find every fault of a dataset, each with file and cure
    Check(CheckArguments),
    /// Show what the data suggests: spacing, patch, network, normalisation
    Plan(PlanArguments),
    /// Crop, normalise and resample the training cases into a cache that trainings can share
    Preprocess(PreprocessArguments),
    /// Train a network on a dataset
    Train(TrainArguments),
    /// Segment images with a trained run
    Predict(PredictArguments),
    /// Make a run of a network that nnU-Net has trained
    ///
    /// Takes checkpoint_final.pth (or safetensors with the same names), the plans.json and the dataset.json of nnU-Net v2, for
    /// 3D networks of its classes PlainConvUNet and ResidualEncoderUNet. Every tensor that is missing, unexpected or of another
    /// size is named, and nothing is written then. Nothing in the checkpoint is executed.
    Import(ImportArguments),
    /// Write the weights of a run as safetensors, with PyTorch's names
    ///
    /// Those of --model unet load into nnU-Net's network: safetensors.torch.load_model(network, FILE). The file also holds the
    /// network's description and the plan as JSON.
    Export(ExportArguments),
    /// Score predictions against reference labels
    ///
    /// Every class is scored, and every region that a dataset.json beside the reference folder declares; its ignore label
    /// is left out. Distances are in mm, from surface voxel to surface voxel, as in MONAI: HD and HD95 are the larger of
    /// both directions, ASSD and NSD pool them. A class that is missed or spurious scores 0 by Dice, IoU and NSD, and its
    /// distance is infinite (null in JSON): means of distances leave it out, and the table counts such cases.
    Evaluate(EvaluateArguments),
    /// Make a synthetic CT cohort, train on it, predict and evaluate
    Demo(DemoArguments),
}

/// How the files of a dataset are read.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ReadingArguments {
    /// Read label values as others, as 255:1,2:1 (or `auto`: the values found, ascending, become 0, 1, 2, ...). dataset.json
    /// declares the values after that; where those have gaps, they are remapped too
    #[arg(long, value_name = "FROM:TO,...")]
    pub remap_labels: Option<LabelRemap>,
    /// Accept files of one case that lie half a voxel or more apart: voxels are paired by index, not by position
    #[arg(long)]
    pub ignore_geometry: bool,
}

impl ReadingArguments {
    /// The same as the data side wants it.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            remap_labels: self.remap_labels.clone(),
            ignore_geometry: self.ignore_geometry,
        }
    }

    /// The same as words of a command line, each with a space before it.
    pub fn words(&self) -> String {
        let mut words = String::new();
        if let Some(remap) = &self.remap_labels {
            words += &format!(" --remap-labels {remap}");
        }
        if self.ignore_geometry {
            words += " --ignore-geometry";
        }
        words
    }
}

/// Arguments of `arl devices`.
#[derive(Args)]
pub struct DevicesArguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `arl check`.
#[derive(Args)]
pub struct CheckArguments {
    /// Dataset directory, or the JSON file that lists its cases
    pub dataset: PathBuf,
    /// How its files are read.
    #[command(flatten)]
    pub reading: ReadingArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `arl plan`.
#[derive(Args)]
pub struct PlanArguments {
    /// Dataset directory, or the JSON file that lists its cases
    pub dataset: PathBuf,
    /// How its files are read.
    #[command(flatten)]
    pub reading: ReadingArguments,
    /// Plan for this device: a CPU gets smaller patches and a cheaper network
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// What the data should not decide.
    #[command(flatten)]
    pub planning: Planning,
    /// The plan of the coarser training that is worth having beside the main one
    #[arg(long)]
    pub low_resolution: bool,
    /// Print the plan as JSON, which `arl train --plan` accepts after editing
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `arl preprocess`.
#[derive(Args)]
pub struct PreprocessArguments {
    /// Dataset directory, or the JSON file that lists its cases
    pub dataset: PathBuf,
    /// How its files are read.
    #[command(flatten)]
    pub reading: ReadingArguments,
    /// Directory of the cache: one file per case, and the plan; one that was begun is gone on with
    #[arg(long)]
    pub out: PathBuf,
    /// Use this plan (JSON, as `arl plan --json` prints it) [default: the plan.json in --out, else a new one]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "memory", "batch", "patch", "spacing"])]
    pub plan: Option<PathBuf>,
    /// What the data should not decide.
    #[command(flatten)]
    pub planning: Planning,
    /// Plan for this device: a CPU gets smaller patches and a cheaper network
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Number format of intensities: f32, or f16, which halves the files and rounds by at most 0.05 % [default: f32]
    #[arg(long, value_name = "FORMAT")]
    pub cache_dtype: Option<CacheDtype>,
    /// Main memory that cases preprocessed at the same time may share
    #[arg(long, value_name = "BYTES", default_value = "4GiB", value_parser = bytes::parse)]
    pub ram: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `arl train`.
#[derive(Args)]
pub struct TrainArguments {
    /// Dataset directory, or the JSON file that lists its cases
    pub dataset: PathBuf,
    /// How its files are read.
    #[command(flatten)]
    pub reading: ReadingArguments,
    /// Directory of the run: configuration, plan, log and checkpoints
    #[arg(long)]
    pub out: PathBuf,
    /// Loss to minimise
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(LossKind::NAMES))]
    pub loss: Option<String>,
    /// Edge of the loss's regions in voxels of the target spacing [default: 16]
    #[arg(long, value_name = "VOXELS")]
    pub region_size: Option<usize>,
    /// How the losses of the regions become one number: mean (as published), sum over regions, present (which gives every
    /// class that occurs the same weight), or total [default: present]
    #[arg(long, value_name = "REDUCTION", value_parser = clap::builder::PossibleValuesParser::new(RegionReduction::NAMES))]
    pub region_reduction: Option<String>,
    /// What a region costs the classes that it lacks: index (as published, which hardly pushes down a confident false
    /// positive there), or false-positives, their share of the region [default: index]
    #[arg(long, value_name = "POLICY", value_parser = clap::builder::PossibleValuesParser::new(EmptyRegions::NAMES))]
    pub empty_regions: Option<String>,
    /// Train for so many epochs [default: 100]
    #[arg(long, conflicts_with = "minutes")]
    pub epochs: Option<usize>,
    /// Train for so many minutes; the learning rate follows the clock
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Steps of an epoch [default: 100 on a CPU, 250 on a GPU]
    #[arg(long, value_name = "STEPS")]
    pub steps_per_epoch: Option<usize>,
    /// Where to compute
    #[arg(long)]
    pub device: Option<DeviceChoice>,
    /// Seed of weights, patches and augmentation [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Fold to validate on, or `all` to train on every case that the dataset does not hold out. Folds are those of a
    /// splits_final.json in the dataset, else those that it declares itself (MONAI), else nnU-Net's: 0 to 4 are its
    /// five-fold cross validation, each further number a random part of 80:20 [default: all]
    #[arg(long)]
    pub fold: Option<Fold>,
    /// Initial learning rate [default: 0.003]
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Random changes of the patches: none, light, nnunet, or a JSON file of transforms, as a run's augmentation.json
    /// has them [default: light on a CPU, nnunet on a GPU]
    #[arg(long, value_name = "PRESET|FILE")]
    pub augment: Option<String>,
    /// Write a picture (PNG) of the first patches that would be trained on, and end before training; --resume trains
    #[arg(long, value_name = "FILE")]
    pub preview: Option<PathBuf>,
    /// Threads that make batches, 0 for none beside the training; the batches are the same for any number [default: 1 on
    /// a CPU, on a GPU one less than the cores, at most 12]
    #[arg(long)]
    pub workers: Option<usize>,
    /// Memory for batches that are made ahead, such as 1GB or 500MB [default: 1GB]
    #[arg(long, value_name = "BYTES", value_parser = bytes::parse)]
    pub loader_memory: Option<u64>,
    /// The network [default: unet]
    #[arg(long)]
    pub model: Option<ModelChoice>,
    /// What follows its convolutions.
    #[command(flatten)]
    pub layers: LayerChoices,
    /// Numbers to compute with: f32, or bf16, which takes half the memory and on many GPUs a fraction of the time; weights,
    /// statistics and loss stay f32 [default: f32]
    #[arg(long, value_name = "NUMBERS")]
    pub precision: Option<Precision>,
    /// Compute the features of each stage again in the backward pass instead of keeping them: less memory, the more so the larger
    /// the patch, for about a quarter more time, and the same result but for rounding
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// What the data should not decide.
    #[command(flatten)]
    pub planning: Planning,
    /// Use this plan (JSON, as `arl plan --json` prints it) instead of a new one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "memory", "batch", "patch", "spacing"])]
    pub plan: Option<PathBuf>,
    /// Directory of the preprocessed cases, as `arl preprocess` fills it; its plan and number format are used
    /// [default: cache in --out]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Number format of cached intensities: f32, or f16, which halves the files and rounds by at most 0.05 % [default: f32]
    #[arg(long, value_name = "FORMAT")]
    pub cache_dtype: Option<CacheDtype>,
    /// Read defaults from this file; every run saves its own as config.json. Label remapping, --ignore-geometry and --cache
    /// are read from it only for the same dataset
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on with the run in --out, from its last complete checkpoint
    #[arg(long)]
    pub resume: bool,
    /// Start anew although --out is not empty; what it holds is deleted
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
}

/// Arguments of `arl predict`.
#[derive(Args)]
pub struct PredictArguments {
    /// Directory of a run
    pub run: PathBuf,
    /// An image, or a folder of images such as imagesTs
    pub input: PathBuf,
    /// Folder for the label maps, CASE.nii.gz each
    #[arg(long)]
    pub out: PathBuf,
    /// Where to compute
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Overlap of neighbouring windows, as a share of the patch
    #[arg(long, default_value_t = 0.5)]
    pub overlap: f64,
    /// Average over all mirrored versions of each window, as nnU-Net does by default: up to 8 times the time, and steadier
    #[arg(long)]
    pub mirror: bool,
    /// Accept channels of one case that lie half a voxel or more apart; so does a run that was trained with this
    #[arg(long)]
    pub ignore_geometry: bool,
    /// Overwrite predictions that exist
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `arl import`.
#[derive(Args)]
pub struct ImportArguments {
    /// checkpoint_final.pth or another checkpoint of nnU-Net, or safetensors
    pub checkpoint: PathBuf,
    /// nnU-Net's plans.json [default: the one in the folder above the checkpoint's, as nnU-Net puts it]
    #[arg(long, value_name = "FILE")]
    pub plans: Option<PathBuf>,
    /// The dataset.json that was trained on [default: the one beside the plans]
    #[arg(long, value_name = "FILE")]
    pub dataset_json: Option<PathBuf>,
    /// Which of the plans' configurations was trained [default: the checkpoint says so, else 3d_fullres]
    #[arg(long, value_name = "NAME")]
    pub configuration: Option<String>,
    /// Directory of the run
    #[arg(long)]
    pub out: PathBuf,
    /// Write although --out is not empty; what it holds is deleted
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `arl export`.
#[derive(Args)]
pub struct ExportArguments {
    /// Directory of a run
    pub run: PathBuf,
    /// The file, usually .safetensors
    #[arg(long)]
    pub out: PathBuf,
    /// Write tensors of U-Nets also under the other names by which nnU-Net's networks list them, which PyTorch's load_state_dict
    /// asks for; the file is some three times as large
    #[arg(long)]
    pub every_name: bool,
    /// Overwrite a file that exists
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `arl evaluate`.
#[derive(Args)]
pub struct EvaluateArguments {
    /// Folder of predicted label maps
    pub predictions: PathBuf,
    /// Folder of reference label maps with the same names
    pub reference: PathBuf,
    /// Read values of the reference as others, as 255:1,2:1: the pairs that the run's config.json holds
    #[arg(long, value_name = "FROM:TO,...")]
    pub remap_labels: Option<LabelRemap>,
    /// Accept references that lie half a voxel or more apart from their predictions
    #[arg(long)]
    pub ignore_geometry: bool,
    /// Write the scores to this file [default: summary.json beside the predictions]; older scores of `arl` are replaced
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Replace --out even if `arl evaluate` has not written it
    #[arg(long)]
    pub force: bool,
    /// Metrics to compute, with commas between them: dice, iou, hd, hd95, assd, nsd, volume_error_ml,
    /// relative_volume_error [default: all]
    #[arg(long, value_delimiter = ',', default_values_t = Metric::ALL, hide_default_value = true)]
    pub metrics: Vec<Metric>,
    /// Distance in mm within which surfaces agree (NSD): 3 for all, liver=3,1=2 by name or label [default: 2]
    #[arg(
        long,
        value_name = "MM",
        default_value = "2",
        hide_default_value = true
    )]
    pub tolerance: Tolerances,
    /// Score a class that neither map of a case has with Dice and IoU 1 instead of leaving it out of the means
    #[arg(long)]
    pub count_absent: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `arl demo`.
#[derive(Args)]
pub struct DemoArguments {
    /// Directory for the dataset, the run and the predictions
    #[arg(long, default_value = "arl-demo")]
    pub out: PathBuf,
    /// Minutes of training
    #[arg(long, default_value_t = 2.5)]
    pub minutes: f64,
    /// Where to compute
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Seed of the cohort and of the training
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The smallest demo: a handful of steps, to see that everything works
    #[arg(long)]
    pub quick: bool,
    /// Start anew although --out is not empty; what it holds is deleted
    #[arg(long)]
    pub force: bool,
}
