//! Crop to the content, normalise, resample: what the network sees, and the way back to the image's own grid.
//!
//! The order is nnU-Net v2's (`preprocessing/preprocessors/default_preprocessor.py`).

use ndarray::{Array3, Array4, ArrayView3, Axis, CowArray, Ix3, Zip, s};
use serde::{Deserialize, Serialize};

use crate::dataset::read::check_channels;
use crate::dataset::{Case, Dataset, ReadOptions, Region};
use crate::error::Result;
use crate::plan::{ChannelNormalization, Plan};
use crate::resample::{resampled_shape, resize_image, resize_label_map, resize_probabilities};
use crate::volume::{Geometry, Volume};

/// A case on the grid of the plan.
#[derive(Clone, Debug)]
pub struct Preprocessed {
    /// Normalised intensities, `[C, D, H, W]`.
    pub image: Array4<f32>,
    /// Labels `[D, H, W]`, for a training case.
    pub labels: Option<Array3<u16>>,
    /// The way back.
    pub grid: GridMap,
}

/// How the grid of the plan lies in the grid of the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridMap {
    /// The image's own grid.
    pub geometry: Geometry,
    /// `[start, end)` of the cropped box along `[D, H, W]`, in the image's voxels.
    pub crop: [[usize; 2]; 3],
    /// Voxels at the plan's spacing, `[D, H, W]`.
    pub shape: [usize; 3],
    /// The plan's spacing in mm, `[D, H, W]`.
    pub spacing: [f64; 3],
}

/// Preprocesses a training case: images and labels.
///
/// # Errors
/// When a file can't be read, or image and labels don't fit together.
pub fn preprocess_case(case: &Case, dataset: &Dataset, plan: &Plan) -> Result<Preprocessed> {
    let (images, labels) = dataset.read_case(case)?;
    check_channels(case, images.len(), plan.channel_names.len())?;
    let mut result = preprocess(&images, plan);
    let cropped = crop(labels.data.view(), result.grid.crop);
    let from = result.grid.geometry.spacing();
    result.labels = Some(resize_label_map(
        cropped,
        result.grid.shape,
        from,
        result.grid.spacing,
    ));
    Ok(result)
}

/// Preprocesses a case to be predicted: images alone.
///
/// # Errors
/// When a file can't be read, the channels don't fit together, or there are more or fewer than the plan has.
pub fn preprocess_images(case: &Case, plan: &Plan, options: &ReadOptions) -> Result<Preprocessed> {
    let images = case.read_images(options)?;
    check_channels(case, images.len(), plan.channel_names.len())?;
    Ok(preprocess(&images, plan))
}

fn preprocess(images: &[Volume<f32>], plan: &Plan) -> Preprocessed {
    let geometry = images[0].geometry.clone();
    let bounds = nonzero_box(images);
    let from = geometry.spacing();
    let cropped_shape: [usize; 3] = std::array::from_fn(|axis| bounds[axis][1] - bounds[axis][0]);
    let shape = resampled_shape(cropped_shape, from, plan.target_spacing);
    let [d, h, w] = shape;
    let mut image = Array4::zeros([images.len(), d, h, w]);
    for (channel, volume) in images.iter().enumerate() {
        let mut voxels = crop(volume.data.view(), bounds).to_owned();
        plan.normalization[channel].apply(&mut voxels);
        let resized = resize_image(voxels.view(), shape, from, plan.target_spacing);
        image.index_axis_mut(Axis(0), channel).assign(&resized);
    }
    Preprocessed {
        image,
        labels: None,
        grid: GridMap {
            geometry,
            crop: bounds,
            shape,
            spacing: plan.target_spacing,
        },
    }
}

/// The box `[start, end)` per axis that holds every voxel that is nonzero in some channel; the whole grid when
/// all are zero.
pub(crate) fn nonzero_box(images: &[Volume<f32>]) -> [[usize; 2]; 3] {
    let shape = images[0].geometry.shape;
    std::array::from_fn(|axis| {
        let filled = |index: usize| {
            images.iter().any(|image| {
                image
                    .data
                    .index_axis(Axis(axis), index)
                    .iter()
                    .any(|&value| value != 0.0)
            })
        };
        let start = (0..shape[axis]).find(|&index| filled(index));
        let end = (0..shape[axis]).rev().find(|&index| filled(index));
        match (start, end) {
            (Some(start), Some(end)) => [start, end + 1],
            _ => [0, shape[axis]],
        }
    })
}

fn crop<T>(view: ArrayView3<'_, T>, bounds: [[usize; 2]; 3]) -> ArrayView3<'_, T> {
    let [d, h, w] = bounds;
    view.slice_move(s![d[0]..d[1], h[0]..h[1], w[0]..w[1]])
}

impl ChannelNormalization {
    /// Normalises a channel in place.
    pub fn apply(&self, voxels: &mut Array3<f32>) {
        match *self {
            Self::Ct {
                lower,
                upper,
                mean,
                std,
            } => {
                let scale = 1.0 / std.max(1e-8);
                voxels.par_mapv_inplace(|v| {
                    ((f64::from(v).clamp(lower, upper) - mean) * scale) as f32
                });
            }
            Self::ZScore => {
                let n = voxels.len().max(1) as f64;
                let mean = voxels.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
                let variance = voxels
                    .iter()
                    .map(|&v| (f64::from(v) - mean).powi(2))
                    .sum::<f64>()
                    / n;
                let scale = 1.0 / variance.sqrt().max(1e-8);
                voxels.par_mapv_inplace(|v| ((f64::from(v) - mean) * scale) as f32);
            }
            Self::None => {}
            Self::RescaleTo01 => {
                let (low, high) = voxels
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| {
                        (l.min(v), h.max(v))
                    });
                let scale = 1.0 / (high - low).max(1e-8);
                voxels.par_mapv_inplace(|v| (v - low) * scale);
            }
            Self::RgbTo01 => voxels.par_mapv_inplace(|v| v / 255.0),
        }
    }
}

impl GridMap {
    /// Turns class scores on the plan's grid, `[K, d, h, w]`, into labels on the image's own grid.
    ///
    /// Scores are brought to the image's voxels class by class, and only the best class so far is kept, so no array
    /// of all classes exists at the image's resolution. Outside the cropped box everything is background.
    pub fn restore(&self, scores: &Array4<f32>) -> Volume<u16> {
        let mut best = Array3::from_elem(self.cropped(), f32::NEG_INFINITY);
        let mut labels = Array3::<u16>::zeros(self.cropped());
        for (class, map) in scores.outer_iter().enumerate() {
            Zip::from(&self.resized(map))
                .and(&mut best)
                .and(&mut labels)
                .par_for_each(|&value, best, label| {
                    if value > *best {
                        (*best, *label) = (value, class as u16);
                    }
                });
        }
        self.uncropped(&labels)
    }

    /// Turns region scores (logits) on the plan's grid, `[R, d, h, w]`, into labels on the image's own grid.
    ///
    /// Each region is painted with its label where its probability is above one half, over the regions before it, as in
    /// nnU-Net (`label_handling.py`, `convert_probabilities_to_segmentation`). Elsewhere is background.
    pub fn restore_regions(&self, scores: &Array4<f32>, regions: &[Region]) -> Volume<u16> {
        let mut labels = Array3::<u16>::zeros(self.cropped());
        for (region, map) in regions.iter().zip(scores.outer_iter()) {
            Zip::from(&self.resized(map))
                .and(&mut labels)
                .par_for_each(|&logit, label| {
                    // The probability of a logit of 0 is one half.
                    if logit > 0.0 {
                        *label = region.paint;
                    }
                });
        }
        self.uncropped(&labels)
    }

    /// Voxels of the cropped box, `[D, H, W]`.
    fn cropped(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.crop[axis][1] - self.crop[axis][0])
    }

    /// A map on the plan's grid, on the image's voxels of the cropped box.
    fn resized<'a>(&self, map: ArrayView3<'a, f32>) -> CowArray<'a, f32, Ix3> {
        if self.cropped() == self.shape {
            return map.into();
        }
        let to = self.geometry.spacing();
        resize_probabilities(map, self.cropped(), self.spacing, to).into()
    }

    /// Labels of the cropped box on the image's whole grid, with background around.
    fn uncropped(&self, labels: &Array3<u16>) -> Volume<u16> {
        let mut data = Array3::zeros(self.geometry.shape);
        let [d, h, w] = self.crop;
        data.slice_mut(s![d[0]..d[1], h[0]..h[1], w[0]..w[1]])
            .assign(labels);
        Volume {
            data,
            geometry: self.geometry.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 mm along D, 1 mm along H and W.
    fn thick_slices(shape: [usize; 3]) -> Geometry {
        let affine = [
            [1., 0., 0., 0.],
            [0., 1., 0., 0.],
            [0., 0., 2., 0.],
            [0., 0., 0., 1.],
        ];
        Geometry::new(shape, affine)
    }

    fn volume(shape: [usize; 3], f: impl Fn([usize; 3]) -> f32) -> Volume<f32> {
        let data = Array3::from_shape_fn(shape, |(d, h, w)| f([d, h, w]));
        Volume {
            data,
            geometry: thick_slices(shape),
        }
    }

    #[test]
    fn the_box_holds_every_nonzero_voxel() {
        let image = volume([4, 5, 6], |i| {
            f32::from(u8::from(i == [1, 2, 3] || i == [2, 2, 5]))
        });
        assert_eq!(nonzero_box(&[image]), [[1, 3], [2, 3], [3, 6]]);
        assert_eq!(nonzero_box(&[volume([2, 2, 2], |_| 0.0)]), [[0, 2]; 3]);
    }

    #[test]
    fn labels_come_back_to_the_place_they_had() {
        let shape = [6, 10, 8];
        let geometry = thick_slices(shape);
        let grid = GridMap {
            geometry,
            crop: [[1, 6], [2, 10], [0, 8]],
            shape: [10, 8, 8],
            spacing: [1.0, 1.0, 1.0],
        };
        // Class 1 fills the second half of the plan's grid along D.
        let scores = Array4::from_shape_fn([2, 10, 8, 8], |(class, d, _, _)| {
            if (d >= 6) == (class == 1) { 1.0 } else { 0.0 }
        });
        let labels = grid.restore(&scores);
        assert_eq!(labels.data.shape(), shape);
        assert_eq!(labels.data[[3, 5, 5]], 0);
        assert_eq!(labels.data[[4, 5, 5]], 1);
        assert_eq!(labels.data[[5, 1, 5]], 0, "outside the box is background");
    }

    #[test]
    fn later_regions_are_painted_over_earlier_ones() {
        let shape = [2, 3, 4];
        let grid = GridMap {
            geometry: thick_slices(shape),
            crop: [[0, 2], [0, 3], [0, 4]],
            shape,
            spacing: [2.0, 1.0, 1.0],
        };
        let region = |paint: u16| Region {
            name: paint.to_string(),
            values: vec![paint],
            paint,
        };
        // The first region fills the box but one row, the second its end.
        let scores = Array4::from_shape_fn([2, 2, 3, 4], |(region, _, h, w)| match region {
            0 if h > 0 => 0.1,
            1 if w == 3 => 5.0,
            _ => -0.1,
        });
        let labels = grid.restore_regions(&scores, &[region(1), region(3)]);
        assert_eq!(labels.data[[1, 0, 0]], 0);
        assert_eq!(labels.data[[1, 1, 0]], 1);
        assert_eq!(labels.data[[1, 1, 3]], 3);
        assert_eq!(labels.data[[1, 0, 3]], 3);
        // A probability of exactly one half is not above it.
        let zero = grid.restore_regions(&Array4::zeros([1, 2, 3, 4]), &[region(1)]);
        assert!(zero.data.iter().all(|&label| label == 0));
    }

    #[test]
    fn ct_is_clipped_and_standardised() {
        let mut voxels = Array3::from_shape_vec([1, 1, 3], vec![-2000.0, 50.0, 3000.0]).unwrap();
        ChannelNormalization::Ct {
            lower: -100.0,
            upper: 300.0,
            mean: 50.0,
            std: 50.0,
        }
        .apply(&mut voxels);
        assert_eq!(voxels.into_raw_vec_and_offset().0, [-3.0, 0.0, 5.0]);
    }
}
