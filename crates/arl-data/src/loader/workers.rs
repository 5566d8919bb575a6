//! Threads that make the batches of an epoch ahead of time, and hand them out in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{Batch, LoaderState};
use crate::{DataError, Result};

/// Makes the batch of a step; `None` if the flag was set meanwhile.
pub(super) type Make = Arc<dyn Fn(usize, &AtomicBool) -> Option<Result<Batch>> + Send + Sync>;

/// The batches of an epoch, in order. Dropping it stops the threads behind it.
///
/// A thread takes the next step that nobody has taken, if that is less than `ahead` steps from the one that is asked for
/// next. So at most `ahead` batches are finished or in the making, and a batch that comes too early waits for its turn.
pub struct EpochIter {
    state: LoaderState,
    steps: usize,
    make: Make,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    waited_ns: Arc<AtomicU64>,
}

/// What the threads and the consumer of an epoch share.
#[derive(Default)]
struct Shared {
    steps: Mutex<Steps>,
    /// Something in `steps` has changed.
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct Steps {
    /// The step that is asked for next.
    wanted: usize,
    /// The first step that no thread has taken.
    untaken: usize,
    /// Batches that wait for their turn.
    finished: BTreeMap<usize, Result<Batch>>,
    /// Threads that still run.
    running: usize,
}

impl EpochIter {
    /// Starts the threads for the steps from `state.step` up to `steps`.
    pub(super) fn start(
        state: LoaderState,
        steps: usize,
        workers: usize,
        ahead: usize,
        waited_ns: Arc<AtomicU64>,
        make: Make,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().wanted = state.step;
        shared.lock().untaken = state.step;
        let mut this = Self {
            state,
            steps,
            make,
            shared,
            threads: Vec::new(),
            waited_ns,
        };
        for worker in 0..workers.min(ahead).min(steps.saturating_sub(state.step)) {
            this.shared.lock().running += 1;
            let (make, shared) = (this.make.clone(), this.shared.clone());
            let spawned = std::thread::Builder::new()
                .name(format!("patches {worker}"))
                .spawn(move || shared.work(steps, ahead, &make));
            match spawned {
                Ok(thread) => this.threads.push(thread),
                Err(error) => {
                    this.shared.lock().running -= 1;
                    tracing::warn!(
                        "only {worker} of {workers} threads for the loader could be started ({error})"
                    );
                    break;
                }
            }
        }
        this
    }

    /// Where the loader stands: [`PatchLoader::epoch_from`](super::PatchLoader::epoch_from) goes on from there, with the
    /// batches that this iterator has not handed out.
    pub fn state(&self) -> LoaderState {
        self.state
    }

    fn receive(&mut self) -> Result<Batch> {
        let received = match self.threads.len() {
            0 => (self.make)(self.state.step, &self.shared.stop),
            _ => self.shared.take(self.state.step),
        };
        received.unwrap_or_else(|| {
            Err(DataError::Worker {
                case: "unknown".to_owned(),
                message: "the loader's threads ended early".to_owned(),
            })
        })
    }

    fn shut_down(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake();
        for thread in self.threads.drain(..) {
            // No thread panics: what it does is guarded.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Steps> {
        // No thread leaves the steps half changed.
        self.steps
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Wakes every thread that waits. The lock makes sure that none is between its look at the state and its wait.
    fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// What a thread does: batch after batch, until the epoch ends, one fails or nobody wants more.
    fn work(&self, steps: usize, ahead: usize, make: &Make) {
        while let Some(step) = self.next_step(steps, ahead) {
            // Whatever happens, the consumer must not wait for this step for ever.
            let batch = match guarded("unknown", || Ok(make(step, &self.stop))) {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(panic) => Err(panic),
            };
            let failed = batch.is_err();
            self.lock().finished.insert(step, batch);
            self.changed.notify_all();
            if failed {
                break;
            }
        }
        self.lock().running -= 1;
        self.changed.notify_all();
    }

    /// The next step to be made, as soon as there is room for it.
    fn next_step(&self, steps: usize, ahead: usize) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if self.stop.load(Ordering::Relaxed) || state.untaken >= steps {
                return None;
            }
            if state.untaken - state.wanted < ahead {
                state.untaken += 1;
                return Some(state.untaken - 1);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// The batch of a step, as soon as it is finished; `None` when every thread has ended without it.
    fn take(&self, step: usize) -> Option<Result<Batch>> {
        let mut state = self.lock();
        loop {
            if let Some(batch) = state.finished.remove(&step) {
                state.wanted = step + 1;
                self.changed.notify_all();
                return Some(batch);
            }
            if state.running == 0 {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

impl Iterator for EpochIter {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state.step >= self.steps {
            return None;
        }
        let begun = Instant::now();
        let batch = self.receive();
        self.waited_ns
            .fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        match batch {
            Ok(_) => self.state.step += 1,
            Err(_) => {
                // The state stays at the step that failed.
                self.steps = self.state.step;
                self.shut_down();
            }
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.steps - self.state.step;
        // An error ends the epoch early.
        (left.min(1), Some(left))
    }
}

impl Drop for EpochIter {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl std::fmt::Debug for EpochIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpochIter")
            .field("state", &self.state)
            .field("steps", &self.steps)
            .field("workers", &self.threads.len())
            .finish_non_exhaustive()
    }
}

/// Runs the work on a case, turning a panic into an error that names the case.
pub(super) fn guarded<T>(case_id: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What the work leaves half done is never looked at: the error ends the epoch.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Err(DataError::Worker {
            case: case_id.to_owned(),
            message: text.unwrap_or_else(|| "a panic without a message".to_owned()),
        })
    })
}
