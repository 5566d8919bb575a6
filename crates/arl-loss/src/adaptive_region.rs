use crate::weights::{check_class_weights, class_weight_tensor};
use crate::{LossError, RegionGrid, RegionStatistics, region_statistics};
use burn::config::Config;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the losses of the regions of one image and class become one number.
///
/// As text: `mean`, `sum`, `present`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionReduction {
    /// Mean over regions (and over images and classes). The value does not depend on how many regions there are.
    #[default]
    Mean,
    /// Sum over regions, then the mean over images and classes, as the paper's text reads.
    Sum,
    /// Mean over the regions in which the class occurs, then over the classes (and images) that occur.
    ///
    /// With many classes, nearly all pairs of class and region are empty and already right; in a plain mean they
    /// take most of the weight. Here a class of one region counts as much as one that fills the volume. A false
    /// positive in a region that lacks the class counts where it is a false negative of the true class: without
    /// background, not at all where that is the true class, so that cross entropy is needed beside it.
    Present,
}

impl RegionReduction {
    /// The names that [`FromStr`] reads and [`Display`](fmt::Display) writes.
    pub const NAMES: [&str; 3] = ["mean", "sum", "present"];

    /// The name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for RegionReduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RegionReduction {
    type Err = LossError;

    fn from_str(name: &str) -> Result<Self, LossError> {
        let all = [Self::Mean, Self::Sum, Self::Present];
        let found = all.into_iter().find(|reduction| reduction.name() == name);
        found.ok_or_else(|| LossError::UnknownReduction {
            name: name.to_owned(),
            known: Self::NAMES.join(", "),
        })
    }
}

/// Options of the adaptive region-specific loss (Chen et al., TPAMI 45(11), 2023).
///
/// For each image, class and region, with TP, FP and FN as means over the region's labelled voxels:
///
/// ```text
/// alpha = a + b·(FP+s)/(FP+FN+s)      beta = a + b·(FN+s)/(FP+FN+s)
/// loss  = 1 − (TP+s)/(TP + alpha·FP + beta·FN + s)
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct AdaptiveRegionLossConfig {
    /// How the volume is cut into regions.
    #[config(default = "RegionGrid::Size([16, 16, 16])")]
    pub regions: RegionGrid,
    /// Least weight of false positives and of false negatives.
    #[config(default = 0.3)]
    pub a: f64,
    /// What is shared out between false positives and false negatives by their shares of the error.
    #[config(default = 0.4)]
    pub b: f64,
    /// `s` above. Errors much smaller than this share of a region's voxels count as none.
    #[config(default = 1e-5)]
    pub smooth: f64,
    /// Whether class 0 is scored. Without it, and without cross entropy beside it, a confident false positive
    /// in a region that lacks the class is hardly pushed at all.
    #[config(default = true)]
    pub include_background: bool,
    /// Merge the images of a batch before the loss, region by region, instead of scoring each image.
    #[config(default = false)]
    pub batch: bool,
    /// How regions are put together.
    #[config(default = "RegionReduction::Mean")]
    pub reduction: RegionReduction,
    /// Treat alpha and beta as constants in the backward pass: same value, other gradient.
    #[config(default = false)]
    pub detach_coefficients: bool,
    /// A label whose voxels count nowhere. Labels outside `0..C` never count.
    #[config(default = "None")]
    pub ignore_index: Option<i64>,
    /// One weight per class, background included; the loss is the weighted mean over classes.
    #[config(default = "None")]
    pub class_weights: Option<Vec<f32>>,
}

impl AdaptiveRegionLossConfig {
    /// The loss with these options.
    pub fn init(&self) -> AdaptiveRegionLoss {
        AdaptiveRegionLoss {
            config: self.clone(),
        }
    }
}

impl Default for AdaptiveRegionLossConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The adaptive region-specific loss; see [`AdaptiveRegionLossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptiveRegionLoss {
    config: AdaptiveRegionLossConfig,
}

/// The loss, region by region: each tensor is `[N, C, K]`, without gradient. `N` is 1 with `batch`, and `C` is
/// one less without background. Regions without a labelled voxel read 0.
#[derive(Debug, Clone)]
pub struct RegionReport {
    /// Weight of false positives.
    pub alpha: Tensor<3>,
    /// Weight of false negatives.
    pub beta: Tensor<3>,
    /// True positives, mean over the region's labelled voxels.
    pub tp: Tensor<3>,
    /// False positives, mean over the region's labelled voxels.
    pub fp: Tensor<3>,
    /// False negatives, mean over the region's labelled voxels.
    pub fn_: Tensor<3>,
    /// Loss of the region.
    pub loss: Tensor<3>,
}

/// What [`AdaptiveRegionLoss::score`] finds.
struct Scores {
    report: RegionReport,
    /// 1 where the region has a labelled voxel, `[N, 1, K]`.
    present: Tensor<3>,
    /// 1 where the region has a voxel of the class, `[N, C, K]`.
    occurs: Tensor<3>,
}

impl AdaptiveRegionLoss {
    /// The options.
    pub fn config(&self) -> &AdaptiveRegionLossConfig {
        &self.config
    }

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
    /// Shapes that do not fit, a region grid that does not fit the volume, a wrong number of class weights.
    pub fn try_forward(
        &self,
        logits: Tensor<5>,
        labels: Tensor<4, Int>,
    ) -> Result<Tensor<1>, LossError> {
        let statistics = self.statistics(logits, labels)?;
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
        let Scores {
            report,
            present,
            occurs,
        } = self.score(statistics);
        let [n, c, _] = report.loss.dims();

        let weights = match &self.config.class_weights {
            Some(weights) if self.config.include_background => weights.clone(),
            Some(weights) => weights[1..].to_vec(),
            None => vec![1.0; c],
        };
        let weight_sum = f64::from(weights.iter().sum::<f32>());
        let weights = class_weight_tensor(&weights, &report.loss);
        Ok(match self.config.reduction {
            RegionReduction::Mean => {
                let total = (report.loss * weights).sum();
                total / (present.sum() * weight_sum).clamp_min(1e-12)
            }
            RegionReduction::Sum => {
                (report.loss * weights).sum() / (n as f64 * weight_sum).max(1e-12)
            }
            RegionReduction::Present => {
                let regions = occurs.clone().sum_dim(2);
                let classes = regions.clone().clamp_max(1.0) * weights;
                let mean = (report.loss * occurs).sum_dim(2) / regions.clamp_min(1.0);
                (mean * classes.clone()).sum() / classes.sum().clamp_min(1e-12)
            }
        })
    }

    /// Alpha, beta, the statistics and the loss of each region, without gradient: for pictures and diagnosis.
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward).
    pub fn region_report(
        &self,
        logits: Tensor<5>,
        labels: Tensor<4, Int>,
    ) -> Result<RegionReport, LossError> {
        let statistics = self.statistics(logits.detach(), labels)?;
        check_class_weights(
            None,
            statistics.tp.dims()[1],
            self.config.include_background,
        )?;
        Ok(self.score(&statistics).report)
    }

    fn statistics(
        &self,
        logits: Tensor<5>,
        labels: Tensor<4, Int>,
    ) -> Result<RegionStatistics, LossError> {
        let [_, _, d, h, w] = logits.dims();
        let regions = self.config.regions.regions([d, h, w])?;
        region_statistics(logits, labels, &regions, self.config.ignore_index)
    }

    fn score(&self, statistics: &RegionStatistics) -> Scores {
        let AdaptiveRegionLossConfig {
            a, b, smooth: s, ..
        } = self.config;
        let images = statistics.tp.dims()[0] as f64;
        let voxels = statistics.voxels();
        let mut statistics = statistics.clone();
        if !self.config.include_background {
            statistics = statistics.without_background();
        }
        // Where nothing is ignored, a merged mean is the sum of the images' means, as in the public implementation.
        let (voxels, scale) = if self.config.batch {
            statistics = statistics.merge_images();
            (voxels.sum_dim(0), images)
        } else {
            (voxels, 1.0)
        };
        let present = voxels.clone().clamp_max(1.0);
        let per_voxel = voxels.clamp_min(1.0).recip() * scale;
        let mean = |sums: Tensor<3>| sums * per_voxel.clone();
        let (tp, fp, fn_) = (
            mean(statistics.tp),
            mean(statistics.fp),
            mean(statistics.fn_),
        );

        let errors = fp.clone() + fn_.clone() + s;
        let mut alpha = (fp.clone() + s) / errors.clone() * b + a;
        let mut beta = (fn_.clone() + s) / errors * b + a;
        if self.config.detach_coefficients {
            alpha = alpha.detach();
            beta = beta.detach();
        }
        // 1 − (TP+s)/(TP+E+s) = E/(TP+E+s), which keeps its digits where the loss is small.
        let penalty = alpha.clone() * fp.clone() + beta.clone() * fn_.clone();
        let loss = penalty.clone() / (tp.clone() + penalty + s) * present.clone();
        let (alpha, beta) = (alpha * present.clone(), beta * present.clone());
        Scores {
            report: RegionReport {
                alpha,
                beta,
                tp,
                fp,
                fn_,
                loss,
            },
            present,
            occurs: statistics.labelled.clamp_max(1.0),
        }
    }
}
