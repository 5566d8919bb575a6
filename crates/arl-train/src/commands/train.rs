//! `arl train`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use arl_data::Dataset;
use arl_data::cache::Cache;
use arl_data::plan::Plan;
use arl_data::split::{Split, split};

use super::{plan, preprocess};
use crate::checkpoints::{Manifest, last_complete};
use crate::cli::{ReadingArguments, TrainArguments};
use crate::config::{Augment, TrainConfig, first_choices, write_json};
use crate::layers::LayerChoices;
use crate::memory::{self, Room};
use crate::planning::Planning;
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
    if arguments.resume {
        resume(arguments)?;
    } else {
        start(arguments)?;
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

fn start(arguments: &TrainArguments) -> anyhow::Result<()> {
    let (reading, choice) = first_choices(arguments)?;
    let dataset = &Dataset::open_with(&arguments.dataset, &reading)?;
    let (device, found) = device::open(choice)?;
    let cpu = found.kind == "cpu";
    let mut config = TrainConfig::new(arguments, dataset.options.clone(), cpu)?;
    let split = split(dataset, config.fold)?;
    let prepared = match &config.cache {
        Some(directory) => preprocess::description(directory)?,
        None => None,
    };
    if let Some(prepared) = &prepared {
        anyhow::ensure!(
            arguments.planning == Planning::default(),
            "{}: the plan is the cache's own; leave --preset, --memory, --batch, --patch and --spacing to `arl preprocess`",
            prepared.plan.display()
        );
        anyhow::ensure!(
            arguments
                .cache_dtype
                .is_none_or(|dtype| dtype == prepared.cache_dtype),
            "{}: the cache was made with --cache-dtype {}; choose another --cache, or leave the format to it",
            prepared.plan.display(),
            prepared.cache_dtype
        );
        config.cache_dtype = prepared.cache_dtype;
        config.planning = Planning::default();
    }
    // Everything that a faulty dataset can stop is done before the first file is written.
    let fingerprint = plan::fingerprint(dataset, config.cache_options().memory)?;
    let plan = match (&arguments.plan, &prepared) {
        (Some(path), _) => Plan::load(path)?,
        (None, Some(prepared)) => Plan::load(&prepared.plan)?,
        (None, None) => {
            let takes = |plan: &Plan| memory::of_training(plan, &config);
            memory::plan(dataset, &fingerprint, &config.planning, cpu, takes)?
        }
    };
    check_fit(&plan, dataset)?;
    if let Some(prepared) = &prepared {
        anyhow::ensure!(
            Plan::load(&prepared.plan)? == plan,
            "{}: is another plan than --plan; choose another --cache",
            prepared.plan.display()
        );
        check_name(&plan, dataset, &prepared.plan)?;
    }
    config.loss_config(&plan)?;
    let made_here = arguments.plan.is_none() && prepared.is_none();
    let budget = config.planning.options(cpu).memory_budget();
    let room = match cpu {
        true => Room::Machine,
        false => Room::Gpu {
            budget: budget.filter(|_| made_here),
        },
    };
    memory::check(&plan, &config, room)?;
    device::check_precision(config.precision, &device, &found)?;
    let transforms = config.augment.transforms(&plan);
    transforms
        .validate_for(plan.patch_size, plan.target_spacing)
        .context("--augment")?;
    let run = Run::create(
        &arguments.out,
        arguments.force,
        "--resume to go on with the run in it, ",
    )?;
    write_json(&run.fingerprint(), &fingerprint)?;
    write_json(&run.plan(), &plan)?;
    // As every later command reads it: JSON may change a number's last digit, and the cache would not fit then.
    let plan = Plan::load(&run.plan())?;
    write_json(&run.augmentation(), &transforms)?;
    // A directory with a configuration is a run that can be resumed, which makes what its cache lacks.
    write_json(&run.config(), &config)?;
    let cache = Arc::new(cache(&run, &config, dataset, &plan)?);
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

fn resume(arguments: &TrainArguments) -> anyhow::Result<()> {
    let run = Run::open(&arguments.out)?;
    let (mut config, plan) = run.load()?;
    let checkpoint = last_complete(&run.checkpoints())?;
    anyhow::ensure!(
        checkpoint.as_ref().is_none_or(Manifest::can_go_on),
        "{}: was imported, without the state of its optimiser; train anew",
        arguments.out.display()
    );
    let other = arguments.loss.is_some()
        || arguments.seed.is_some()
        || arguments.learning_rate.is_some()
        || arguments.region_size.is_some()
        || arguments.region_reduction.is_some()
        || arguments.empty_regions.is_some()
        || arguments.fold.is_some()
        || arguments.model.is_some()
        || arguments.layers != LayerChoices::default()
        || arguments.gradient_checkpointing
        || arguments.precision.is_some()
        || arguments.plan.is_some()
        || arguments.planning != Planning::default()
        || arguments.config.is_some()
        || (arguments.augment.is_some() && arguments.preview.is_none())
        || arguments.reading != ReadingArguments::default()
        || arguments.cache.is_some()
        || arguments.cache_dtype.is_some()
        || arguments.steps_per_epoch.is_some();
    anyhow::ensure!(
        !other,
        "--resume goes on with the run's own configuration; only --epochs, --minutes, --device, --workers, --loader-memory \
         and --preview (and then --augment) may be given with it"
    );
    if arguments.epochs.is_some() || arguments.minutes.is_some() {
        (config.epochs, config.minutes) = (arguments.epochs, arguments.minutes);
    }
    config.workers = arguments.workers.unwrap_or(config.workers);
    config.loader_memory = arguments.loader_memory.unwrap_or(config.loader_memory);
    config.validate()?;
    write_json(&run.config(), &config)?;
    let (device, found) = device::open(arguments.device.unwrap_or(config.device))?;
    device::check_precision(config.precision, &device, &found)?;
    let dataset = &Dataset::open_with(&arguments.dataset, &config.reading())?;
    check_fit(&plan, dataset)?;
    check_name(&plan, dataset, &run.plan())?;
    let split = split(dataset, config.fold)?;
    let cache = Arc::new(cache(&run, &config, dataset, &plan)?);
    if let Some(path) = &arguments.preview {
        // An augmentation that is only looked at: the run keeps its own.
        if let Some(text) = &arguments.augment {
            config.augment = Augment::from_argument(text)?;
        }
        return show_patches(path, &config, &plan, &cache, &split);
    }
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

/// Refuses a plan that was made for other channels, classes or regions than the dataset has.
pub fn check_fit(plan: &Plan, dataset: &Dataset) -> anyhow::Result<()> {
    anyhow::ensure!(
        plan.channel_names == dataset.channel_names
            && plan.classes == dataset.classes
            && plan.regions == dataset.regions
            && plan.ignore_label == dataset.ignore_label,
        "the plan is for {}, whose channels, classes or regions are not those of {}; make another with `arl plan`",
        plan.dataset,
        dataset.root.display()
    );
    Ok(())
}

/// Refuses a plan that nobody chose for this dataset.
fn check_name(plan: &Plan, dataset: &Dataset, file: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        plan.dataset == dataset.name,
        "{}: was made for the dataset {}, not for {} in {}; give the dataset that it was made for",
        file.display(),
        plan.dataset,
        dataset.name,
        dataset.root.display()
    );
    Ok(())
}

fn cache(run: &Run, config: &TrainConfig, dataset: &Dataset, plan: &Plan) -> anyhow::Result<Cache> {
    let directory = config.cache.clone().unwrap_or_else(|| run.cache());
    preprocess::fill(&directory, dataset, plan, &config.cache_options())
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
