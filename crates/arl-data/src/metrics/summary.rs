//! Overlaps of many cases, averaged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::ser::{SerializeMap, Serializer};

use super::ClassOverlap;

/// The overlaps of one case.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CaseMetrics {
    /// The predicted label map.
    pub prediction_file: PathBuf,
    /// The label map it was compared with.
    pub reference_file: PathBuf,
    /// One entry per class; in JSON a map from label value to overlap.
    #[serde(serialize_with = "by_label")]
    pub metrics: Vec<ClassOverlap>,
}

impl CaseMetrics {
    /// Mean Dice of the foreground classes (label above 0) that this case has; `None` when it has none.
    pub fn mean_dice(&self) -> Option<f64> {
        mean(self.metrics.iter().filter(|m| m.label != 0).map(|m| m.dice))
    }
}

/// Writes overlaps as `{"1": {..}, "2": {..}}`.
fn by_label<S: Serializer>(overlaps: &[ClassOverlap], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(overlaps.len()))?;
    for overlap in overlaps {
        map.serialize_entry(&overlap.label.to_string(), overlap)?;
    }
    map.end()
}

/// Averages of the members of [`ClassOverlap`]; `None` where no case defines the value.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct MeanOverlap {
    /// Mean Dice.
    #[serde(rename = "Dice")]
    pub dice: Option<f64>,
    /// Mean intersection over union.
    #[serde(rename = "IoU")]
    pub iou: Option<f64>,
    /// Mean voxels in both maps.
    #[serde(rename = "TP")]
    pub tp: Option<f64>,
    /// Mean voxels in the prediction only.
    #[serde(rename = "FP")]
    pub fp: Option<f64>,
    /// Mean voxels in the reference only.
    #[serde(rename = "FN")]
    pub fn_: Option<f64>,
    /// Mean voxels in the prediction.
    pub n_pred: Option<f64>,
    /// Mean voxels in the reference.
    pub n_ref: Option<f64>,
}

/// All cases with their averages; serialises as nnU-Net's `summary.json`, with `null` for undefined values.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Average over the foreground classes (label above 0) of `mean`.
    pub foreground_mean: MeanOverlap,
    /// Average per label value, for each value over the cases that define it.
    pub mean: BTreeMap<u16, MeanOverlap>,
    /// The cases, in the order given.
    pub metric_per_case: Vec<CaseMetrics>,
}

/// Averages `cases`. Dice and IoU of a class that a case has in neither map are undefined and left out of the mean.
pub fn summarise(cases: Vec<CaseMetrics>) -> Summary {
    let mut of_class: BTreeMap<u16, Vec<&ClassOverlap>> = BTreeMap::new();
    for overlap in cases.iter().flat_map(|case| &case.metrics) {
        of_class.entry(overlap.label).or_default().push(overlap);
    }
    let average = |overlaps: Vec<&ClassOverlap>| {
        let over = |value: fn(&ClassOverlap) -> Option<f64>| {
            mean(overlaps.iter().map(|overlap| value(overlap)))
        };
        MeanOverlap {
            dice: over(|o| o.dice),
            iou: over(|o| o.iou),
            tp: over(|o| Some(o.tp as f64)),
            fp: over(|o| Some(o.fp as f64)),
            fn_: over(|o| Some(o.fn_ as f64)),
            n_pred: over(|o| Some(o.n_pred as f64)),
            n_ref: over(|o| Some(o.n_ref as f64)),
        }
    };
    let per_class: BTreeMap<u16, MeanOverlap> = of_class
        .into_iter()
        .map(|(label, overlaps)| (label, average(overlaps)))
        .collect();
    let foreground = |value: fn(&MeanOverlap) -> Option<f64>| {
        mean(
            per_class
                .iter()
                .filter(|(label, _)| **label != 0)
                .map(|(_, m)| value(m)),
        )
    };
    Summary {
        foreground_mean: MeanOverlap {
            dice: foreground(|m| m.dice),
            iou: foreground(|m| m.iou),
            tp: foreground(|m| m.tp),
            fp: foreground(|m| m.fp),
            fn_: foreground(|m| m.fn_),
            n_pred: foreground(|m| m.n_pred),
            n_ref: foreground(|m| m.n_ref),
        },
        mean: per_class,
        metric_per_case: cases,
    }
}

/// Mean of the values that are defined; `None` when none is.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (count, sum) = values
        .flatten()
        .fold((0u64, 0.0), |(n, sum), v| (n + 1, sum + v));
    (count > 0).then(|| sum / count as f64)
}
