//! What a dataset looks like: sizes, spacings and intensities, from which [`crate::plan`] decides everything else.
//!
//! Source: nnU-Net v2, `dataset_fingerprint/fingerprint_extractor.py`.

use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array3, Zip};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::{Case, Dataset};
use crate::error::Result;
use crate::preprocess::nonzero_box;
use crate::volume::Volume;

/// Foreground voxels drawn for the intensity statistics, over all cases; nnU-Net draws ten times as many, which
/// changes no statistic visibly and takes ten times the memory.
const SAMPLED_VOXELS: usize = 10_000_000;
const SAMPLING_SEED: u64 = 1234;

/// Sizes and intensities of the training cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// One entry per training case, sorted by id.
    pub cases: Vec<CaseFingerprint>,
    /// Intensities of foreground voxels, one entry per channel.
    pub intensities: Vec<Intensities>,
    /// The array axis that runs left-right in most cases (0 = D, 1 = H, 2 = W).
    pub left_right_axis: usize,
}

/// Size and content of one training case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseFingerprint {
    /// Name of the case.
    pub id: String,
    /// Voxels, `[D, H, W]`.
    pub shape: [usize; 3],
    /// Voxels of the box that holds every nonzero voxel, `[D, H, W]`.
    pub shape_after_crop: [usize; 3],
    /// Voxel spacing in mm, `[D, H, W]`.
    pub spacing: [f64; 3],
    /// Voxels of each class, in the order of the dataset's classes.
    pub class_voxels: Vec<u64>,
}

/// Statistics of one channel over the voxels whose label is above 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intensities {
    /// Arithmetic mean.
    pub mean: f64,
    /// The middle value.
    pub median: f64,
    /// Standard deviation.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// 0.5th percentile.
    pub percentile_00_5: f64,
    /// 99.5th percentile.
    pub percentile_99_5: f64,
}

impl Fingerprint {
    /// Reads every training case. `on_case` hears `(done, total)`.
    ///
    /// # Errors
    /// At the first case that can't be read or breaks a rule of the dataset.
    pub fn extract(dataset: &Dataset, on_case: &(dyn Fn(usize, usize) + Sync)) -> Result<Self> {
        let total = dataset.training.len();
        let per_case = (SAMPLED_VOXELS / total.max(1)).max(1);
        let done = AtomicUsize::new(0);
        let read: Vec<(CaseFingerprint, Vec<Vec<f32>>, usize)> = dataset
            .training
            .par_iter()
            .enumerate()
            .map(|(index, case)| {
                let (images, labels) = dataset.read_case(case)?;
                let seed = SAMPLING_SEED.wrapping_add(index as u64);
                let result = describe(case, dataset, &images, &labels, per_case, seed);
                on_case(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                Ok(result)
            })
            .collect::<Result<_>>()?;
        let channels = dataset.channel_names.len();
        let intensities = (0..channels)
            .map(|channel| {
                let samples = read.iter().flat_map(|(_, s, _)| s[channel].iter().copied());
                statistics(samples.collect())
            })
            .collect();
        let mut votes = [0; 3];
        read.iter().for_each(|(_, _, axis)| votes[*axis] += 1);
        let left_right_axis = (0..3).max_by_key(|&axis| votes[axis]).unwrap_or(2);
        Ok(Self {
            cases: read.into_iter().map(|(case, _, _)| case).collect(),
            intensities,
            left_right_axis,
        })
    }
}

fn describe(
    case: &Case,
    dataset: &Dataset,
    images: &[Volume<f32>],
    labels: &Volume<u16>,
    sample: usize,
    seed: u64,
) -> (CaseFingerprint, Vec<Vec<f32>>, usize) {
    let bounds = nonzero_box(images);
    let mut class_voxels = vec![0; dataset.classes.len()];
    for value in &labels.data {
        if let Some(count) = class_voxels.get_mut(usize::from(*value)) {
            *count += 1;
        }
    }
    let samples = images
        .iter()
        .map(|image| foreground_sample(&image.data, &labels.data, sample, seed))
        .collect();
    let geometry = &images[0].geometry;
    let description = CaseFingerprint {
        id: case.id.clone(),
        shape: geometry.shape,
        shape_after_crop: std::array::from_fn(|axis| bounds[axis][1] - bounds[axis][0]),
        spacing: geometry.spacing(),
        class_voxels,
    };
    (description, samples, geometry.left_right_axis())
}

fn foreground_sample(
    image: &Array3<f32>,
    labels: &Array3<u16>,
    wanted: usize,
    seed: u64,
) -> Vec<f32> {
    let mut foreground = Vec::new();
    Zip::from(image).and(labels).for_each(|&value, &label| {
        if label > 0 {
            foreground.push(value);
        }
    });
    if foreground.len() <= wanted {
        return foreground;
    }
    let mut rng = StdRng::seed_from_u64(seed);
    (0..wanted)
        .map(|_| foreground[rng.random_range(0..foreground.len())])
        .collect()
}

fn statistics(mut values: Vec<f32>) -> Intensities {
    if values.is_empty() {
        values.push(0.0);
    }
    values.par_sort_unstable_by(f32::total_cmp);
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values
        .iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>()
        / n;
    let percentile = |percent: f64| {
        let position = percent / 100.0 * (n - 1.0);
        let (low, high) = (position.floor() as usize, position.ceil() as usize);
        let (a, b) = (f64::from(values[low]), f64::from(values[high]));
        a + (b - a) * position.fract()
    };
    Intensities {
        mean,
        median: percentile(50.0),
        std: variance.sqrt(),
        min: percentile(0.0),
        max: percentile(100.0),
        percentile_00_5: percentile(0.5),
        percentile_99_5: percentile(99.5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_linearly_as_numpy_does() {
        let found = statistics((0..=10).map(|v| v as f32).collect());
        assert_eq!((found.median, found.mean, found.max), (5.0, 5.0, 10.0));
        assert!((found.percentile_99_5 - 9.95).abs() < 1e-9);
        assert!((found.std - 10f64.sqrt()).abs() < 1e-9);
    }
}
