//! The scores of many cases, averaged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{Metric, Scores, Structure};

/// The scores of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseScores {
    /// The predicted label map.
    pub prediction_file: PathBuf,
    /// The label map it was compared with.
    pub reference_file: PathBuf,
    /// One entry per structure; in JSON a map from label or region to scores.
    #[serde(serialize_with = "as_map")]
    pub metrics: Vec<(Structure, Scores)>,
}

impl CaseScores {
    /// Mean of a metric's finite values over the structures, background left out; `None` when there is none.
    pub fn mean(&self, metric: Metric) -> Option<f64> {
        let foreground = self.metrics.iter().filter(|(s, _)| !s.is_background());
        mean(foreground.map(|(_, scores)| scores.value(metric)))
    }
}

/// Averages over cases, or over structures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MeanScores {
    /// For each metric the mean of its finite values; `None` where there is none.
    #[serde(flatten)]
    pub values: BTreeMap<Metric, Option<f64>>,
    /// Mean voxels in both maps.
    #[serde(rename = "TP")]
    pub tp: f64,
    /// Mean voxels in the prediction only.
    #[serde(rename = "FP")]
    pub fp: f64,
    /// Mean voxels in the reference only.
    #[serde(rename = "FN")]
    pub fn_: f64,
    /// Mean voxels in neither map.
    #[serde(rename = "TN")]
    pub tn: f64,
    /// Mean voxels in the prediction.
    pub n_pred: f64,
    /// Mean voxels in the reference.
    pub n_ref: f64,
    /// Cases where neither map has the structure: no mean but that of the volume error holds them.
    pub absent: usize,
    /// Cases where only the reference has it: the mean of no distance holds them.
    pub missed: usize,
    /// Cases where only the prediction has it: no mean of a distance or of the relative volume error holds them.
    pub spurious: usize,
}

impl MeanScores {
    /// The mean of a metric; `None` where it has no finite value or was not asked for.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.values.get(&metric).copied().flatten()
    }

    fn of_cases(cases: &[&Scores]) -> Self {
        let count = |of: fn(&Scores) -> bool| cases.iter().filter(|scores| of(scores)).count();
        let voxels = |of: fn(&Scores) -> u64| {
            cases.iter().map(|scores| of(scores) as f64).sum::<f64>() / cases.len() as f64
        };
        let metrics = cases.iter().flat_map(|scores| scores.values.keys());
        let over_cases = |metric| mean(cases.iter().map(|scores| scores.value(metric)));
        Self {
            values: metrics
                .map(|&metric| (metric, over_cases(metric)))
                .collect(),
            tp: voxels(|s| s.tp),
            fp: voxels(|s| s.fp),
            fn_: voxels(|s| s.fn_),
            tn: voxels(|s| s.tn),
            n_pred: voxels(|s| s.n_pred),
            n_ref: voxels(|s| s.n_ref),
            absent: count(|s| s.n_pred == 0 && s.n_ref == 0),
            missed: count(|s| s.n_pred == 0 && s.n_ref > 0),
            spurious: count(|s| s.n_pred > 0 && s.n_ref == 0),
        }
    }

    fn of_structures(structures: &[&Self]) -> Self {
        let count = |of: fn(&Self) -> usize| structures.iter().map(|mean| of(mean)).sum();
        let average = |of: fn(&Self) -> f64| {
            mean(structures.iter().map(|mean| Some(of(mean)))).unwrap_or_default()
        };
        let metrics = structures.iter().flat_map(|mean| mean.values.keys());
        let over_structures = |metric| mean(structures.iter().map(|mean| mean.value(metric)));
        Self {
            values: metrics
                .map(|&metric| (metric, over_structures(metric)))
                .collect(),
            tp: average(|m| m.tp),
            fp: average(|m| m.fp),
            fn_: average(|m| m.fn_),
            tn: average(|m| m.tn),
            n_pred: average(|m| m.n_pred),
            n_ref: average(|m| m.n_ref),
            absent: count(|m| m.absent),
            missed: count(|m| m.missed),
            spurious: count(|m| m.spurious),
        }
    }
}

/// All cases with their averages; serialises in the form of nnU-Net's `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Average over `mean`, background left out: every structure counts the same. The numbers of cases are sums.
    pub foreground_mean: MeanScores,
    /// Average over the cases, per structure; in JSON a map from label or region.
    #[serde(serialize_with = "as_map")]
    pub mean: Vec<(Structure, MeanScores)>,
    /// The tolerance in mm of the normalised surface Dice, per structure.
    pub tolerance_mm: BTreeMap<String, f64>,
    /// The cases, in the order given.
    pub metric_per_case: Vec<CaseScores>,
}

/// Averages `cases`, which all have the same structures in the same order.
pub fn summarise(cases: Vec<CaseScores>) -> Summary {
    let structures = cases.first().map_or(&[][..], |case| &case.metrics);
    let mean: Vec<(Structure, MeanScores)> = structures
        .iter()
        .map(|(structure, _)| {
            let of_structure = cases.iter().flat_map(|case| &case.metrics);
            let scores: Vec<&Scores> = of_structure
                .filter(|(other, _)| other == structure)
                .map(|(_, scores)| scores)
                .collect();
            (structure.clone(), MeanScores::of_cases(&scores))
        })
        .collect();
    let foreground = mean
        .iter()
        .filter(|(structure, _)| !structure.is_background());
    let foreground: Vec<&MeanScores> = foreground.map(|(_, mean)| mean).collect();
    Summary {
        foreground_mean: MeanScores::of_structures(&foreground),
        tolerance_mm: structures
            .iter()
            .map(|(structure, _)| (structure.to_string(), structure.tolerance))
            .collect(),
        mean,
        metric_per_case: cases,
    }
}

/// Writes `{"1": {..}, "(1, 2)": {..}}`.
fn as_map<T: Serialize, S: Serializer>(
    entries: &[(Structure, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (structure, scores) in entries {
        map.serialize_entry(&structure.to_string(), scores)?;
    }
    map.end()
}

/// Mean of the values that are defined and finite; `None` when none is.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (count, sum) = values
        .flatten()
        .filter(|value| value.is_finite())
        .fold((0u64, 0.0), |(n, sum), v| (n + 1, sum + v));
    (count > 0).then(|| sum / count as f64)
}
