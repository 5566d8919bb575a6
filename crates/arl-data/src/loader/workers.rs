//! Threads that make the batches of an epoch ahead of time, and hand them out in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::Batch;
use crate::{DataError, Result};

/// Makes the batch of a step; `None` if the flag was set meanwhile.
pub(super) type Make = Arc<dyn Fn(usize, &AtomicBool) -> Option<Result<Batch>> + Send + Sync>;

/// The batches of an epoch, in order. Dropping it stops the threads behind it.
///
/// Worker `w` of `n` makes the steps `w`, `w + n`, `w + 2n`, ... into a bounded channel of its own, and the channels
/// are read in turn: that keeps the order without a store for batches that come too early.
pub struct EpochIter {
    next: usize,
    steps: usize,
    make: Make,
    stop: Arc<AtomicBool>,
    channels: Vec<Receiver<Result<Batch>>>,
    threads: Vec<JoinHandle<()>>,
    waited_ns: Arc<AtomicU64>,
}

impl EpochIter {
    pub(super) fn start(
        steps: usize,
        workers: usize,
        queue_batches: usize,
        waited_ns: Arc<AtomicU64>,
        make: Make,
    ) -> Self {
        let mut this = Self {
            next: 0,
            steps,
            make,
            stop: Arc::default(),
            channels: Vec::new(),
            threads: Vec::new(),
            waited_ns,
        };
        let workers = workers.min(steps);
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(queue_batches.div_ceil(workers));
            let (make, stop) = (this.make.clone(), this.stop.clone());
            let spawned = std::thread::Builder::new()
                .name(format!("patches {worker}"))
                .spawn(move || {
                    for step in (worker..steps).step_by(workers) {
                        let Some(batch) = make(step, &stop) else {
                            return;
                        };
                        let failed = batch.is_err();
                        // Sending fails when the iterator is gone; after an error nobody reads on.
                        if sender.send(batch).is_err() || failed {
                            return;
                        }
                    }
                });
            match spawned {
                Ok(thread) => {
                    this.threads.push(thread);
                    this.channels.push(receiver);
                }
                Err(error) => {
                    tracing::warn!(
                        "no thread for the loader ({error}); batches are made when asked for"
                    );
                    this.shut_down();
                    this.stop = Arc::default();
                    break;
                }
            }
        }
        this
    }

    fn receive(&mut self) -> Result<Batch> {
        let received = match self.channels.len() {
            0 => (self.make)(self.next, &self.stop),
            workers => self.channels[self.next % workers].recv().ok(),
        };
        received.unwrap_or_else(|| {
            Err(DataError::Worker {
                case: "unknown".to_owned(),
                message: "the loader's thread ended early".to_owned(),
            })
        })
    }

    fn shut_down(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Without receivers, a thread that waits for room in its channel wakes up and ends.
        self.channels.clear();
        for thread in self.threads.drain(..) {
            // A panic has been reported by the closed channel.
            let _ = thread.join();
        }
    }
}

impl Iterator for EpochIter {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.steps {
            return None;
        }
        let begun = Instant::now();
        let batch = self.receive();
        self.waited_ns
            .fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.next += 1;
        if batch.is_err() {
            self.next = self.steps;
            self.shut_down();
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.steps - self.next;
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
            .field("next", &self.next)
            .field("steps", &self.steps)
            .field("workers", &self.threads.len())
            .finish_non_exhaustive()
    }
}

/// Runs the work on a case, turning a panic into an error that names the case.
pub(super) fn guarded(case_id: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
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
