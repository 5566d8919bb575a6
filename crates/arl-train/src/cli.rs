//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bytes;
use crate::config::DeviceChoice;
use crate::planning::Planning;
use arl_data::split::Fold;
use arl_loss::{EmptyRegions, LossKind, RegionReduction};

/// Train 3D medical image segmentation with the adaptive region-specific loss.
///
/// A dataset directory is nnU-Net raw (dataset.json, imagesTr, labelsTr, imagesTs) or two folders, images* and
/// labels*, paired by file name.
///
///   arl demo                                   the whole way on a synthetic cohort, no download
///   arl train DATASET --out RUN --minutes 60   plan, preprocess, train
///   arl predict RUN DATASET/imagesTs --out P   segment new images
///   arl evaluate P DATASET/labelsTs            Dice and IoU per case and class
#[derive(Parser)]
#[command(version, verbatim_doc_comment, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Subcommand)]
pub enum Command {
    /// List the devices of this machine and which one would be chosen
    Devices(DevicesArguments),
    /// Find every fault of a dataset, each with file and cure
    Check(CheckArguments),
    /// Show what the data suggests: spacing, patch, network, normalisation
    Plan(PlanArguments),
    /// Train a network on a dataset
    Train(TrainArguments),
    /// Segment images with a trained run
    Predict(PredictArguments),
    /// Score predictions against reference labels
    Evaluate(EvaluateArguments),
    /// Make a synthetic CT cohort, train on it, predict and evaluate
    Demo(DemoArguments),
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
    /// Dataset directory
    pub dataset: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `arl plan`.
#[derive(Args)]
pub struct PlanArguments {
    /// Dataset directory
    pub dataset: PathBuf,
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

/// Arguments of `arl train`.
#[derive(Args)]
pub struct TrainArguments {
    /// Dataset directory
    pub dataset: PathBuf,
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
    /// Fold of a five-fold split to validate on, or `all` to train on every case [default: all]
    #[arg(long)]
    pub fold: Option<Fold>,
    /// Initial learning rate [default: 0.003]
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Random intensity changes: none, light or nnunet [default: light on a CPU, nnunet on a GPU]
    #[arg(long)]
    pub augment: Option<arl_data::augment::Preset>,
    /// Threads that make batches, 0 for none beside the training; the batches are the same for any number [default: 1 on
    /// a CPU, on a GPU one less than the cores, at most 12]
    #[arg(long)]
    pub workers: Option<usize>,
    /// Memory for batches that are made ahead, such as 1GB or 500MB [default: 1GB]
    #[arg(long, value_name = "BYTES", value_parser = bytes::parse)]
    pub loader_memory: Option<u64>,
    /// What the data should not decide.
    #[command(flatten)]
    pub planning: Planning,
    /// Use this plan (JSON, as `arl plan --json` prints it) instead of a new one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "memory", "batch", "patch", "spacing"])]
    pub plan: Option<PathBuf>,
    /// Read defaults from this file; every run saves its own as config.json
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
    /// Overwrite predictions that exist
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `arl evaluate`.
#[derive(Args)]
pub struct EvaluateArguments {
    /// Folder of predicted label maps
    pub predictions: PathBuf,
    /// Folder of reference label maps with the same names
    pub reference: PathBuf,
    /// Write the scores to this file [default: summary.json beside the predictions]
    #[arg(long)]
    pub out: Option<PathBuf>,
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
