//! What a dataset looks like: sizes, spacings and intensities, from which [`crate::plan`] decides everything else.
//!
//! Source: nnU-Net v2, `dataset_fingerprint/fingerprint_extractor.py`. nnU-Net draws the same number of voxels from
//! every case, with replacement, 10^8 in all. Here every foreground voxel of a case counts, thinned out at random where
//! there are many; each case has the same weight, so the statistics are those that nnU-Net's draws approach.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::{Case, Dataset};
use crate::error::Result;
use crate::formats::read_header;
use crate::in_parallel::in_parallel;
use crate::memory_budget::{DEFAULT_MEMORY, MemoryBudget, as_read};
use crate::orientation::axis_codes;
use crate::preprocess::nonzero_box;
use crate::statistics::{between, median};
use crate::volume::Volume;

/// Foreground voxels kept per channel for the intensity statistics, over all cases: 40 MB, and 80 MB more for sorting.
const KEPT_VOXELS: usize = 10_000_000;
const SEED: u64 = 1234;

/// Sizes and intensities of the training cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// One entry per training case, sorted by id.
    pub cases: Vec<CaseFingerprint>,
    /// Intensities of foreground voxels, one entry per channel.
    pub intensities: Vec<Intensities>,
    /// The array axis that runs left-right in most cases (0 = D, 1 = H, 2 = W).
    pub left_right_axis: usize,
    /// How the axes `i, j, k` run in all cases, as nibabel's `aff2axcodes` names it (`RAS`); `None` where cases differ.
    pub orientation: Option<String>,
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

/// Statistics of one channel over the voxels whose label is above 0 and which cropping keeps. Each case has the same
/// weight, however many such voxels it has. All in the intensities of the images.
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
    /// Reads every training case, as many at a time as fit into `memory` bytes, but at least one. `on_case` hears
    /// `(done, total)`.
    ///
    /// # Errors
    /// At the first case that can't be read or breaks a rule of the dataset.
    pub fn extract_within(
        memory: u64,
        dataset: &Dataset,
        on_case: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let total = dataset.training.len();
        let kept = (KEPT_VOXELS / total.max(1)).max(1);
        let done = AtomicUsize::new(0);
        let budget = MemoryBudget::new(memory);
        let descriptions = in_parallel(total, |index| {
            let case = &dataset.training[index];
            // What is wrong with the header is told when the case is read.
            let header = case.images.first().map(|first| read_header(first));
            let voxels = header
                .and_then(Result::ok)
                .map_or(0, |h| h.geometry.voxels());
            let share = budget.take(as_read(voxels as u64, case.images.len()));
            let (images, labels) = dataset.read_case(case)?;
            let seed = SEED.wrapping_add(index as u64);
            let description = describe(case, dataset, &images, &labels, kept, seed);
            drop((images, labels));
            drop(share);
            on_case(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            Ok(description)
        })?;
        let intensities = (0..dataset.channel_names.len())
            .map(|channel| {
                let samples = descriptions
                    .iter()
                    .map(|d| d.foreground[channel].as_slice());
                statistics(samples)
            })
            .collect();
        let mut votes = [0; 3];
        descriptions
            .iter()
            .for_each(|d| votes[d.left_right_axis] += 1);
        let first = descriptions.first().map(|d| d.orientation.clone());
        let orientation =
            first.filter(|first| descriptions.iter().all(|d| d.orientation == *first));
        let left_right_axis = (0..3).max_by_key(|&axis| votes[axis]).unwrap_or(2);
        Ok(Self {
            cases: descriptions.into_iter().map(|d| d.case).collect(),
            intensities,
            left_right_axis,
            orientation,
        })
    }

    /// Reads every training case, within 4 GiB: see [`extract_within`](Self::extract_within).
    ///
    /// # Errors
    /// As [`extract_within`](Self::extract_within).
    pub fn extract(dataset: &Dataset, on_case: &(dyn Fn(usize, usize) + Sync)) -> Result<Self> {
        Self::extract_within(DEFAULT_MEMORY, dataset, on_case)
    }

    /// The share of the voxels that is left after cropping to what is not zero: the median of the cases, 0 to 1.
    pub fn median_relative_size_after_cropping(&self) -> f64 {
        if self.cases.is_empty() {
            return 1.0;
        }
        let voxels = |shape: [usize; 3]| shape.iter().map(|&n| n as f64).product::<f64>();
        let sizes = self
            .cases
            .iter()
            .map(|case| voxels(case.shape_after_crop) / voxels(case.shape).max(1.0));
        median(sizes.collect())
    }
}

/// What is taken from a case.
struct Description {
    case: CaseFingerprint,
    /// Intensities of foreground voxels, one list per channel.
    foreground: Vec<Vec<f32>>,
    left_right_axis: usize,
    orientation: String,
}

fn describe(
    case: &Case,
    dataset: &Dataset,
    images: &[Volume<f32>],
    labels: &Volume<u16>,
    kept: usize,
    seed: u64,
) -> Description {
    let bounds = nonzero_box(images);
    let mut class_voxels = vec![0; dataset.classes.len()];
    for value in &labels.data {
        if let Some(count) = class_voxels.get_mut(usize::from(*value)) {
            *count += 1;
        }
    }
    let geometry = &images[0].geometry;
    Description {
        case: CaseFingerprint {
            id: case.id.clone(),
            shape: geometry.shape,
            shape_after_crop: bounds.map(|[start, end]| end - start),
            spacing: geometry.spacing(),
            class_voxels,
        },
        foreground: foreground(images, labels, bounds, kept, seed),
        left_right_axis: geometry.left_right_axis(),
        orientation: axis_codes(&geometry.affine),
    }
}

/// The intensities of at most `kept` foreground voxels within the box, the same ones in every channel, drawn without
/// replacement.
fn foreground(
    images: &[Volume<f32>],
    labels: &Volume<u16>,
    bounds: [[usize; 2]; 3],
    kept: usize,
    seed: u64,
) -> Vec<Vec<f32>> {
    let [d, h, w] = bounds.map(|[start, end]| start..end);
    let inside = ndarray::s![d, h, w];
    let labels = labels.data.slice(inside);
    let images: Vec<_> = images
        .iter()
        .map(|image| image.data.slice(inside))
        .collect();
    let mut left = labels.iter().filter(|&&label| label > 0).count();
    let mut wanted = left.min(kept);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut values = vec![Vec::with_capacity(wanted); images.len()];
    for (at, &label) in labels.indexed_iter() {
        if label == 0 {
            continue;
        }
        // Selection sampling: each voxel that is left is one of those still wanted with the same probability.
        if wanted == left || rng.random_range(0..left) < wanted {
            wanted -= 1;
            for (values, image) in values.iter_mut().zip(&images) {
                values.push(image[at]);
            }
        }
        left -= 1;
    }
    values
}

/// The statistics of samples that all have the same weight together.
fn statistics<'a>(samples: impl Iterator<Item = &'a [f32]>) -> Intensities {
    // Each value with its case, whose voxels weigh the same: half of what a weight for each would take.
    let mut values: Vec<(f32, u32)> = Vec::new();
    let mut weights = Vec::new();
    for sample in samples {
        let case = weights.len() as u32;
        weights.push(1.0 / sample.len() as f64);
        values.extend(sample.iter().map(|&value| (value, case)));
    }
    if values.is_empty() {
        values.push((0.0, 0));
        weights = vec![1.0];
    }
    values.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let weighted = || {
        let weight = |case: u32| weights[case as usize];
        values
            .iter()
            .map(move |&(value, case)| (f64::from(value), weight(case)))
    };
    let total: f64 = weighted().map(|(_, weight)| weight).sum();
    let mean = weighted()
        .map(|(value, weight)| value * weight)
        .sum::<f64>()
        / total;
    let squares = weighted().map(|(value, weight)| (value - mean).powi(2) * weight);
    let variance = squares.sum::<f64>() / total;
    let [percentile_00_5, median, percentile_99_5] = [0.5, 50.0, 99.5]
        .map(|percent| weighted_percentile(weighted(), values.len(), total, percent));
    Intensities {
        mean,
        median,
        std: variance.sqrt(),
        min: f64::from(values[0].0),
        max: f64::from(values[values.len() - 1].0),
        percentile_00_5,
        percentile_99_5,
    }
}

/// A percentile of `n` sorted values with weights, which add up to `total`. With
/// `S(k) = k·w(k) + (n - 1)·(w(0) + … + w(k - 1))`, value `k` stands at the share `S(k) / S(n - 1)`, and between values
/// it is linear: for equal weights `k / (n - 1)`, as in NumPy.
fn weighted_percentile(
    values: impl Iterator<Item = (f64, f64)>,
    n: usize,
    total: f64,
    percent: f64,
) -> f64 {
    let last = n.saturating_sub(1) as f64;
    // S(n - 1): what the last value's weight adds twice, it takes away once.
    let target = percent / 100.0 * last * total;
    let (mut below, mut low): (f64, Option<(f64, f64)>) = (0.0, None);
    for (k, (value, weight)) in values.enumerate() {
        let position = k as f64 * weight + last * below;
        match low {
            Some((before, start)) if position >= target => {
                return between(
                    before,
                    value,
                    ((target - start) / (position - start)).clamp(0.0, 1.0),
                );
            }
            _ => low = Some((value, position)),
        }
        below += weight;
    }
    low.map_or(0.0, |(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_linearly_as_numpy_does() {
        let values: Vec<f32> = (0..=10).map(|v| v as f32).collect();
        let found = statistics([&values[..]].into_iter());
        assert_eq!((found.min, found.max), (0.0, 10.0));
        assert!((found.mean - 5.0).abs() < 1e-12 && (found.median - 5.0).abs() < 1e-12);
        assert!((found.percentile_00_5 - 0.05).abs() < 1e-9);
        assert!((found.percentile_99_5 - 9.95).abs() < 1e-9);
        assert!((found.std - 10f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn a_case_with_few_voxels_weighs_as_much_as_one_with_many() {
        let (few, many) = (vec![10.0; 3], vec![20.0; 999]);
        let found = statistics([&few[..], &many[..]].into_iter());
        assert!((found.mean - 15.0).abs() < 1e-9, "{found:?}");
        assert!((found.std - 5.0).abs() < 1e-9);
        assert_eq!((found.percentile_00_5, found.percentile_99_5), (10.0, 20.0));
    }

    #[test]
    fn without_foreground_the_statistics_are_zero() {
        let found = statistics([&[][..], &[][..]].into_iter());
        assert_eq!((found.mean, found.std, found.max), (0.0, 0.0, 0.0));
    }

    #[test]
    fn thinning_keeps_what_was_asked_for_and_no_voxel_twice() {
        let shape = [10, 20, 30];
        let identity = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(i == j)));
        let image = |offset: f32| {
            let data = ndarray::Array3::from_shape_fn((10, 20, 30), |(d, h, w)| {
                offset + ((d * 20 + h) * 30 + w) as f32
            });
            Volume::new(data, crate::Geometry::new(shape, identity))
        };
        let labels = ndarray::Array3::from_shape_fn((10, 20, 30), |(d, _, _)| u16::from(d < 8));
        let labels = Volume::new(labels, crate::Geometry::new(shape, identity));
        // Two slices of the foreground are cropped away.
        let bounds = [[2, 10], [0, 20], [0, 30]];
        let all = foreground(&[image(0.0)], &labels, bounds, 10_000, 1);
        assert_eq!(all[0].len(), 6 * 600);
        let kept = foreground(&[image(0.0), image(1e4)], &labels, bounds, 600, 1);
        assert_eq!((kept[0].len(), kept[1].len()), (600, 600));
        assert!(kept[0].is_sorted_by(|a, b| a < b));
        assert!(kept[0].iter().zip(&kept[1]).all(|(a, b)| a + 1e4 == *b));
        let (mean, expected) = (kept[0].iter().sum::<f32>() / 600.0, 1200.0 + 1800.0);
        assert!((mean - expected).abs() < 150.0, "{mean}");
        assert_eq!(
            kept,
            foreground(&[image(0.0), image(1e4)], &labels, bounds, 600, 1)
        );
    }
}
