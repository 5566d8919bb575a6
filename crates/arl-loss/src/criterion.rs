use crate::{
    Activation, AdaptiveRegionLoss, AdaptiveRegionLossConfig, CrossEntropyLoss,
    CrossEntropyLossConfig, DiceLoss, DiceLossConfig, FocalLoss, FocalLossConfig,
    GeneralizedDiceLoss, GeneralizedDiceLossConfig, LossError, RegionGrid, RegionStatistics,
    StatisticsOptions, TopKCrossEntropyLoss, TopKCrossEntropyLossConfig, TverskyLoss,
    TverskyLossConfig,
};
use burn::prelude::*;
use serde::{Deserialize, Serialize};

/// One term of a [`LossConfig`](crate::LossConfig).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// The adaptive region-specific loss.
    AdaptiveRegion(AdaptiveRegionLossConfig),
    /// Dice, over the whole volume or its regions.
    Dice(DiceLossConfig),
    /// Tversky, Jaccard and focal Tversky, over the whole volume or its regions.
    Tversky(TverskyLossConfig),
    /// Generalised Dice.
    GeneralizedDice(GeneralizedDiceLossConfig),
    /// Cross entropy.
    CrossEntropy(CrossEntropyLossConfig),
    /// Focal loss.
    Focal(FocalLossConfig),
    /// Cross entropy of the hardest voxels.
    TopKCrossEntropy(TopKCrossEntropyLossConfig),
}

macro_rules! from_config {
    ($($variant:ident($config:ty),)*) => {
        $(impl From<$config> for Criterion {
            fn from(config: $config) -> Self {
                Self::$variant(config)
            }
        })*
    };
}

from_config! {
    AdaptiveRegion(AdaptiveRegionLossConfig),
    Dice(DiceLossConfig),
    Tversky(TverskyLossConfig),
    GeneralizedDice(GeneralizedDiceLossConfig),
    CrossEntropy(CrossEntropyLossConfig),
    Focal(FocalLossConfig),
    TopKCrossEntropy(TopKCrossEntropyLossConfig),
}

impl Criterion {
    pub(crate) fn set_ignore_index(&mut self, ignore_index: Option<i64>) {
        *match self {
            Self::AdaptiveRegion(config) => &mut config.ignore_index,
            Self::Dice(config) => &mut config.ignore_index,
            Self::Tversky(config) => &mut config.ignore_index,
            Self::GeneralizedDice(config) => &mut config.ignore_index,
            Self::CrossEntropy(config) => &mut config.ignore_index,
            Self::Focal(config) => &mut config.ignore_index,
            Self::TopKCrossEntropy(config) => &mut config.ignore_index,
        } = ignore_index;
    }

    /// Makes each channel a question of its own: sigmoid, and no channel is a background to be left out.
    pub(crate) fn let_classes_overlap(&mut self) -> Result<(), LossError> {
        match self {
            Self::AdaptiveRegion(config) => config.include_background = true,
            Self::Dice(config) => config.include_background = true,
            Self::Tversky(config) => config.include_background = true,
            Self::GeneralizedDice(config) => config.include_background = true,
            Self::CrossEntropy(_) | Self::Focal(_) | Self::TopKCrossEntropy(_) => {}
        }
        *match self {
            Self::AdaptiveRegion(config) => &mut config.activation,
            Self::Dice(config) => &mut config.activation,
            Self::Tversky(config) => &mut config.activation,
            Self::GeneralizedDice(config) => &mut config.activation,
            Self::CrossEntropy(config) => &mut config.activation,
            Self::Focal(config) => &mut config.activation,
            Self::TopKCrossEntropy(_) => {
                return Err(LossError::Unsupported {
                    loss: "top-k cross entropy",
                    needs: "classes that exclude each other",
                });
            }
        } = Activation::Sigmoid;
        Ok(())
    }

    pub(crate) fn init(&self) -> Term {
        match self {
            Self::AdaptiveRegion(config) => Term::Statistics(Scored::AdaptiveRegion(config.init())),
            Self::Dice(config) => Term::Statistics(Scored::Dice(config.init())),
            Self::Tversky(config) => Term::Statistics(Scored::Tversky(config.init())),
            Self::GeneralizedDice(config) => {
                Term::Statistics(Scored::GeneralizedDice(config.init()))
            }
            Self::CrossEntropy(config) => Term::Statistics(Scored::CrossEntropy(config.init())),
            Self::Focal(config) => Term::Statistics(Scored::Focal(config.init())),
            Self::TopKCrossEntropy(config) => Term::TopKCrossEntropy(config.init()),
        }
    }
}

/// A criterion, ready.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Term {
    /// One that is computed from region statistics, which it may share with others.
    Statistics(Scored),
    /// One that takes passes of its own.
    TopKCrossEntropy(TopKCrossEntropyLoss),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scored {
    AdaptiveRegion(AdaptiveRegionLoss),
    Dice(DiceLoss),
    Tversky(TverskyLoss),
    GeneralizedDice(GeneralizedDiceLoss),
    CrossEntropy(CrossEntropyLoss),
    Focal(FocalLoss),
}

impl Scored {
    /// What the loss asks of a pass.
    pub fn request(&self) -> Request {
        let (regions, options) = match self {
            Self::AdaptiveRegion(loss) => (loss.regions(), loss.statistics_options()),
            Self::Dice(loss) => (loss.regions(), loss.statistics_options()),
            Self::Tversky(loss) => (loss.regions(), loss.statistics_options()),
            Self::GeneralizedDice(loss) => (loss.regions(), loss.statistics_options()),
            Self::CrossEntropy(loss) => (loss.regions(), loss.statistics_options()),
            Self::Focal(loss) => (loss.regions(), loss.statistics_options()),
        };
        Request {
            regions,
            options,
            any_gamma: !matches!(self, Self::Focal(_)),
        }
    }

    pub fn loss(&self, statistics: &RegionStatistics) -> Result<Tensor<1>, LossError> {
        match self {
            Self::AdaptiveRegion(loss) => loss.from_statistics(statistics),
            Self::Dice(loss) => loss.from_statistics(statistics),
            Self::Tversky(loss) => loss.from_statistics(statistics),
            Self::GeneralizedDice(loss) => loss.from_statistics(statistics),
            Self::CrossEntropy(loss) => loss.from_statistics(statistics),
            Self::Focal(loss) => loss.from_statistics(statistics),
        }
    }
}

/// A pass over the logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Request {
    pub regions: RegionGrid,
    pub options: StatisticsOptions,
    /// Whether the exponent of the focal sum does not matter.
    pub any_gamma: bool,
}

impl Request {
    /// The pass that serves both, if one can: over the finer regions, if one of the two needs only the whole.
    pub fn merge(self, other: Self) -> Option<Self> {
        let regions = match (self.regions, other.regions) {
            (a, b) if a == b => a,
            (RegionGrid::WHOLE, finer) | (finer, RegionGrid::WHOLE) => finer,
            _ => return None,
        };
        let (a, b) = (self.options, other.options);
        if a.activation != b.activation || a.ignore_index != b.ignore_index {
            return None;
        }
        let focal_gamma = match (self.any_gamma, other.any_gamma) {
            (true, _) => b.focal_gamma,
            (false, true) => a.focal_gamma,
            (false, false) if a.focal_gamma == b.focal_gamma => a.focal_gamma,
            _ => return None,
        };
        Some(Self {
            regions,
            options: StatisticsOptions {
                further: a.further || b.further,
                focal_gamma,
                ..a
            },
            any_gamma: self.any_gamma && other.any_gamma,
        })
    }
}
