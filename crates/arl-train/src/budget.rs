//! How much training is left: by steps or by the clock, and whether someone asked to stop.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The length of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// So many optimiser steps.
    Steps(usize),
    /// So much time, preprocessing not counted.
    Time(Duration),
}

/// Progress towards the end of a training, shared by the loader, the schedule and the display.
#[derive(Debug)]
pub struct Budget {
    length: Length,
    started: Instant,
    /// Time that the run had taken before it was resumed.
    earlier: Duration,
    steps: AtomicUsize,
    stop: AtomicBool,
}

impl Budget {
    /// A budget of which `steps` and `earlier` are already spent.
    pub fn new(length: Length, steps: usize, earlier: Duration) -> Self {
        Self {
            length,
            started: Instant::now(),
            earlier,
            steps: AtomicUsize::new(steps),
            stop: AtomicBool::new(false),
        }
    }

    /// Counts an optimiser step.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Steps so far, those before a resumption included.
    pub fn steps(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }

    /// Time so far, that before a resumption included.
    pub fn elapsed(&self) -> Duration {
        self.earlier + self.started.elapsed()
    }

    /// The spent share, 0 to 1.
    pub fn fraction(&self) -> f64 {
        let share = match self.length {
            Length::Steps(steps) => self.steps() as f64 / steps.max(1) as f64,
            Length::Time(time) => self.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-9),
        };
        share.min(1.0)
    }

    /// Time until the end at the present rate.
    pub fn left(&self, seconds_per_step: f64) -> Duration {
        match self.length {
            Length::Steps(steps) => {
                let left = steps.saturating_sub(self.steps()) as f64;
                Duration::from_secs_f64((left * seconds_per_step).max(0.0))
            }
            Length::Time(time) => time.saturating_sub(self.elapsed()),
        }
    }

    /// Asks for a stop after the present step; the epoch's checkpoint is still written.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether no further step should be taken.
    pub fn is_spent(&self) -> bool {
        self.stop_requested() || self.fraction() >= 1.0
    }
}
