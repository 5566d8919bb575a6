use crate::LossError;
use crate::scoring::above_zero;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the losses of images, classes and regions become one number.
///
/// As text: `mean`, `sum`, `present`, `total`. For the losses one by one there is `forward_no_reduction`.
///
/// With many classes nearly all pairs of class and region are empty, and the published mean gives each pair the same weight.
/// For 23 classes on 4³ regions, of which each foreground class has half of one and background the rest, all predicted as
/// background with p = 0.9: 86 of the 1472 pairs have their class, and of the loss's value 2.4 % is theirs. How hard the loss
/// pushes the logits of one class up within its own region (minus the sum of the derivatives):
///
/// | loss | push |
/// |---|---|
/// | adaptive, `mean` | 4.52e-6 |
/// | adaptive, `sum` | 2.89e-4 |
/// | adaptive, `present` | 2.80e-4 |
/// | adaptive, `mean`, [false positives](crate::EmptyRegions::FalsePositives) in empty regions | 4.61e-6 |
/// | adaptive, `present`, false positives in empty regions | 2.99e-4 |
/// | Dice, background included | 2.47e-4 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionReduction {
    /// Mean over regions (and over images and classes), as the published code has it. The value does not depend on how many
    /// regions there are.
    #[default]
    Mean,
    /// Sum over regions, then the mean over images and classes, as the paper's text and its first public code have it.
    Sum,
    /// Mean over the regions in which the class occurs, then over the classes (and images) that occur.
    ///
    /// With many classes, nearly all pairs of class and region are empty and already right; in a plain mean they
    /// take most of the weight. Here a class of one region counts as much as one that fills the volume. A false
    /// positive in a region that lacks the class counts where it is a false negative of the true class: without
    /// background, not at all where that is the true class, so that cross entropy is needed beside it. To make it count
    /// with its own class, see [`EmptyRegions::FalsePositives`](crate::EmptyRegions::FalsePositives).
    Present,
    /// Sum over images, classes and regions, as MONAI's `reduction="sum"`.
    Total,
}

impl RegionReduction {
    /// The names that [`FromStr`] reads and [`Display`](fmt::Display) writes.
    pub const NAMES: [&str; 4] = ["mean", "sum", "present", "total"];

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
        let all = [Self::Mean, Self::Sum, Self::Present, Self::Total];
        let found = all.into_iter().find(|reduction| reduction.name() == name);
        found.ok_or_else(|| LossError::UnknownReduction {
            name: name.to_owned(),
            known: Self::NAMES.join(", "),
        })
    }
}

/// Losses of images, classes and regions, `[N, C, K]` each; 0 where a region has no voxel.
pub(crate) struct Losses {
    pub loss: Tensor<3>,
    /// 1 where the region has a voxel that counts, `[N, C or 1, K]`.
    pub present: Tensor<3>,
    /// 1 where the region has some of the class.
    pub occurs: Tensor<3>,
    /// Whether [`RegionReduction::Present`] adds the losses of the regions that the class does not occur in.
    pub add_empty: bool,
}

impl Losses {
    /// The loss, with weights `[1, C, 1]`.
    pub fn reduce(self, reduction: RegionReduction, weights: Tensor<3>) -> Tensor<1> {
        let Self {
            loss,
            present,
            occurs,
            add_empty,
        } = self;
        let [images, classes, regions] = loss.dims();
        let weighted = loss.clone() * weights.clone();
        match reduction {
            RegionReduction::Mean => {
                let present = present.expand([images, classes, regions]);
                weighted.sum() / (present * weights).sum().clamp_min(1e-12)
            }
            RegionReduction::Sum => {
                weighted.sum() / (weights.sum() * images as f64).clamp_min(1e-12)
            }
            RegionReduction::Total => weighted.sum(),
            RegionReduction::Present => {
                let of_class = occurs.clone().sum_dim(2);
                let occurring = (of_class.clone().clamp_max(1.0) * weights.clone()).sum();
                // Where no class occurs, what is added for empty regions is a mean over all images and classes.
                let none = -above_zero(occurring.clone()) + 1.0;
                let all = occurring + none * (weights.clone().sum() * images as f64);
                let loss = if add_empty { loss } else { loss * occurs };
                // One sum over all pairs, each with its share: sums over regions of which the quotient is taken lose the
                // divisor in Burn's fusion on GPUs.
                let shares = of_class.clamp_min(1.0).recip() * weights;
                let shares = shares.expand([images, classes, regions]);
                (loss * shares).sum() / all.clamp_min(1e-12)
            }
        }
    }
}
