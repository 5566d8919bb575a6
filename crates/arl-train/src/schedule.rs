//! The learning rate: a short warm-up, then a polynomial to zero over the budget.

use std::sync::Arc;

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use crate::budget::Budget;

/// Exponent of the decay, as in nnU-Net.
const POWER: f64 = 0.9;
/// Steps of linear warm-up: Adam's second moments are meaningless before.
const WARM_UP_STEPS: f64 = 20.0;

/// `base · min(1, step / warm-up) · (1 − spent share of the budget)^0.9`.
#[derive(Clone)]
pub struct PolynomialSchedule {
    base: f64,
    budget: Arc<Budget>,
}

impl PolynomialSchedule {
    /// A schedule that follows `budget` from the learning rate `base`.
    pub fn new(base: f64, budget: Arc<Budget>) -> Self {
        Self { base, budget }
    }
}

impl LrScheduler for PolynomialSchedule {
    fn step(&mut self) -> f64 {
        let warm = ((self.budget.steps() + 1) as f64 / WARM_UP_STEPS).min(1.0);
        let rate = self.base * warm * (1.0 - self.budget.fraction()).powf(POWER);
        self.budget.step();
        // The optimiser refuses a rate of exactly zero.
        rate.max(self.base * 1e-6)
    }

    fn to_record(&self) -> LrSchedulerRecord {
        // The budget is the state; it is kept in the checkpoint's manifest, beside this record.
        LrSchedulerRecord::new().with_scalar("steps", self.budget.steps())
    }

    fn load_record(&mut self, _record: LrSchedulerRecord) {}
}
