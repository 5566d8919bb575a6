use crate::weights::{check_class_weights, class_weight_tensor};
use crate::{LossError, RegionGrid, RegionStatistics, region_statistics};
use burn::config::Config;
use burn::prelude::*;

/// Options of the cross entropy: the mean of `−ln p` of the true class over all labelled voxels of the batch.
#[derive(Config, Debug, PartialEq)]
pub struct CrossEntropyLossConfig {
    /// A label whose voxels count nowhere. Labels outside `0..C` never count.
    #[config(default = "None")]
    pub ignore_index: Option<i64>,
    /// One weight per class; the loss is then the weighted mean over voxels, as in PyTorch.
    #[config(default = "None")]
    pub class_weights: Option<Vec<f32>>,
}

impl CrossEntropyLossConfig {
    /// The loss with these options.
    pub fn init(&self) -> CrossEntropyLoss {
        CrossEntropyLoss {
            config: self.clone(),
        }
    }
}

impl Default for CrossEntropyLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Cross entropy over the labelled voxels, 0 where there are none; see [`CrossEntropyLossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropyLoss {
    config: CrossEntropyLossConfig,
}

impl CrossEntropyLoss {
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
    /// A wrong number of class weights.
    pub fn from_statistics(&self, statistics: &RegionStatistics) -> Result<Tensor<1>, LossError> {
        let mut entropy = statistics.cross_entropy.clone();
        let mut weight = statistics.labelled.clone();
        if let Some(weights) = &self.config.class_weights {
            check_class_weights(Some(weights), entropy.dims()[1], true)?;
            let weights = class_weight_tensor(weights, &entropy);
            entropy = entropy * weights.clone();
            weight = weight * weights;
        }
        Ok(entropy.sum() / weight.sum().clamp_min(1e-12))
    }
}
