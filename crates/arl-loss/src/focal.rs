use crate::scoring::forward;
use crate::weights::{check_class_weights, class_weight_tensor};
use crate::{Activation, LossError, RegionGrid, RegionStatistics, StatisticsOptions};
use burn::config::Config;
use burn::prelude::*;

/// Options of the focal loss (Lin 2017): the cross entropy, each term times `(1 − p)^gamma` of what should have been 1, so that
/// voxels that are right count less. With softmax the mean over voxels, with sigmoid over voxels and classes. (MONAI also
/// divides by the classes with softmax.)
#[derive(Config, Debug, PartialEq)]
pub struct FocalLossConfig {
    /// The exponent; 0 is the cross entropy.
    #[config(default = 2.0)]
    pub gamma: f64,
    /// How logits become probabilities.
    #[config(default = "Activation::Softmax")]
    pub activation: Activation,
    /// A label whose voxels count nowhere. Labels that are no class never count.
    #[config(default = "None")]
    pub ignore_index: Option<i64>,
    /// One factor per class, background included, for its part of the loss. Not normalised, as the `alpha` of the paper:
    /// that is `[1 − alpha, alpha]` of background and foreground.
    #[config(default = "None")]
    pub class_weights: Option<Vec<f32>>,
}

impl FocalLossConfig {
    /// The loss with these options.
    pub fn init(&self) -> FocalLoss {
        FocalLoss {
            config: self.clone(),
        }
    }
}

impl Default for FocalLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The focal loss, 0 where no voxel counts; see [`FocalLossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct FocalLoss {
    config: FocalLossConfig,
}

forward!(FocalLoss);

impl FocalLoss {
    /// The options.
    pub fn config(&self) -> &FocalLossConfig {
        &self.config
    }

    /// The loss of statistics taken over any regions, with this loss's exponent, so that several losses can share one pass.
    ///
    /// # Errors
    /// A wrong number of class weights, or statistics without the further ones.
    pub fn from_statistics(&self, statistics: &RegionStatistics) -> Result<Tensor<1>, LossError> {
        let mut focal = statistics.require_further()?.focal.clone();
        if let Some(weights) = &self.config.class_weights {
            check_class_weights(Some(weights), focal.dims()[1], true)?;
            focal = focal.clone() * class_weight_tensor(weights, &focal);
        }
        Ok(focal.sum() / statistics.voxels.clone().sum().clamp_min(1e-12))
    }

    /// One: these are sums over all voxels.
    pub(crate) fn regions(&self) -> RegionGrid {
        RegionGrid::WHOLE
    }

    pub(crate) fn statistics_options(&self) -> StatisticsOptions {
        StatisticsOptions::new()
            .with_activation(self.config.activation)
            .with_ignore_index(self.config.ignore_index)
            .with_further(self.config.gamma)
    }
}
