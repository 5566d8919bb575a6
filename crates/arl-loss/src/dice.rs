use crate::scoring::{check_option, scored};
use crate::{
    Activation, LossError, RegionGrid, RegionReduction, RegionStatistics, StatisticsOptions,
};
use burn::config::Config;
use burn::prelude::*;

/// Options of the soft Dice loss: for each image, class and region `1 − (2·Σp·g + s)/(Σp + Σg + s)`.
///
/// With one region, the default, this is the Dice loss of nnU-Net and MONAI; with more it is the region-Dice, the
/// region-specific loss with fixed and equal penalties.
#[derive(Config, Debug, PartialEq)]
pub struct DiceLossConfig {
    /// How the volume is cut into regions.
    #[config(default = "RegionGrid::WHOLE")]
    pub regions: RegionGrid,
    /// Squares in the denominator, `Σp² + Σg²`, as in V-Net (Milletari 2016). Near 0 this loss is exact to 1e-7 only, and may
    /// fall below 0 by as much.
    #[config(default = false)]
    pub squared_denominator: bool,
    /// `s` above, in voxels.
    #[config(default = 1e-5)]
    pub smooth: f64,
    /// How logits become probabilities.
    #[config(default = "Activation::Softmax")]
    pub activation: Activation,
    /// Whether class 0 is scored. nnU-Net leaves it out. A single sigmoid channel always is.
    #[config(default = false)]
    pub include_background: bool,
    /// Score all images of the batch as one.
    #[config(default = false)]
    pub batch: bool,
    /// How images, classes and regions are put together.
    #[config(default = "RegionReduction::Mean")]
    pub reduction: RegionReduction,
    /// A label whose voxels count nowhere. Labels that are no class never count.
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

scored!(DiceLoss, DiceLossConfig);

impl DiceLoss {
    pub(crate) fn statistics_options(&self) -> StatisticsOptions {
        let options = StatisticsOptions::new()
            .with_activation(self.config.activation)
            .with_ignore_index(self.config.ignore_index);
        match self.config.squared_denominator {
            true => options.with_further(options.focal_gamma),
            false => options,
        }
    }

    fn score(&self, selected: &RegionStatistics) -> Result<Tensor<3>, LossError> {
        let s = self.config.smooth;
        check_option("smooth", s, "above 0", |s| s > 0.0)?;
        let twice = selected.tp.clone() * 2.0;
        Ok(if self.config.squared_denominator {
            let further = selected.require_further()?;
            let sizes = further.squares.clone() + further.target_squares.clone();
            (sizes.clone() - twice) / (sizes + s)
        } else {
            let errors = selected.fp.clone() + selected.fn_.clone();
            errors.clone() / (twice + errors + s)
        })
    }
}
