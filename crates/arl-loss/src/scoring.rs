//! What all losses over classes and regions do alike: choosing classes, merging images, weighting, reducing.

use crate::reduction::Losses;
use crate::weights::{check_class_weights, class_weight_tensor};
use crate::{Activation, LossError, RegionGrid, RegionReduction, RegionStatistics};
use burn::prelude::*;

/// The options that all these losses have.
pub(crate) struct Scoring<'a> {
    pub regions: RegionGrid,
    pub activation: Activation,
    pub include_background: bool,
    pub batch: bool,
    pub reduction: RegionReduction,
    pub class_weights: Option<&'a [f32]>,
}

impl Scoring<'_> {
    /// The statistics to score, `[N or 1, C or C-1, K]`.
    pub fn select(&self, statistics: &RegionStatistics) -> Result<RegionStatistics, LossError> {
        let classes = statistics.tp.dims()[1];
        let drop_background = !self.scores_all(classes);
        check_class_weights(self.class_weights, classes, !drop_background)?;
        let mut selected = match self.regions {
            RegionGrid::WHOLE => statistics.whole(),
            _ => statistics.clone(),
        };
        if drop_background {
            selected = selected.without_background();
        }
        if self.batch {
            selected = selected.merge_images();
        }
        Ok(selected)
    }

    /// The one number, from losses `[N, C, K]` of the selected statistics.
    pub fn reduce(&self, loss: Tensor<3>, selected: &RegionStatistics) -> Tensor<1> {
        let present = above_zero(selected.voxels.clone());
        let losses = Losses {
            loss: loss * present.clone(),
            present,
            occurs: above_zero(selected.labelled.clone()),
            add_empty: false,
        };
        let weights = self.weights(&losses.loss);
        losses.reduce(self.reduction, weights)
    }

    /// The weights of the scored classes, `[1, C, 1]`.
    pub fn weights(&self, like: &Tensor<3>) -> Tensor<3> {
        let scored = like.dims()[1];
        match self.class_weights {
            Some(weights) => class_weight_tensor(&weights[weights.len() - scored..], like),
            None => class_weight_tensor(&vec![1.0; scored], like),
        }
    }

    /// Whether class 0 is scored. A single sigmoid channel is foreground.
    fn scores_all(&self, classes: usize) -> bool {
        self.include_background || (classes == 1 && self.activation == Activation::Sigmoid)
    }
}

/// 1 where above 0, else 0.
pub(crate) fn above_zero<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    let dtype = values.dtype();
    values.greater_elem(0.0).float().cast(dtype)
}

/// That an option is in its range.
pub(crate) fn check_option(
    name: &'static str,
    value: f64,
    range: &'static str,
    allowed: impl Fn(f64) -> bool,
) -> Result<(), LossError> {
    match value.is_finite() && allowed(value) {
        true => Ok(()),
        false => Err(LossError::Option { name, value, range }),
    }
}

/// How a loss on region statistics is called, from its `regions`, `statistics_options` and `from_statistics`.
macro_rules! forward {
    ($loss:ty) => {
        impl $loss {
            /// Loss of `logits` `[N, C, D, H, W]` (or `[N, C, H, W]`) against class indices `[N, D, H, W]` or shares
            /// `[N, C, D, H, W]`; see [`Target`](crate::Target).
            ///
            /// # Panics
            /// Where [`try_forward`](Self::try_forward) returns an error.
            pub fn forward(
                &self,
                logits: impl Into<crate::Logits>,
                target: impl Into<crate::Target>,
            ) -> burn::tensor::Tensor<1> {
                self.try_forward(logits, target)
                    .unwrap_or_else(|error| panic!("{error}"))
            }

            /// As [`forward`](Self::forward), with wrong input as an error.
            ///
            /// # Errors
            /// Shapes that do not fit, a region grid that does not fit the volume, a wrong number of class weights, nothing
            /// but background to score, an option out of its range.
            pub fn try_forward(
                &self,
                logits: impl Into<crate::Logits>,
                target: impl Into<crate::Target>,
            ) -> Result<burn::tensor::Tensor<1>, crate::LossError> {
                self.from_statistics(&self.statistics(logits.into(), target.into())?)
            }

            fn statistics(
                &self,
                logits: crate::Logits,
                target: crate::Target,
            ) -> Result<crate::RegionStatistics, crate::LossError> {
                crate::region_statistics::check_shapes(&logits.0, &target)?;
                let [_, _, d, h, w] = logits.0.dims();
                let regions = self.regions().regions([d, h, w])?;
                crate::region_statistics(logits, target, &regions, &self.statistics_options())
            }
        }
    };
}
pub(crate) use forward;

/// The same one by one, from its `unreduced`.
macro_rules! forward_no_reduction {
    ($loss:ty) => {
        impl $loss {
            /// The loss of each image, class and region, `[N, C, K]`, unweighted; `N` is 1 with `batch`, and `C` one less
            /// without background. (Generalised Dice has one loss for all classes: `[N, 1, K]`.)
            ///
            /// # Panics
            /// Where [`try_forward_no_reduction`](Self::try_forward_no_reduction) returns an error.
            pub fn forward_no_reduction(
                &self,
                logits: impl Into<crate::Logits>,
                target: impl Into<crate::Target>,
            ) -> burn::tensor::Tensor<3> {
                self.try_forward_no_reduction(logits, target)
                    .unwrap_or_else(|error| panic!("{error}"))
            }

            /// As [`forward_no_reduction`](Self::forward_no_reduction), with wrong input as an error.
            ///
            /// # Errors
            /// As [`try_forward`](Self::try_forward).
            pub fn try_forward_no_reduction(
                &self,
                logits: impl Into<crate::Logits>,
                target: impl Into<crate::Target>,
            ) -> Result<burn::tensor::Tensor<3>, crate::LossError> {
                self.unreduced(&self.statistics(logits.into(), target.into())?)
            }
        }
    };
}
pub(crate) use forward_no_reduction;

/// The rest of a loss that scores each class and region by itself: from the options that these losses have in common, its
/// `statistics_options`, and `score`, which gives losses `[N, C, K]` of the selected statistics.
macro_rules! scored {
    ($loss:ty, $config:ty) => {
        crate::scoring::forward!($loss);
        crate::scoring::forward_no_reduction!($loss);

        impl $loss {
            /// The options.
            pub fn config(&self) -> &$config {
                &self.config
            }

            /// The loss of statistics over its regions (or, if it has one region, over any), so that several losses can
            /// share one pass.
            ///
            /// # Errors
            /// A wrong number of class weights, nothing but background to score, an option out of its range, or
            /// statistics without the further ones that this loss needs.
            pub fn from_statistics(
                &self,
                statistics: &RegionStatistics,
            ) -> Result<Tensor<1>, LossError> {
                let selected = self.scoring().select(statistics)?;
                let loss = self.score(&selected)?;
                Ok(self.scoring().reduce(loss, &selected))
            }

            pub(crate) fn regions(&self) -> RegionGrid {
                self.config.regions
            }

            fn unreduced(&self, statistics: &RegionStatistics) -> Result<Tensor<3>, LossError> {
                let selected = self.scoring().select(statistics)?;
                // Whatever the formula makes of a region without voxels.
                let present = crate::scoring::above_zero(selected.voxels.clone());
                Ok(self.score(&selected)? * present)
            }

            fn scoring(&self) -> crate::scoring::Scoring<'_> {
                crate::scoring::Scoring {
                    regions: self.config.regions,
                    activation: self.config.activation,
                    include_background: self.config.include_background,
                    batch: self.config.batch,
                    reduction: self.config.reduction,
                    class_weights: self.config.class_weights.as_deref(),
                }
            }
        }
    };
}
pub(crate) use scored;
