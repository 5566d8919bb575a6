//! Overlap of two label maps, and its summary over cases in the form of nnU-Net's `summary.json`.

mod summary;

use ndarray::{Array3, Zip};
use rayon::prelude::*;
use serde::Serialize;

pub use summary::{CaseMetrics, MeanOverlap, Summary, summarise};

/// Two label maps that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "prediction of shape {prediction:?} against reference of shape {reference:?} (depth, height, width); resample one to the grid of the other"
)]
pub struct ShapeMismatch {
    /// Shape of the prediction `[D, H, W]`.
    pub prediction: [usize; 3],
    /// Shape of the reference `[D, H, W]`.
    pub reference: [usize; 3],
}

/// How well one class of a prediction covers the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassOverlap {
    /// Label value of the class.
    #[serde(skip)]
    pub label: u16,
    /// `2 TP / (2 TP + FP + FN)`; `None` where neither map has the class.
    #[serde(rename = "Dice")]
    pub dice: Option<f64>,
    /// Intersection over union, `TP / (TP + FP + FN)`; `None` where neither map has the class.
    #[serde(rename = "IoU")]
    pub iou: Option<f64>,
    /// Voxels of the class in both maps.
    #[serde(rename = "TP")]
    pub tp: u64,
    /// Voxels of the class in the prediction only.
    #[serde(rename = "FP")]
    pub fp: u64,
    /// Voxels of the class in the reference only.
    #[serde(rename = "FN")]
    pub fn_: u64,
    /// Voxels of the class in the prediction.
    pub n_pred: u64,
    /// Voxels of the class in the reference.
    pub n_ref: u64,
}

impl ClassOverlap {
    /// From the voxels of the class in both maps, in the prediction and in the reference.
    pub fn new(label: u16, tp: u64, n_pred: u64, n_ref: u64) -> Self {
        let (fp, fn_) = (n_pred - tp, n_ref - tp);
        let union = tp + fp + fn_;
        let ratio = |top: u64, bottom: u64| (union > 0).then(|| top as f64 / bottom as f64);
        ClassOverlap {
            label,
            dice: ratio(2 * tp, n_pred + n_ref),
            iou: ratio(tp, union),
            tp,
            fp,
            fn_,
            n_pred,
            n_ref,
        }
    }
}

/// Voxels of one class: in both maps, in the prediction, in the reference.
type Counts = [u64; 3];

/// Counts the overlap of each of `classes` in one pass; voxels where the reference is `ignore` do not count.
///
/// Values of either map outside `classes` are no class of their own, yet a prediction there still misses the
/// reference's class and the other way round.
///
/// # Errors
/// When the shapes differ.
pub fn overlap(
    prediction: &Array3<u16>,
    reference: &Array3<u16>,
    classes: &[u16],
    ignore: Option<u16>,
) -> Result<Vec<ClassOverlap>, ShapeMismatch> {
    if prediction.dim() != reference.dim() {
        return Err(ShapeMismatch {
            prediction: prediction.dim().into(),
            reference: reference.dim().into(),
        });
    }
    // A table from label to counts: one entry per label up to the largest class, and one for all above.
    let size = classes
        .iter()
        .max()
        .map_or(0, |label| usize::from(*label) + 1);
    let slot = |label: u16| usize::from(label).min(size);
    let empty = || vec![Counts::default(); size + 1];
    let counts = Zip::from(prediction.rows())
        .and(reference.rows())
        .into_par_iter()
        .fold(empty, |mut counts, (prediction, reference)| {
            for (&p, &r) in prediction.iter().zip(reference) {
                if Some(r) == ignore {
                    continue;
                }
                counts[slot(p)][1] += 1;
                counts[slot(r)][2] += 1;
                counts[slot(p)][0] += u64::from(p == r);
            }
            counts
        })
        .reduce(empty, |mut sum, part| {
            sum.iter_mut()
                .zip(part)
                .for_each(|(s, p)| (0..3).for_each(|k| s[k] += p[k]));
            sum
        });
    let class = |&label: &u16| {
        let [tp, n_pred, n_ref] = counts[slot(label)];
        ClassOverlap::new(label, tp, n_pred, n_ref)
    };
    Ok(classes.iter().map(class).collect())
}

#[cfg(test)]
mod tests;
