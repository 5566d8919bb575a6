use crate::reduction::Losses;
use crate::scoring::{Scoring, above_zero, check_option, forward, forward_no_reduction};
use crate::{
    Activation, LossError, RegionGrid, RegionReduction, RegionStatistics, StatisticsOptions,
};
use burn::config::Config;
use burn::prelude::*;
use serde::{Deserialize, Serialize};

/// How the generalised Dice loss weighs the classes, from the voxels `G` that each has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassBalance {
    /// `1/G²`, as published.
    #[default]
    Square,
    /// `1/G`.
    Simple,
    /// 1.
    Uniform,
}

/// Options of the generalised Dice loss (Sudre 2017): for each image and region
/// `1 − (2·Σ_c w_c·Σp·g + s)/(Σ_c w_c·(Σp + Σg) + s)`, one number for all classes.
///
/// A class that does not occur has the largest weight of those that do, as in MONAI.
#[derive(Config, Debug, PartialEq)]
pub struct GeneralizedDiceLossConfig {
    /// How the volume is cut into regions.
    #[config(default = "RegionGrid::WHOLE")]
    pub regions: RegionGrid,
    /// How classes are weighed.
    #[config(default = "ClassBalance::Square")]
    pub balance: ClassBalance,
    /// `s` above.
    #[config(default = 1e-5)]
    pub smooth: f64,
    /// How logits become probabilities.
    #[config(default = "Activation::Softmax")]
    pub activation: Activation,
    /// Whether class 0 is scored. A single sigmoid channel always is.
    #[config(default = true)]
    pub include_background: bool,
    /// Score all images of the batch as one.
    #[config(default = false)]
    pub batch: bool,
    /// How images and regions are put together.
    #[config(default = "RegionReduction::Mean")]
    pub reduction: RegionReduction,
    /// A label whose voxels count nowhere. Labels that are no class never count.
    #[config(default = "None")]
    pub ignore_index: Option<i64>,
}

impl GeneralizedDiceLossConfig {
    /// The loss with these options.
    pub fn init(&self) -> GeneralizedDiceLoss {
        GeneralizedDiceLoss {
            config: self.clone(),
        }
    }
}

impl Default for GeneralizedDiceLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The generalised Dice loss, from 0 (perfect) to 1; see [`GeneralizedDiceLossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct GeneralizedDiceLoss {
    config: GeneralizedDiceLossConfig,
}

forward!(GeneralizedDiceLoss);
forward_no_reduction!(GeneralizedDiceLoss);

impl GeneralizedDiceLoss {
    /// The options.
    pub fn config(&self) -> &GeneralizedDiceLossConfig {
        &self.config
    }

    /// The loss of statistics over its regions (or, if it has one region, over any), so that several losses can share one
    /// pass.
    ///
    /// # Errors
    /// Nothing but background to score, an option out of its range.
    pub fn from_statistics(&self, statistics: &RegionStatistics) -> Result<Tensor<1>, LossError> {
        let selected = self.scoring().select(statistics)?;
        let losses = Losses {
            loss: self.score(&selected)?,
            present: above_zero(selected.voxels.max_dim(1)),
            // Of whichever class.
            occurs: above_zero(selected.labelled.max_dim(1)),
            add_empty: false,
        };
        let weights = losses.loss.ones_like().narrow(0, 0, 1).narrow(2, 0, 1);
        Ok(losses.reduce(self.config.reduction, weights))
    }

    pub(crate) fn regions(&self) -> RegionGrid {
        self.config.regions
    }

    pub(crate) fn statistics_options(&self) -> StatisticsOptions {
        StatisticsOptions::new()
            .with_activation(self.config.activation)
            .with_ignore_index(self.config.ignore_index)
    }

    /// `[N, 1, K]`: the classes are one.
    fn unreduced(&self, statistics: &RegionStatistics) -> Result<Tensor<3>, LossError> {
        self.score(&self.scoring().select(statistics)?)
    }

    fn scoring(&self) -> Scoring<'_> {
        Scoring {
            regions: self.config.regions,
            activation: self.config.activation,
            include_background: self.config.include_background,
            batch: self.config.batch,
            reduction: self.config.reduction,
            class_weights: None,
        }
    }

    fn score(&self, selected: &RegionStatistics) -> Result<Tensor<3>, LossError> {
        let s = self.config.smooth;
        check_option("smooth", s, "above 0", |s| s > 0.0)?;
        let sizes = selected.labelled.clone();
        let occurs = above_zero(sizes.clone());
        let weights = match self.config.balance {
            ClassBalance::Square => (sizes.clone() * sizes).clamp_min(1e-12).recip(),
            ClassBalance::Simple => sizes.clamp_min(1e-12).recip(),
            ClassBalance::Uniform => sizes.ones_like(),
        };
        let weights = weights * occurs.clone();
        let largest = weights.clone().max_dim(1);
        let weights = weights + (-occurs + 1.0) * largest;
        let errors = selected.fp.clone() + selected.fn_.clone();
        let errors = (errors * weights.clone()).sum_dim(1);
        let right = (selected.tp.clone() * weights).sum_dim(1);
        Ok(errors.clone() / (right * 2.0 + errors + s))
    }
}
