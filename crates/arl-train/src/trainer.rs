//! Training on Burn's learner.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arl_data::cache::Cache;
use arl_data::loader::{LoaderConfig, PatchLoader, validation_patches};
use arl_data::plan::Plan;
use arl_data::split::Split;
use arl_loss::DeepSupervision;
use burn::optim::AdamWConfig;
use burn::tensor::Device;
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::metric::store::EventStoreClient;
use burn::train::{
    EarlyStoppingStrategy, ExecutionStrategy, Learner, SupervisedTraining, TrainingStrategy,
};

use crate::allocator;
use crate::budget::Budget;
use crate::checkpoints::{Checkpoints, Manifest};
use crate::config::TrainConfig;
use crate::faults;
use crate::monitor::{Monitor, StepMetric};
use crate::network::{Segmenter, network_config};
use crate::patches::{TrainingPatches, ValidationPatches};
use crate::run::Run;
use crate::schedule::PolynomialSchedule;

/// Patches that every epoch is validated on.
const VALIDATION_PATCHES: usize = 2;
const WEIGHT_DECAY: f32 = 1e-2;

/// Ends a training when its budget is spent, after the epoch's checkpoint was written.
#[derive(Clone)]
struct WhenSpent(Arc<Budget>);

impl EarlyStoppingStrategy for WhenSpent {
    fn should_stop(&mut self, _epoch: usize, _store: &EventStoreClient) -> bool {
        self.0.is_spent()
    }
}

/// Trains until the budget is spent or a stop is asked for (Ctrl-C); both end with a checkpoint.
///
/// # Errors
/// When a case can't be read, the loss is not a number, or a checkpoint can't be written.
pub fn train(
    run: &Run,
    config: &TrainConfig,
    plan: &Plan,
    cache: Arc<Cache>,
    split: &Split,
    device: &Device,
    resume: Option<Manifest>,
) -> anyhow::Result<()> {
    let network = network_config(plan, config)?;
    // Parameters drawn on a device without gradients would not ask for any later.
    let training_device = match config.gradient_checkpointing {
        true => device.clone().autodiff().gradient_checkpointing(),
        false => device.clone().autodiff(),
    };
    let network = network.init_seeded(&training_device, config.seed)?;
    let loss = DeepSupervision::new(&config.loss_config(plan)?);
    let segmenter = Segmenter::new(network, loss, plan, config.precision);

    let (epochs_done, steps, seconds) = resume
        .as_ref()
        .map_or((0, 0, 0.0), |m| (m.epoch, m.steps, m.seconds));
    let budget = Arc::new(Budget::new(
        config.length(),
        steps,
        Duration::from_secs_f64(seconds),
    ));
    if budget.is_spent() {
        tracing::info!("the run is already complete");
        return Ok(());
    }
    let stop = budget.clone();
    ctrlc::set_handler(move || {
        if stop.stop_requested() {
            std::process::exit(130);
        }
        stop.request_stop();
        eprintln!(
            "stopping after this step and its checkpoint; press Ctrl-C again to stop at once"
        );
    })
    .context("listening for Ctrl-C")?;

    let loader = patches(config, plan, &cache, split, config.workers)?;
    let validation = validation_patches(
        &cache,
        &indices(&cache, &split.validation),
        plan.patch_size,
        VALIDATION_PATCHES,
        config.seed,
        &plan.masked_channels(),
    )?;
    let loader = Arc::new(loader);
    let waited = loader.clone();
    let monitor = Monitor::new(
        &run.log(),
        budget.clone(),
        epochs_done + 1,
        Arc::new(move || waited.waited()),
    )?;
    let training = TrainingPatches::new(
        loader,
        config.steps_per_epoch,
        epochs_done + 1,
        budget.clone(),
        device.clone(),
    );
    let validation = ValidationPatches::new(validation, device.clone());
    let [model, optimizer, scheduler] = Checkpoints::new(run.checkpoints(), budget.clone()).parts();
    // By the clock the number of epochs is not known: the budget ends the training.
    let epochs = config.epochs.unwrap_or(usize::MAX - 1);
    let mut training =
        SupervisedTraining::new(run.checkpoints(), Arc::new(training), Arc::new(validation))
            .metric_train_numeric(StepMetric::new(monitor.clone(), true))
            .metric_valid_numeric(StepMetric::new(monitor.clone(), false))
            .renderer(Box::new(monitor.clone()))
            .with_metric_logger(burn::train::logger::InMemoryMetricLogger::new())
            .with_application_logger(None)
            .with_custom_checkpointers(model, optimizer, scheduler)
            .with_checkpointing_strategy(KeepLastNCheckpoints::new(2))
            .early_stopping(WhenSpent(budget.clone()))
            .with_training_strategy(TrainingStrategy::Default(ExecutionStrategy::SingleDevice(
                training_device,
            )))
            .num_epochs(epochs);
    if let Some(manifest) = resume {
        training = training.checkpoint(manifest.epoch);
    }
    let optimizer = AdamWConfig::new()
        .with_weight_decay(WEIGHT_DECAY)
        .with_epsilon(1e-8)
        .init();
    let schedule = PolynomialSchedule::new(config.learning_rate, budget);
    let kept = allocator::keep_memory();
    let result = training.launch(Learner::new(segmenter, optimizer, schedule));
    drop(kept);
    if let Some(failure) = monitor.failure() {
        anyhow::bail!("{failure}");
    }
    if let Some(error) = result.error {
        let reason = faults::one_line(error);
        let cure = match reason.contains("allocate") {
            true => {
                "; the device has too little memory: train anew with a --plan of a smaller patch_size or batch_size"
            }
            false => "",
        };
        anyhow::bail!("training stopped: {reason}{cure}");
    }
    Ok(())
}

/// The patches that are trained on.
pub fn patches(
    config: &TrainConfig,
    plan: &Plan,
    cache: &Arc<Cache>,
    split: &Split,
    workers: usize,
) -> anyhow::Result<PatchLoader> {
    Ok(PatchLoader::new(
        cache.clone(),
        indices(cache, &split.train),
        LoaderConfig {
            patch_size: plan.patch_size,
            batch_size: plan.batch_size,
            steps_per_epoch: config.steps_per_epoch,
            foreground_fraction: plan.foreground_fraction,
            augment: config.augment.transforms(plan),
            masked_channels: plan.masked_channels(),
            spacing: plan.target_spacing,
            seed: config.seed,
            workers,
            memory: config.loader_memory,
        },
    )?)
}

/// Where these cases are in the cache.
fn indices(cache: &Cache, ids: &[String]) -> Vec<usize> {
    let position = |id: &String| cache.cases().iter().position(|case| case.id == *id);
    ids.iter().filter_map(position).collect()
}
