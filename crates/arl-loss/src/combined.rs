use crate::{
    AdaptiveRegionLoss, AdaptiveRegionLossConfig, CrossEntropyLoss, CrossEntropyLossConfig,
    DiceLoss, DiceLossConfig, LossError, RegionGrid, RegionReduction, RegionStatistics, Regions,
    region_statistics,
};
use burn::config::Config;
use burn::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A loss by name: one criterion, or an unweighted sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum LossKind {
    /// The adaptive region-specific loss.
    Arl,
    /// The adaptive region-specific loss and cross entropy.
    ArlCe,
    /// Dice.
    Dice,
    /// Dice and cross entropy, as in nnU-Net.
    DiceCe,
    /// Cross entropy.
    Ce,
    /// All three.
    ArlDiceCe,
}

impl LossKind {
    /// All losses, in the order of [`NAMES`](Self::NAMES).
    pub const ALL: [LossKind; 6] = [
        Self::Arl,
        Self::ArlCe,
        Self::Dice,
        Self::DiceCe,
        Self::Ce,
        Self::ArlDiceCe,
    ];
    /// The names that [`FromStr`] reads and [`Display`](fmt::Display) writes.
    pub const NAMES: [&str; 6] = ["arl", "arl+ce", "dice", "dice+ce", "ce", "arl+dice+ce"];

    /// The name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for LossKind {
    type Err = LossError;

    fn from_str(name: &str) -> Result<Self, LossError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| LossError::UnknownLoss {
            name: name.to_owned(),
            known: Self::NAMES.join(", "),
        })
    }
}

impl From<LossKind> for String {
    fn from(kind: LossKind) -> Self {
        kind.name().to_owned()
    }
}

impl TryFrom<String> for LossKind {
    type Error = LossError;

    fn try_from(name: String) -> Result<Self, LossError> {
        name.parse()
    }
}

/// A weighted sum of the adaptive region-specific loss, Dice and cross entropy, computed in one pass over the
/// logits. A weight of 0 leaves the term out.
#[derive(Config, Debug, PartialEq)]
pub struct LossConfig {
    /// Weight of the adaptive region-specific loss.
    #[config(default = 0.0)]
    pub arl_weight: f64,
    /// Weight of the Dice loss.
    #[config(default = 0.0)]
    pub dice_weight: f64,
    /// Weight of the cross entropy.
    #[config(default = 0.0)]
    pub ce_weight: f64,
    /// Options of the adaptive region-specific loss.
    #[config(default = "AdaptiveRegionLossConfig::new()")]
    pub arl: AdaptiveRegionLossConfig,
    /// Options of the Dice loss.
    #[config(default = "DiceLossConfig::new()")]
    pub dice: DiceLossConfig,
    /// Options of the cross entropy.
    #[config(default = "CrossEntropyLossConfig::new()")]
    pub ce: CrossEntropyLossConfig,
    /// A label whose voxels count nowhere. The terms share one pass, so this holds for all of them, whatever
    /// their own options say.
    #[config(default = "None")]
    pub ignore_index: Option<i64>,
}

impl LossConfig {
    /// The loss of that name, each of its terms with weight 1 and default options.
    pub fn of(kind: LossKind) -> Self {
        let (arl, dice, ce) = match kind {
            LossKind::Arl => (1.0, 0.0, 0.0),
            LossKind::ArlCe => (1.0, 0.0, 1.0),
            LossKind::Dice => (0.0, 1.0, 0.0),
            LossKind::DiceCe => (0.0, 1.0, 1.0),
            LossKind::Ce => (0.0, 0.0, 1.0),
            LossKind::ArlDiceCe => (1.0, 1.0, 1.0),
        };
        Self::new()
            .with_arl_weight(arl)
            .with_dice_weight(dice)
            .with_ce_weight(ce)
    }

    /// The same with these regions for the adaptive region-specific loss.
    pub fn with_regions(mut self, regions: RegionGrid) -> Self {
        self.arl.regions = regions;
        self
    }

    /// The same with this reduction over the regions of the adaptive region-specific loss.
    pub fn with_region_reduction(mut self, reduction: RegionReduction) -> Self {
        self.arl.reduction = reduction;
        self
    }

    /// The loss with these options.
    pub fn init(&self) -> Loss {
        Loss {
            arl: self.arl.init(),
            dice: self.dice.init(),
            ce: self.ce.init(),
            config: self.clone(),
        }
    }
}

/// A weighted sum of losses; see [`LossConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    config: LossConfig,
    arl: AdaptiveRegionLoss,
    dice: DiceLoss,
    ce: CrossEntropyLoss,
}

impl Loss {
    /// The options.
    pub fn config(&self) -> &LossConfig {
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
    /// Shapes or a region grid that do not fit, or a wrong number of class weights.
    pub fn try_forward(
        &self,
        logits: Tensor<5>,
        labels: Tensor<4, Int>,
    ) -> Result<Tensor<1>, LossError> {
        let [_, _, d, h, w] = logits.dims();
        let regions = self.regions([d, h, w])?;
        Ok(self.forward_regions(logits, labels, &regions)?.0)
    }

    /// The regions that a volume of `shape` `[D, H, W]` is cut into: one, if no term needs more.
    pub(crate) fn regions(&self, shape: [usize; 3]) -> Result<Regions, LossError> {
        let grid = if self.config.arl_weight == 0.0 {
            RegionGrid::WHOLE
        } else {
            self.config.arl.regions
        };
        grid.regions(shape)
    }

    /// The loss, and the statistics that it was computed from.
    pub(crate) fn forward_regions(
        &self,
        logits: Tensor<5>,
        labels: Tensor<4, Int>,
        regions: &Regions,
    ) -> Result<(Tensor<1>, RegionStatistics), LossError> {
        let (device, dtype) = (logits.device(), logits.dtype());
        let statistics = region_statistics(logits, labels, regions, self.config.ignore_index)?;
        let mut total: Option<Tensor<1>> = None;
        let mut add = |weight: f64, term: Tensor<1>| {
            let term = term * weight;
            total = Some(match total.take() {
                Some(total) => total + term,
                None => term,
            });
        };
        if self.config.arl_weight != 0.0 {
            add(
                self.config.arl_weight,
                self.arl.from_statistics(&statistics)?,
            );
        }
        if self.config.dice_weight != 0.0 {
            add(
                self.config.dice_weight,
                self.dice.from_statistics(&statistics)?,
            );
        }
        if self.config.ce_weight != 0.0 {
            add(self.config.ce_weight, self.ce.from_statistics(&statistics)?);
        }
        let total = total.unwrap_or_else(|| Tensor::zeros([1], (&device, dtype)));
        Ok((total, statistics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (kind, name) in LossKind::ALL.into_iter().zip(LossKind::NAMES) {
            assert_eq!(kind.to_string(), name);
            assert_eq!(name.parse::<LossKind>().unwrap(), kind);
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<LossKind>(&json).unwrap(), kind);
        }
        let error = "tversky".parse::<LossKind>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown loss `tversky`; known: arl, arl+ce, dice, dice+ce, ce, arl+dice+ce"
        );
    }

    #[test]
    fn options_round_trip_through_json() {
        let config = LossConfig::of(LossKind::ArlCe)
            .with_regions(RegionGrid::count([2, 3, 4]))
            .with_ignore_index(Some(9));
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<LossConfig>(&json).unwrap(), config);
    }
}
