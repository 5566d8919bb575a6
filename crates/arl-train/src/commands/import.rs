//! `arl import`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use arl_loss::DeepSupervision;
use arl_models::{Checkpoint, Normalization, Weights};
use burn::module::Module;

use crate::checkpoints::Imported;
use crate::cli::ImportArguments;
use crate::config::{TrainConfig, write_json};
use crate::device;
use crate::network::{Segmenter, network_config};
use crate::nnunet;
use crate::run::Run;

/// Makes a run of a network that nnU-Net has trained.
pub fn run(arguments: &ImportArguments) -> anyhow::Result<ExitCode> {
    let checkpoint = &arguments.checkpoint;
    // nnU-Net's own folder of a trained model: plans.json, dataset.json, fold_0/checkpoint_final.pth.
    let plans = match &arguments.plans {
        Some(path) => path.clone(),
        None => beside(checkpoint, "plans.json")?,
    };
    let dataset = match &arguments.dataset_json {
        Some(path) => path.clone(),
        None => plans.with_file_name("dataset.json"),
    };
    let weights = Weights::read(checkpoint)?;
    let (trained, mirror_axes) = what_nnunet_says(checkpoint)?;
    let configuration = arguments.configuration.clone().or(trained);
    let configuration = configuration.unwrap_or_else(|| "3d_fullres".into());
    let nnunet::Translation {
        plan,
        mut layers,
        transpose_forward,
    } = nnunet::translate(&plans, &dataset, &configuration, mirror_axes)?;
    // nnUNetTrainerBN puts it where its plans say something else.
    if weights.names().any(|name| name.ends_with("running_mean")) {
        layers.normalization = Some(Normalization::Batch);
    }
    let config = TrainConfig::imported(&plan, checkpoint, layers, transpose_forward)?;
    let network = network_config(&plan, &config)?.try_init(&device::for_files()?)?;
    let network = weights
        .with_axes(inverse(transpose_forward))
        .load_into(network)
        .with_context(|| format!("{} does not fit {}", checkpoint.display(), plans.display()))?;
    let parameters = network.num_params();
    let loss = DeepSupervision::new(&config.loss_config(&plan)?);
    let segmenter = Segmenter::new(network, loss, &plan, config.precision);

    let run = Run::create(&arguments.out, arguments.force, "")?;
    write_json(&run.plan(), &plan)?;
    Imported::new(run.checkpoints()).save(segmenter.into_record())?;
    // Last: with it the directory is a run.
    write_json(&run.config(), &config)?;
    eprintln!(
        "{}: {parameters} parameters, {} classes, patch {:?}",
        plan.dataset,
        plan.outputs(),
        plan.patch_size
    );
    eprintln!(
        "predict with: arl predict {} IMAGES --out PREDICTIONS (--mirror for what nnU-Net does by default)",
        arguments.out.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// The order that undoes another.
fn inverse(order: [usize; 3]) -> [usize; 3] {
    let mut inverse = order;
    for (place, axis) in order.into_iter().enumerate() {
        inverse[axis] = place;
    }
    inverse
}

/// A file that nnU-Net puts into the folder above that of a fold; else one beside the checkpoint.
fn beside(checkpoint: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = checkpoint.parent().unwrap_or(Path::new(""));
    let above = folder.parent().map(|above| above.join(name));
    let candidates = above.into_iter().chain([folder.join(name)]);
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "{}: there is no {name} in its folder or above; name it with --plans",
                checkpoint.display()
            )
        })
}

/// The configuration that was trained and the axes that may be mirrored, which safetensors say nothing of.
fn what_nnunet_says(checkpoint: &Path) -> anyhow::Result<(Option<String>, Vec<usize>)> {
    if !Checkpoint::is_one(checkpoint)? {
        return Ok((None, Vec::new()));
    }
    let opened = Checkpoint::open(checkpoint)?;
    let configuration = opened.text(&["init_args", "configuration"]);
    // None where nothing may be mirrored.
    let mirror_axes = opened.counts(&["inference_allowed_mirroring_axes"]);
    Ok((
        configuration.map(str::to_owned),
        mirror_axes.unwrap_or_default(),
    ))
}
