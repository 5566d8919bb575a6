use crate::weights::{check_class_weights, class_weight_tensor};
use crate::{LossError, RegionGrid, RegionStatistics, region_statistics};
use burn::config::Config;
use burn::prelude::*;

/// Options of the soft Dice loss: per image and class over the whole volume,
/// `1 − (2·TP + s)/(2·TP + FP + FN + s)`, then the mean.
#[derive(Config, Debug, PartialEq)]
pub struct DiceLossConfig {
    /// `s` above, in voxels.
    #[config(default = 1e-5)]
    pub smooth: f64,
    /// Whether class 0 is scored. nnU-Net leaves it out.
    #[config(default = false)]
    pub include_background: bool,
    /// Score all images of the batch as one.
    #[config(default = false)]
    pub batch: bool,
    /// A label whose voxels count nowhere. Labels outside `0..C` never count.
    #[config(default = "None")]
    pub ignore_index: Option<i64>,
    /// One weight per class, background included; the loss is the weighted mean over classes.
    #[config(default = "None")]
    pub class_weights: Option<Vec<f32>>,
}

impl DiceLossConfig {
    /// The loss with these options.
    pub fn init(&self) -> DiceLoss {
        DiceLoss {
            config: self.clone(),
        }
    }
}

impl Default for DiceLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The soft Dice loss, from 0 (perfect) to 1; see [`DiceLossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct DiceLoss {
    config: DiceLossConfig,
}

impl DiceLoss {
    /// Loss of `logits` `[N, C, D, H, W]` against class indices `labels` `[N, D, H, W]`.
    ///
    /// # Panics
    /// Where [`try_forward`](Self::try_forward) returns an error.
    pub fn forward(&self, logits: Tensor<5>, labels: Tensor<4, Int>) -> Tensor<1> {
        self.try_forward(logits, labels)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward), with wrong input as an error.
    ///
    /// # Errors
    /// Shapes that do not fit, or a wrong number of class weights.
    pub fn try_forward(
        &self,
        logits: Tensor<5>,
        labels: Tensor<4, Int>,
    ) -> Result<Tensor<1>, LossError> {
        let [_, _, d, h, w] = logits.dims();
        let regions = RegionGrid::WHOLE.regions([d, h, w])?;
        let statistics = region_statistics(logits, labels, &regions, self.config.ignore_index)?;
        self.from_statistics(&statistics)
    }

    /// The loss of statistics taken over any regions, so that several losses can share one pass.
    ///
    /// # Errors
    /// A wrong number of class weights, or nothing but background to score.
    pub fn from_statistics(&self, statistics: &RegionStatistics) -> Result<Tensor<1>, LossError> {
        let classes = statistics.tp.dims()[1];
        check_class_weights(
            self.config.class_weights.as_deref(),
            classes,
            self.config.include_background,
        )?;
        let mut statistics = statistics.whole();
        if !self.config.include_background {
            statistics = statistics.without_background();
        }
        if self.config.batch {
            statistics = statistics.merge_images();
        }
        let errors = statistics.fp + statistics.fn_;
        let loss = errors.clone() / (statistics.tp * 2.0 + errors + self.config.smooth);
        Ok(match &self.config.class_weights {
            None => loss.mean(),
            Some(weights) => {
                let weights = if self.config.include_background {
                    &weights[..]
                } else {
                    &weights[1..]
                };
                let sum = f64::from(weights.iter().sum::<f32>()) * loss.dims()[0] as f64;
                (loss.clone() * class_weight_tensor(weights, &loss)).sum() / sum.max(1e-12)
            }
        })
    }
}
