use crate::region_statistics::{check, check_shapes};
use crate::scoring::{above_zero, check_option, forward};
use crate::weights::{check_class_weights, class_weight_tensor};
use crate::{
    Activation, Logits, LossError, RegionGrid, RegionStatistics, StatisticsOptions, Target, plain,
};
use burn::config::Config;
use burn::prelude::*;

/// Options of the cross entropy: the mean over the voxels that count, weighted by the class of each. With sigmoid the binary
/// cross entropy, the mean over voxels and classes.
#[derive(Config, Debug, PartialEq)]
pub struct CrossEntropyLossConfig {
    /// How logits become probabilities.
    #[config(default = "Activation::Softmax")]
    pub activation: Activation,
    /// This much of each voxel's label is spread over all classes, as PyTorch's option of that name. Softmax only.
    #[config(default = 0.0)]
    pub label_smoothing: f64,
    /// A label whose voxels count nowhere. Labels that are no class never count.
    #[config(default = "None")]
    pub ignore_index: Option<i64>,
    /// One weight per class, background included.
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

/// Cross entropy over the voxels that count, 0 where there are none; see [`CrossEntropyLossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropyLoss {
    config: CrossEntropyLossConfig,
}

forward!(CrossEntropyLoss);

impl CrossEntropyLoss {
    /// The options.
    pub fn config(&self) -> &CrossEntropyLossConfig {
        &self.config
    }

    /// The cross entropy of each voxel and class, `[N, C, D, H, W]`, unweighted and 0 where it does not count. In plain tensor
    /// operations: it takes several tensors of the size of the logits.
    ///
    /// # Errors
    /// Shapes that do not fit, or label smoothing, which this does not have.
    pub fn try_forward_no_reduction(
        &self,
        logits: impl Into<Logits>,
        target: impl Into<Target>,
    ) -> Result<Tensor<5>, LossError> {
        let (Logits(logits), target) = (logits.into(), target.into());
        check_shapes(&logits, &target)?;
        let (options, [_, _, d, h, w]) = (self.statistics_options(), logits.dims());
        let regions = RegionGrid::WHOLE.regions([d, h, w])?;
        check(&logits, &target, &regions, &options)?;
        if self.config.label_smoothing != 0.0 {
            return Err(LossError::Unsupported {
                loss: "cross entropy without reduction",
                needs: "label_smoothing = 0",
            });
        }
        Ok(plain::cross_entropy(logits, target, &options))
    }

    /// The loss of statistics taken over any regions, so that several losses can share one pass.
    ///
    /// # Errors
    /// A wrong number of class weights, label smoothing out of 0 to 1 or with sigmoid, or statistics without the further
    /// ones where they are needed (for label smoothing and sigmoid).
    pub fn from_statistics(&self, statistics: &RegionStatistics) -> Result<Tensor<1>, LossError> {
        let smoothing = self.config.label_smoothing;
        check_option("label_smoothing", smoothing, "from 0 to 1", |smoothing| {
            (0.0..=1.0).contains(&smoothing)
        })?;
        let sigmoid = self.config.activation == Activation::Sigmoid;
        if sigmoid && smoothing != 0.0 {
            return Err(LossError::Unsupported {
                loss: "label smoothing",
                needs: "softmax",
            });
        }
        let mut entropy = statistics.cross_entropy.clone();
        let [_, classes, _] = entropy.dims();
        let mut weight = statistics.labelled.clone();
        if sigmoid {
            entropy = entropy + statistics.require_further()?.other_entropy.clone();
            weight = statistics.voxels.clone();
        } else if smoothing != 0.0 {
            let spread = statistics.require_further()?.other_entropy.clone();
            entropy = entropy * (1.0 - smoothing) + spread * (smoothing / classes as f64);
        }
        if let Some(weights) = &self.config.class_weights {
            check_class_weights(Some(weights), classes, true)?;
            let weights = class_weight_tensor(weights, &entropy);
            entropy = entropy * weights.clone();
            weight = weight * weights;
        }
        let weight = weight.sum();
        // Label smoothing makes an entropy also of classes whose voxels weigh nothing.
        let some = above_zero(weight.clone());
        Ok(entropy.sum() / weight.clamp_min(1e-12) * some)
    }

    /// One: these are sums over all voxels.
    pub(crate) fn regions(&self) -> RegionGrid {
        RegionGrid::WHOLE
    }

    pub(crate) fn statistics_options(&self) -> StatisticsOptions {
        let options = StatisticsOptions::new()
            .with_activation(self.config.activation)
            .with_ignore_index(self.config.ignore_index);
        match self.config.label_smoothing {
            0.0 => options,
            _ => options.with_further(options.focal_gamma),
        }
    }
}
