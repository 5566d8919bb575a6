//! All metrics of some structures in one case.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array3, ArrayView3, s};
use rayon::prelude::*;
use serde::Serialize;

use super::extent::{Extent, extents};
use super::mask::Mask;
use super::nearest::Neighbourhood;
use super::{Metric, Structure, SurfaceDistances};

/// Two maps that cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// They differ in shape.
    #[error(
        "prediction of shape {prediction:?} against reference of shape {reference:?} (depth, height, width); resample one to the grid of the other"
    )]
    Shape {
        /// Shape of the prediction `[D, H, W]`.
        prediction: [usize; 3],
        /// Shape of the reference `[D, H, W]`.
        reference: [usize; 3],
    },
    /// The spacing is not positive and finite.
    #[error("spacing {0:?} mm (depth, height, width); give positive numbers")]
    Spacing([f64; 3]),
}

impl ScoreError {
    /// Whether two maps of these shapes can be compared.
    pub(super) fn check(
        prediction: (usize, usize, usize),
        reference: (usize, usize, usize),
        spacing: [f64; 3],
    ) -> Result<(), Self> {
        if prediction != reference {
            return Err(Self::Shape {
                prediction: prediction.into(),
                reference: reference.into(),
            });
        }
        if spacing.iter().any(|mm| !(mm.is_finite() && *mm > 0.0)) {
            return Err(Self::Spacing(spacing));
        }
        Ok(())
    }
}

/// How well one structure of a prediction agrees with the reference. Serialises in the form of nnU-Net.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// The values asked for: `None` where undefined, infinite as the [table](crate::metrics#where-a-structure-is-missing)
    /// says.
    #[serde(flatten)]
    pub values: BTreeMap<Metric, Option<f64>>,
    /// Voxels of the structure in both maps.
    #[serde(rename = "TP")]
    pub tp: u64,
    /// Voxels of the structure in the prediction only.
    #[serde(rename = "FP")]
    pub fp: u64,
    /// Voxels of the structure in the reference only.
    #[serde(rename = "FN")]
    pub fn_: u64,
    /// Voxels of the structure in neither map, ignored ones left out.
    #[serde(rename = "TN")]
    pub tn: u64,
    /// Voxels of the structure in the prediction.
    pub n_pred: u64,
    /// Voxels of the structure in the reference.
    pub n_ref: u64,
}

impl Scores {
    /// Of a structure that neither map of a case with so many voxels has.
    pub fn absent(voxels: u64, metrics: &[Metric]) -> Self {
        Self::new([0; 3], voxels, metrics, |metric| {
            (metric == Metric::VolumeError).then_some(0.0)
        })
    }

    /// From the voxels in both maps, in the prediction and in the reference, of all the voxels that count.
    fn new(
        [tp, n_pred, n_ref]: [u64; 3],
        voxels: u64,
        metrics: &[Metric],
        value: impl Fn(Metric) -> Option<f64>,
    ) -> Self {
        Self {
            values: metrics
                .iter()
                .map(|&metric| (metric, value(metric)))
                .collect(),
            tp,
            fp: n_pred - tp,
            fn_: n_ref - tp,
            tn: voxels + tp - n_pred - n_ref,
            n_pred,
            n_ref,
        }
    }

    /// The same with Dice and IoU of 1, if neither map has the structure: that both agree on its absence counts then, as with
    /// MONAI's `ignore_empty=False`. Distances stay undefined.
    pub fn with_absence_as_agreement(mut self) -> Self {
        if self.n_pred + self.n_ref == 0 {
            for metric in [Metric::Dice, Metric::Iou] {
                self.values
                    .entry(metric)
                    .and_modify(|value| *value = Some(1.0));
            }
        }
        self
    }

    /// The value of a metric; `None` where it is undefined or was not asked for.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.values.get(&metric).copied().flatten()
    }
}

/// Scores each of `structures` by each of `metrics`; voxels where the reference is `ignore` do not count.
///
/// The maps are `[D, H, W]`, the spacing is in mm in the same order. The work is done in parallel on the current Rayon
/// pool; the result does not depend on the number of threads.
///
/// # Errors
/// When the shapes differ, or the spacing is not positive and finite.
pub fn score(
    prediction: &Array3<u16>,
    reference: &Array3<u16>,
    spacing: [f64; 3],
    structures: &[Structure],
    metrics: &[Metric],
    ignore: Option<u16>,
) -> Result<Vec<Scores>, ScoreError> {
    ScoreError::check(prediction.dim(), reference.dim(), spacing)?;
    let labels: BTreeSet<u16> = structures
        .iter()
        .flat_map(|structure| &structure.labels)
        .copied()
        .collect();
    let labels: Vec<u16> = labels.into_iter().collect();
    let found = extents(prediction.view(), reference.view(), &labels, ignore);
    let neighbourhood = Neighbourhood::new(prediction.dim(), spacing);
    let scores = structures.par_iter().map(|structure| {
        let extent = labels
            .iter()
            .zip(&found.of_label)
            .filter(|(label, _)| structure.labels.contains(label))
            .fold(Extent::NOTHING, |all, (_, extent)| all.union(*extent));
        if extent == Extent::NOTHING {
            return Scores::absent(found.voxels, metrics);
        }
        // All of the structure in either map lies in this box, and what lies beyond a box counts as outside of it.
        let [d, h, w] = [0, 1, 2].map(|axis| extent.low[axis]..extent.high[axis]);
        let prediction = prediction.slice(s![d.clone(), h.clone(), w.clone()]);
        let reference = reference.slice(s![d, h, w]);
        let mut masks = [prediction, reference].map(|map| mask_of(&structure.labels, map));
        if let Some(ignore) = ignore {
            let ignored = Mask::of_map(reference, |&label| label == ignore);
            masks = masks.map(|mask| mask.without(&ignored));
        }
        let [prediction, reference] = masks;
        compare(
            &prediction,
            &reference,
            found.voxels,
            structure,
            metrics,
            &neighbourhood,
        )
    });
    Ok(scores.collect())
}

/// The voxels of `map` with any of these labels.
fn mask_of(labels: &BTreeSet<u16>, map: ArrayView3<u16>) -> Mask {
    let mut belongs = vec![false; usize::from(u16::MAX) + 1];
    for &label in labels {
        belongs[usize::from(label)] = true;
    }
    Mask::of_map(map, |&label| belongs[usize::from(label)])
}

fn compare(
    prediction: &Mask,
    reference: &Mask,
    voxels: u64,
    structure: &Structure,
    metrics: &[Metric],
    neighbourhood: &Neighbourhood,
) -> Scores {
    let surfaces = metrics
        .iter()
        .any(|metric| metric.of_surface())
        .then(|| SurfaceDistances::of_masks(prediction, reference, neighbourhood));
    let surfaces = surfaces.as_ref();
    let counts = [
        prediction.count_common(reference),
        prediction.count(),
        reference.count(),
    ];
    let [tp, n_pred, n_ref] = counts.map(|voxels| voxels as f64);
    let [depth, height, width] = neighbourhood.spacing;
    let voxel_ml = depth * height * width / 1000.0;
    let ratio = |top: f64, bottom: f64| (top != 0.0 || bottom != 0.0).then(|| top / bottom);
    Scores::new(counts, voxels, metrics, |metric| match metric {
        Metric::Dice => ratio(2.0 * tp, n_pred + n_ref),
        Metric::Iou => ratio(tp, n_pred + n_ref - tp),
        Metric::Hausdorff => surfaces?.hausdorff(),
        Metric::Hausdorff95 => surfaces?.hausdorff_percentile(95.0),
        Metric::AverageSurfaceDistance => surfaces?.average(),
        Metric::NormalisedSurfaceDice => surfaces?.normalised_dice(structure.tolerance),
        Metric::VolumeError => Some((n_pred - n_ref) * voxel_ml),
        Metric::RelativeVolumeError => ratio(n_pred - n_ref, n_ref),
    })
}
