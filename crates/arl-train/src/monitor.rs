//! What a training shows and writes while it runs: a progress line (a plain log where there is no terminal) and
//! `log.jsonl`, one JSON object per epoch.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Context;
use burn::tensor::{Tensor, TensorReadError};
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{
    Adaptor, Metric, MetricDefinition, MetricMetadata, MetricName, Numeric, NumericEntry,
    SerializedEntry,
};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::budget::Budget;
use crate::network::StepOutput;

/// Without a terminal, a line is logged this often.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Losses and overlaps of one split of one epoch.
#[derive(Default)]
struct Sums {
    steps: usize,
    loss: f64,
    /// TP, FP, FN per class but the background, or per region.
    overlap: [Vec<f64>; 3],
}

impl Sums {
    fn mean_loss(&self) -> f64 {
        self.loss / self.steps.max(1) as f64
    }

    /// Mean over the classes that occurred of `2·TP / (2·TP + FP + FN)`, from soft counts.
    fn dice(&self) -> Option<f64> {
        let [tp, fp, fn_] = &self.overlap;
        let classes: Vec<f64> = (0..tp.len())
            .filter(|&c| tp[c] + fn_[c] > 0.0)
            .map(|c| 2.0 * tp[c] / (2.0 * tp[c] + fp[c] + fn_[c]))
            .collect();
        (!classes.is_empty()).then(|| classes.iter().sum::<f64>() / classes.len() as f64)
    }
}

struct State {
    log: File,
    bar: Option<ProgressBar>,
    last_line: Instant,
    epoch: usize,
    epoch_started: Instant,
    steps_before: usize,
    training: Sums,
    validation: Sums,
    waited_before: Duration,
    failure: Option<String>,
}

/// The display and the log of a training; clones share one state.
#[derive(Clone)]
pub struct Monitor {
    state: Arc<Mutex<State>>,
    budget: Arc<Budget>,
    waited: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Monitor {
    /// Appends to `log` and shows progress on standard error. `waited` tells how long training waited for data.
    pub fn new(
        log: &Path,
        budget: Arc<Budget>,
        epoch: usize,
        waited: Arc<dyn Fn() -> Duration + Send + Sync>,
    ) -> anyhow::Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {percent:>3}%  {msg}");
            ProgressBar::new(1000)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let state = State {
            log,
            bar,
            last_line: Instant::now(),
            epoch,
            epoch_started: Instant::now(),
            steps_before: budget.steps(),
            training: Sums::default(),
            validation: Sums::default(),
            waited_before: Duration::ZERO,
            failure: None,
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            budget,
            waited,
        })
    }

    /// Why the training had to be given up, if it had.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn step(&self, training: bool, loss: f64, overlap: Vec<f64>) {
        let mut state = self.lock();
        if !loss.is_finite() && state.failure.is_none() {
            let step = self.budget.steps();
            state.failure = Some(format!(
                "the loss became {loss} at step {step}; lower --learning-rate"
            ));
            self.budget.request_stop();
        }
        let sums = if training {
            &mut state.training
        } else {
            &mut state.validation
        };
        sums.steps += 1;
        sums.loss += loss;
        let classes = overlap.len() / 3;
        for (sum, new) in sums.overlap.iter_mut().zip(overlap.chunks(classes.max(1))) {
            sum.resize(classes, 0.0);
            sum.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
        }
        if training {
            self.show(&mut state);
        }
    }

    fn show(&self, state: &mut State) {
        let seconds = state.epoch_started.elapsed().as_secs_f64();
        let rate = state.training.steps as f64 / seconds.max(1e-9);
        let left = self.budget.left(1.0 / rate.max(1e-9));
        let line = format!(
            "epoch {}  step {}  loss {:.4}  Dice {:.3}  {rate:.2} it/s  data wait {:.0} %  {} left",
            state.epoch,
            self.budget.steps(),
            state.training.mean_loss(),
            state.training.dice().unwrap_or(0.0),
            percent(
                ((self.waited)()).saturating_sub(state.waited_before),
                seconds
            ),
            minutes(left),
        );
        if let Some(bar) = &state.bar {
            bar.set_position((self.budget.fraction() * 1000.0) as u64);
            bar.set_message(line);
        } else if state.last_line.elapsed() > LOG_EVERY {
            state.last_line = Instant::now();
            eprintln!("{line}");
        }
    }

    fn end_epoch(&self) {
        let mut state = self.lock();
        let seconds = state.epoch_started.elapsed().as_secs_f64();
        let steps = state.training.steps;
        let waited = (self.waited)();
        let waited_now = waited.saturating_sub(state.waited_before);
        let entry = json!({
            "epoch": state.epoch,
            "steps": state.steps_before + steps,
            "seconds": self.budget.elapsed().as_secs_f64(),
            "loss": state.training.mean_loss(),
            "dice": state.training.dice(),
            "validation_loss": (state.validation.steps > 0).then(|| state.validation.mean_loss()),
            "validation_dice": state.validation.dice(),
            "iterations_per_second": steps as f64 / seconds.max(1e-9),
            "waited_for_data_seconds": waited_now.as_secs_f64(),
            "data_wait_percent": percent(waited_now, seconds),
        });
        let line = format!(
            "epoch {} done: loss {:.4}, Dice {:.3}, validation loss {:.4}, validation Dice {:.3}, {:.2} it/s, data wait {:.0} %",
            state.epoch,
            state.training.mean_loss(),
            state.training.dice().unwrap_or(0.0),
            state.validation.mean_loss(),
            state.validation.dice().unwrap_or(0.0),
            steps as f64 / seconds.max(1e-9),
            percent(waited_now, seconds),
        );
        match &state.bar {
            Some(bar) => bar.println(&line),
            None => eprintln!("{line}"),
        }
        if let Err(error) = writeln!(state.log, "{entry}") {
            state
                .failure
                .get_or_insert(format!("log.jsonl can't be written: {error}"));
            self.budget.request_stop();
        }
        state.steps_before += steps;
        state.waited_before = waited;
        state.training = Sums::default();
        state.validation = Sums::default();
        state.epoch += 1;
        state.epoch_started = Instant::now();
    }
}

/// The share of an epoch's `seconds` so far that training waited for batches, validation included.
fn percent(waited: Duration, seconds: f64) -> f64 {
    (100.0 * waited.as_secs_f64() / seconds.max(1e-9)).min(100.0)
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Hands each step's loss and overlap to the monitor; its value is the loss.
#[derive(Clone)]
pub struct StepMetric {
    monitor: Monitor,
    training: bool,
    sum: f64,
    last: f64,
    count: usize,
}

impl StepMetric {
    /// The metric of the training split or of the validation split.
    pub fn new(monitor: Monitor, training: bool) -> Self {
        Self {
            monitor,
            training,
            sum: 0.0,
            last: 0.0,
            count: 0,
        }
    }

    fn entry(&self, value: f64) -> SerializedEntry {
        SerializedEntry::new(format!("{value:.4}"), value.to_string())
    }
}

/// The input of [`StepMetric`].
pub struct StepInput(Tensor<1>, Tensor<2>);

impl Adaptor<StepInput> for StepOutput {
    fn adapt(&self) -> StepInput {
        StepInput(self.loss.clone(), self.overlap.clone())
    }
}

impl Metric for StepMetric {
    type Input = StepInput;

    fn name(&self) -> MetricName {
        Arc::new("Loss".into())
    }

    fn update(
        &mut self,
        item: &StepInput,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let loss = item.0.clone().try_into_scalar::<f64>()?;
        let overlap = item.1.clone().try_into_data()?;
        let overlap = overlap.iter::<f64>().collect();
        self.monitor.step(self.training, loss, overlap);
        self.last = loss;
        self.sum += loss;
        self.count += 1;
        Ok(self.entry(loss))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry(self.sum / self.count.max(1) as f64))
    }

    fn clear(&mut self) {
        (self.sum, self.last, self.count) = (0.0, 0.0, 0);
    }
}

impl Numeric for StepMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(NumericEntry::Value(self.last))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.final_value())
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Value(self.sum / self.count.max(1) as f64)
    }
}

impl MetricsRendererTraining for Monitor {
    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
}

impl MetricsRendererEvaluation for Monitor {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl TrainingProgressLogger for Monitor {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {
        self.end_epoch();
    }
    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {
        if let Some(bar) = &self.lock().bar {
            bar.finish_and_clear();
        }
    }
    fn log_event_training(&mut self, event: String) {
        tracing::debug!("{event}");
    }
}

impl EvaluationProgressLogger for Monitor {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, event: String) {
        tracing::debug!("{event}");
    }
}

impl MetricsRenderer for Monitor {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}
