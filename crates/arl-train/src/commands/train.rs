//! `arl train`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use arl_data::Dataset;
use arl_data::cache::Cache;
use arl_data::plan::Plan;
use arl_data::split::split;

use super::{CaseProgress, plan};
use crate::checkpoints::last_complete;
use crate::cli::TrainArguments;
use crate::config::{DeviceChoice, TrainConfig, read_json, write_json};
use crate::planning::Planning;
use crate::run::Run;
use crate::{device, network, trainer};

/// Plans, preprocesses and trains.
pub fn run(arguments: &TrainArguments) -> anyhow::Result<ExitCode> {
    let dataset = Dataset::open(&arguments.dataset)?;
    if arguments.resume {
        resume(arguments, &dataset)?;
    } else {
        start(arguments, &dataset)?;
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
    let config = TrainConfig::new(arguments, cpu)?;
    let options = config.planning.options(cpu);
    // Before every case is read, which takes minutes.
    network::check_architecture(options.preset.architecture())?;
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
        None => Plan::new(dataset, &fingerprint, &options)?,
    };
    network::network_config(&plan)?;
    let run = Run::create(&arguments.out, arguments.force)?;
    write_json(&run.fingerprint(), &fingerprint)?;
    write_json(&run.plan(), &plan)?;
    // As every later command reads it: JSON may change a number's last digit, and the cache would not fit then.
    let plan = Plan::load(&run.plan())?;
    let cache = Arc::new(cache(&run.cache(), dataset, &plan)?);
    // The configuration comes last: a directory with it is a run that can be resumed.
    write_json(&run.config(), &config)?;
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
        || arguments.planning != Planning::default()
        || arguments.config.is_some()
        || arguments.augment.is_some()
        || arguments.steps_per_epoch.is_some();
    anyhow::ensure!(
        !other,
        "--resume goes on with the run's own configuration; only --epochs, --minutes, --device, --workers and \
         --loader-memory may be given with it"
    );
    if arguments.epochs.is_some() || arguments.minutes.is_some() {
        (config.epochs, config.minutes) = (arguments.epochs, arguments.minutes);
    }
    config.workers = arguments.workers.unwrap_or(config.workers);
    config.loader_memory = arguments.loader_memory.unwrap_or(config.loader_memory);
    config.validate()?;
    write_json(&run.config(), &config)?;
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

fn cache(directory: &Path, dataset: &Dataset, plan: &Plan) -> anyhow::Result<Cache> {
    let progress = CaseProgress::new("preprocessing cases");
    Ok(Cache::open_or_build(
        directory,
        dataset,
        plan,
        &|done, total| progress.show(done, total),
    )?)
}
