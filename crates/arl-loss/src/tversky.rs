use crate::scoring::{check_option, scored};
use crate::{
    Activation, LossError, RegionGrid, RegionReduction, RegionStatistics, StatisticsOptions,
};
use burn::config::Config;
use burn::prelude::*;

/// Options of the Tversky loss (Salehi 2017): for each image, class and region
/// `(1 − (TP + s)/(TP + alpha·FP + beta·FN + s))^exponent`.
///
/// - `alpha = beta = 0.5` is Dice (with twice its smoothing), `alpha = beta = 1` [Jaccard](Self::jaccard), whose
///   smoothing MONAI counts half.
/// - With more than one region: the region-specific loss with fixed penalties, of which the adaptive one lets the
///   errors choose.
/// - With an exponent of 0.75: the [focal](Self::focal) Tversky loss (Abraham and Khan 2019, whose 1/γ it is).
#[derive(Config, Debug, PartialEq)]
pub struct TverskyLossConfig {
    /// How the volume is cut into regions.
    #[config(default = "RegionGrid::WHOLE")]
    pub regions: RegionGrid,
    /// Weight of false positives.
    #[config(default = 0.3)]
    pub alpha: f64,
    /// Weight of false negatives.
    #[config(default = 0.7)]
    pub beta: f64,
    /// Below 1 the gradient grows where a class is nearly right, above 1 where it is all wrong. Below 1, losses under 1e-7
    /// count as 1e-7 and have no gradient, which would be infinite at 0: a perfect prediction costs `1e-7^exponent`.
    #[config(default = 1.0)]
    pub exponent: f64,
    /// `s` above, in voxels.
    #[config(default = 1e-5)]
    pub smooth: f64,
    /// How logits become probabilities.
    #[config(default = "Activation::Softmax")]
    pub activation: Activation,
    /// Whether class 0 is scored. A single sigmoid channel always is.
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

impl TverskyLossConfig {
    /// The soft Jaccard loss, 1 less intersection over union: both penalties 1.
    pub fn jaccard() -> Self {
        Self::new().with_alpha(1.0).with_beta(1.0)
    }

    /// The focal Tversky loss: the exponent 0.75.
    pub fn focal() -> Self {
        Self::new().with_exponent(0.75)
    }

    /// The loss with these options.
    pub fn init(&self) -> TverskyLoss {
        TverskyLoss {
            config: self.clone(),
        }
    }
}

impl Default for TverskyLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The Tversky loss, from 0 (perfect) to 1; see [`TverskyLossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct TverskyLoss {
    config: TverskyLossConfig,
}

scored!(TverskyLoss, TverskyLossConfig);

impl TverskyLoss {
    pub(crate) fn statistics_options(&self) -> StatisticsOptions {
        StatisticsOptions::new()
            .with_activation(self.config.activation)
            .with_ignore_index(self.config.ignore_index)
    }

    fn score(&self, selected: &RegionStatistics) -> Result<Tensor<3>, LossError> {
        let TverskyLossConfig {
            alpha,
            beta,
            exponent,
            smooth,
            ..
        } = self.config;
        check_option("alpha", alpha, "0 or more", |alpha| alpha >= 0.0)?;
        check_option("beta", beta, "0 or more", |beta| beta >= 0.0)?;
        check_option("exponent", exponent, "above 0", |exponent| exponent > 0.0)?;
        check_option("smooth", smooth, "above 0", |smooth| smooth > 0.0)?;
        let penalty = selected.fp.clone() * alpha + selected.fn_.clone() * beta;
        let loss = penalty.clone() / (selected.tp.clone() + penalty + smooth);
        Ok(match exponent {
            1.0 => loss,
            exponent => loss.clamp_min(1e-7).powf_scalar(exponent),
        })
    }
}
