use crate::region_statistics::{check, check_shapes, voxel_cross_entropy};
use crate::scoring::check_option;
use crate::{Logits, LossError, RegionGrid, StatisticsOptions, Target, region_statistics};
use burn::config::Config;
use burn::prelude::*;

/// Options of the top-k cross entropy (Wu 2016): the mean over the voxels with the largest cross entropy, as nnU-Net's
/// variants Topk10 and DiceTopK10 have it. Softmax against class indices. Voxels that tie for the last
/// places share them.
#[derive(Config, Debug, PartialEq)]
pub struct TopKCrossEntropyLossConfig {
    /// Which share of all voxels of the batch counts, ignored ones among them. Rounded down, at least one voxel.
    #[config(default = 0.1)]
    pub share: f64,
    /// A label whose voxels count nowhere. Labels that are no class never count.
    #[config(default = "None")]
    pub ignore_index: Option<i64>,
}

impl TopKCrossEntropyLossConfig {
    /// The loss with these options.
    pub fn init(&self) -> TopKCrossEntropyLoss {
        TopKCrossEntropyLoss {
            config: self.clone(),
        }
    }
}

impl Default for TopKCrossEntropyLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Cross entropy over the hardest voxels; see [`TopKCrossEntropyLossConfig`].
///
/// Takes three passes over the logits, one to find these voxels and two to score them and those that tie for the last place,
/// and tensors of the size of the labels.
#[derive(Debug, Clone, PartialEq)]
pub struct TopKCrossEntropyLoss {
    config: TopKCrossEntropyLossConfig,
}

impl TopKCrossEntropyLoss {
    /// The options.
    pub fn config(&self) -> &TopKCrossEntropyLossConfig {
        &self.config
    }

    /// Loss of `logits` `[N, C, D, H, W]` (or `[N, C, H, W]`) against class indices `[N, D, H, W]`.
    ///
    /// # Panics
    /// Where [`try_forward`](Self::try_forward) returns an error.
    pub fn forward(&self, logits: impl Into<Logits>, target: impl Into<Target>) -> Tensor<1> {
        self.try_forward(logits, target)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`forward`](Self::forward), with wrong input as an error.
    ///
    /// # Errors
    /// Shapes that do not fit, shares as target, or a share of voxels that is not above 0 and at most 1.
    pub fn try_forward(
        &self,
        logits: impl Into<Logits>,
        target: impl Into<Target>,
    ) -> Result<Tensor<1>, LossError> {
        check_option(
            "share",
            self.config.share,
            "above 0 and at most 1",
            |share| share > 0.0 && share <= 1.0,
        )?;
        let (Logits(logits), target) = (logits.into(), target.into());
        check_shapes(&logits, &target)?;
        let [_, classes, d, h, w] = logits.dims();
        let regions = RegionGrid::WHOLE.regions([d, h, w])?;
        let options = StatisticsOptions::new().with_ignore_index(self.config.ignore_index);
        check(&logits, &target, &regions, &options)?;
        let Target::Labels(labels) = target else {
            return Err(LossError::Unsupported {
                loss: "top-k cross entropy",
                needs: "class indices as target",
            });
        };
        let labels = crate::plain::wide(labels);
        let entropy = voxel_cross_entropy(logits.clone(), labels.clone(), self.config.ignore_index);
        let k = ((entropy.shape().num_elements() as f64 * self.config.share) as usize).max(1);
        let (low, high) = around_kth_largest(&entropy, k);
        // NaN and infinity compare with nothing: without this they would drop out of the loss.
        let broken = entropy.clone().max() * 0.0;
        // Voxels that tie for the last places share them.
        let above = entropy.clone().greater_equal(high);
        let tied = entropy
            .greater_equal(low)
            .bool_and(above.clone().bool_not());
        let count = |chosen: &Tensor<4, Bool>| chosen.clone().int().sum().float();
        let places = -count(&above) + k as f64;
        let share_of_tied = places / count(&tied).clamp_min(1.0);
        let sum = |chosen: Tensor<4, Bool>| -> Result<Tensor<1>, LossError> {
            // The other voxels get a label that is no class.
            let labels = labels.clone().mask_fill(chosen.bool_not(), classes as i64);
            let statistics = region_statistics(logits.clone(), labels, &regions, &options)?;
            Ok(statistics.cross_entropy.sum())
        };
        let tied = sum(tied)?;
        let tied_type = tied.dtype();
        let loss = sum(above)? + share_of_tied.cast(tied.dtype()) * tied;
        Ok(loss / k as f64 + broken.cast(tied_type))
    }
}

/// The `k`-th largest of values of at least 0, and the next larger number; `[1, 1, 1, 1]`.
///
/// By bisection on the device: Burn's top-k is wrong on some GPUs, and nothing is read back.
fn around_kth_largest(values: &Tensor<4>, k: usize) -> (Tensor<4>, Tensor<4>) {
    let largest = values.clone().max().reshape([1, 1, 1, 1]);
    // At least k values are at or above the lower bound, fewer at or above the upper.
    let (mut low, mut high) = (largest.zeros_like(), largest * 1.001 + 1e-30);
    // Enough for the bounds to be neighbours, in f64 too.
    for _ in 0..64 {
        let middle = (low.clone() + high.clone()) * 0.5;
        let count = values.clone().greater_equal(middle.clone()).int().sum();
        let enough = count.greater_equal_elem(k as i64).reshape([1, 1, 1, 1]);
        low = low.mask_where(enough.clone(), middle.clone());
        high = middle.mask_where(enough, high);
    }
    (low, high)
}
