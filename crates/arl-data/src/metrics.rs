//! How well a predicted label map agrees with a reference, in voxels and in mm.
//!
//! [`score`] computes every [`Metric`] for each [`Structure`], which is a class or a region of several classes;
//! [`summarise`] averages cases in the form of nnU-Net's `summary.json`; [`SurfaceDistances`] compares two masks alone.
//!
//! ```
//! use arl_data::metrics::{Metric, Structure, score};
//! use ndarray::array;
//!
//! let prediction = array![[[0, 1, 1, 2]]];
//! let reference = array![[[1, 1, 0, 2]]];
//! let structures = [Structure::class(1), Structure::region([1, 2])];
//! let scores = score(&prediction, &reference, [1.0; 3], &structures, &Metric::ALL, None)?;
//! assert_eq!(scores[0].value(Metric::Dice), Some(0.5));
//! assert_eq!(scores[0].value(Metric::Hausdorff), Some(1.0));
//! assert_eq!(scores[1].value(Metric::Dice), Some(2.0 / 3.0));
//! # Ok::<(), arl_data::metrics::ScoreError>(())
//! ```
//!
//! # Definitions
//! - Dice `2 TP / (2 TP + FP + FN)`, IoU `TP / (TP + FP + FN)`.
//! - The surface of a mask is made of its voxels with at least one of their 6 neighbours outside of the mask; what lies
//!   beyond the volume is outside. A volume of one slice is a 2D image, where 4 neighbours count. Distances are
//!   Euclidean, from voxel centre to voxel centre, in mm, and exact.
//! - HD: the largest distance from either surface to the other. HD95: the larger of the two directed 95th percentiles,
//!   each interpolated linearly. ASSD: the mean over the voxels of both surfaces, pooled. NSD: the share of the voxels of
//!   both surfaces, pooled, that lie within a tolerance of the other. MONAI defines them in the same way
//!   (`compute_hausdorff_distance`, `compute_average_surface_distance` with `symmetric=True`, `compute_surface_dice`);
//!   some papers average the two directed means instead, or take the 95th percentile of the pooled distances.
//! - DeepMind's `surface-distance` is another definition: it puts the surface between the voxels, weighs each of its
//!   elements by its area, and takes percentiles without interpolation. Its distances differ from these by up to about a
//!   voxel, and its NSD accordingly.
//! - Volume error: predicted less reference volume, in ml; relative to the reference.
//!
//! A voxel where the reference has the ignore label belongs to nothing in either map.
//!
//! # Where a structure is missing
//!
//! | | absent: in neither | missed: only in the reference | spurious: only in the prediction |
//! | --- | --- | --- | --- |
//! | Dice, IoU, NSD | undefined | 0 | 0 |
//! | HD, HD95, ASSD | undefined | infinite | infinite |
//! | volume error | 0 | −reference | prediction |
//! | relative volume error | undefined | −1 | infinite |
//!
//! In Rust undefined is `None` and infinite is `Some(f64::INFINITY)`. JSON has `null` for both: `n_pred` and `n_ref`
//! beside it tell which. A mean is over the finite values, and beside it stands how many cases were
//! [absent](MeanScores::absent), [missed](MeanScores::missed) and [spurious](MeanScores::spurious), so that no missed
//! structure goes unnoticed. MONAI's `DiceMetric` leaves spurious structures out of the mean unless `ignore_empty=False`;
//! here, as in nnU-Net, they count as 0.

mod extent;
mod mask;
mod nearest;
mod score;
mod structure;
mod summary;
mod surface;

pub use score::{ScoreError, Scores, score};
pub use structure::{Metric, Structure};
pub use summary::{CaseScores, MeanScores, Summary, summarise};
pub use surface::SurfaceDistances;

#[cfg(test)]
mod tests;
