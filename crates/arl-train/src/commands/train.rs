//! `arl train`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use arl_data::Dataset;
use arl_data::cache::Cache;
use arl_data::plan::Plan;
use arl_data::split::{Split, split};

use super::{CaseProgress, plan};
use crate::checkpoints::last_complete;
use crate::cli::TrainArguments;
use crate::config::{Augment, DeviceChoice, TrainConfig, read_json, write_json};
use crate::run::Run;
use crate::{device, preview, trainer};

/// Plans, preprocesses and trains.
pub fn run(arguments: &TrainArguments) -> anyhow::Result<ExitCode> {
    if let Some(path) = &arguments.preview {
        anyhow::ensure!(
            arguments.force || !path.exists(),
            "{}: exists already; remove it, or give --preview another name",
            path.display()
        );
    }
    let dataset = Dataset::open(&arguments.dataset)?;
    if arguments.resume {
        resume(arguments, &dataset)?;
    } else {
        start(arguments, &dataset)?;
    }
    if let Some(path) = &arguments.preview {
        println!("preview: {}", path.display());
        println!(
            "train with: arl train {} --out {} --resume",
            arguments.dataset.display(),
            arguments.out.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("trained: {}", arguments.out.display());
    println!(
        "predict with: arl predict {} IMAGES --out PREDICTIONS",
        arguments.out.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn start(arguments: &TrainArguments, dataset: &Dataset) -> anyhow::Result<()> {
    let asked = match &arguments.config {
        Some(path) => read_json::<serde_json::Value>(path)?
            .get("device")
            .map(|value| serde_json::from_value(value.clone()))
            .transpose()
            .with_context(|| format!("{}: device", path.display()))?,
        None => None,
    };
    let choice = arguments.device.or(asked).unwrap_or(DeviceChoice::Auto);
    let (device, found) = device::open(choice)?;
    let cpu = found.kind == "cpu";
    let mut config = TrainConfig::new(arguments, cpu)?;
    let ids: Vec<String> = dataset
        .training
        .iter()
        .map(|case| case.id.clone())
        .collect();
    let split = split(
        &ids,
        config.fold,
        trainer::FOLDS,
        config.seed,
        &dataset.root,
    )?;
    // Everything that a faulty dataset can stop is done before the first file is written.
    let fingerprint = plan::fingerprint(dataset)?;
    let plan = match &arguments.plan {
        Some(path) => Plan::load(path)?,
        None => plan::make(dataset, &fingerprint, cpu)?,
    };
    let transforms = config.augment.transforms(&plan);
    transforms
        .validate_for(plan.patch_size, plan.target_spacing)
        .context("--augment")?;
    config.augment = Augment::Transforms(Box::new(transforms));
    let run = Run::create(&arguments.out, arguments.force)?;
    write_json(&run.fingerprint(), &fingerprint)?;
    write_json(&run.plan(), &plan)?;
    // As every later command reads it: JSON may change a number's last digit, and the cache would not fit then.
    let plan = Plan::load(&run.plan())?;
    let cache = Arc::new(cache(&run.cache(), dataset, &plan)?);
    // The configuration comes last: a directory with it is a run that can be resumed.
    write_json(&run.config(), &config)?;
    if let Some(path) = &arguments.preview {
        return show_patches(path, &config, &plan, &cache, &split);
    }
    tracing::info!(
        "training on {} ({}), {} cases, patch {:?}, loss {}, regions by {}",
        found.kind,
        found.name,
        split.train.len(),
        plan.patch_size,
        config.loss,
        config.region_reduction
    );
    trainer::train(&run, &config, &plan, cache, &split, &device, None)
}

fn resume(arguments: &TrainArguments, dataset: &Dataset) -> anyhow::Result<()> {
    let run = Run::open(&arguments.out)?;
    let (mut config, plan) = run.load()?;
    let other = arguments.loss.is_some()
        || arguments.seed.is_some()
        || arguments.learning_rate.is_some()
        || arguments.region_size.is_some()
        || arguments.region_reduction.is_some()
        || arguments.empty_regions.is_some()
        || arguments.fold.is_some()
        || arguments.plan.is_some()
        || arguments.config.is_some()
        || (arguments.augment.is_some() && arguments.preview.is_none())
        || arguments.steps_per_epoch.is_some();
    anyhow::ensure!(
        !other,
        "--resume goes on with the run's own configuration; only --epochs, --minutes, --device and --preview (and then --augment) may be given with it"
    );
    if arguments.epochs.is_some() || arguments.minutes.is_some() {
        (config.epochs, config.minutes) = (arguments.epochs, arguments.minutes);
        write_json(&run.config(), &config)?;
    }
    let (device, _) = device::open(arguments.device.unwrap_or(config.device))?;
    let ids: Vec<String> = dataset
        .training
        .iter()
        .map(|case| case.id.clone())
        .collect();
    let split = split(
        &ids,
        config.fold,
        trainer::FOLDS,
        config.seed,
        &dataset.root,
    )?;
    let cache = Arc::new(cache(&run.cache(), dataset, &plan)?);
    if let Some(path) = &arguments.preview {
        // An augmentation that is only looked at: the run keeps its own.
        if let Some(text) = &arguments.augment {
            config.augment = Augment::from_argument(text)?;
        }
        return show_patches(path, &config, &plan, &cache, &split);
    }
    let checkpoint = last_complete(&run.checkpoints())?;
    match &checkpoint {
        Some(manifest) => tracing::info!(
            "going on after epoch {}, step {}",
            manifest.epoch,
            manifest.steps
        ),
        None => tracing::info!("no complete checkpoint yet, starting at the first step"),
    }
    trainer::train(&run, &config, &plan, cache, &split, &device, checkpoint)
}

/// Writes the picture that `--preview` asks for.
fn show_patches(
    path: &Path,
    config: &TrainConfig,
    plan: &Plan,
    cache: &Arc<Cache>,
    split: &Split,
) -> anyhow::Result<()> {
    let loader = trainer::patches(config, plan, cache, split, 0)?;
    preview::write(path, &loader, plan.target_spacing)
}

fn cache(directory: &Path, dataset: &Dataset, plan: &Plan) -> anyhow::Result<Cache> {
    let progress = CaseProgress::new("preprocessing cases");
    Ok(Cache::open_or_build(
        directory,
        dataset,
        plan,
        &|done, total| progress.show(done, total),
    )?)
}
