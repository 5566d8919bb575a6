//! Crop to the content, normalise, resample: what the network sees, and the way back to the image's own grid.
//!
//! The order is nnU-Net v2's (`preprocessing/preprocessors/default_preprocessor.py`). [`Prepared`] holds a case as it was
//! read; everything after that is computed slab by slab, so that the case is in memory once whatever its spacing.

mod crop;
mod normalize;
mod restore;
#[cfg(test)]
mod tests;

use std::path::Path;

use ndarray::{Array3, Array4, ArrayView3, Zip, s};

use crate::augment::OUTSIDE_OF_BODY;
use crate::dataset::read::check_channels;
use crate::dataset::{Case, Dataset, ReadOptions};
use crate::error::{DataError, Result};
use crate::orientation::{axis_codes, reorient};
use crate::plan::Plan;
use crate::resample::{Interpolation, LabelResampler, Order, Resampler, Source, resampled_shape};
use crate::volume::{Geometry, Volume};

use crop::filled_mask;
pub(crate) use crop::nonzero_box;
pub use normalize::Normalizer;
pub use restore::GridMap;

/// More voxels than any machine holds: a spacing that isn't in mm.
const MAX_VOXELS: f64 = (1u64 << 36) as f64;

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

/// A case that was read, with all that is needed to compute any planes of it on the grid of the plan.
#[derive(Debug)]
pub struct Prepared {
    images: Vec<Volume<f32>>,
    labels: Option<Volume<u16>>,
    grid: GridMap,
    normalizers: Vec<Normalizer>,
    /// Where z-scores are taken, within the crop, if the plan has them masked.
    mask: Option<Array3<bool>>,
}

impl Prepared {
    /// Reads a training case: images and labels.
    ///
    /// # Errors
    /// When a file can't be read, or image and labels don't fit together.
    pub fn read(case: &Case, dataset: &Dataset, plan: &Plan) -> Result<Self> {
        let (images, labels) = dataset.read_case(case)?;
        check_channels(case, images.len(), plan.channel_names.len())?;
        Self::new(case, images, Some(labels), plan)
    }

    /// Reads a case to be predicted: images alone.
    ///
    /// # Errors
    /// When a file can't be read, the channels don't fit together, or there are more or fewer than the plan has.
    pub fn read_images(case: &Case, plan: &Plan, options: &ReadOptions) -> Result<Self> {
        let mut images = case.read_images(options)?;
        check_channels(case, images.len(), plan.channel_names.len())?;
        let source = images[0].geometry.clone();
        if let Some(codes) = &plan.orientation
            && *codes != axis_codes(&source.affine)
        {
            for image in &mut images {
                // The channels lie in one place: each is turned as the first.
                image.geometry = source.clone();
                *image = reorient(image, codes).map_err(|problem| {
                    DataError::invalid(&case.images[0], problem, "mend the plan's orientation")
                })?;
            }
        }
        let mut prepared = Self::new(case, images, None, plan)?;
        prepared.grid.source = source;
        Ok(prepared)
    }

    fn new(
        case: &Case,
        images: Vec<Volume<f32>>,
        mut labels: Option<Volume<u16>>,
        plan: &Plan,
    ) -> Result<Self> {
        let geometry = images[0].geometry.clone();
        let bounds = nonzero_box(&images);
        let cropped: [usize; 3] = std::array::from_fn(|axis| bounds[axis][1] - bounds[axis][0]);
        let mask = plan.use_mask_for_norm.then(|| filled_mask(&images, bounds));
        if let (Some(mask), Some(labels)) = (&mask, &mut labels) {
            let [d, h, w] = bounds.map(|[first, end]| first..end);
            let within = labels.data.slice_mut(s![d, h, w]);
            Zip::from(within).and(mask).for_each(|label, &inside| {
                if *label == 0 && !inside {
                    *label = OUTSIDE_OF_BODY;
                }
            });
        }
        let normalizers = images
            .iter()
            .zip(&plan.normalization)
            .map(|(image, scheme)| {
                let mask = mask.as_ref().map(|mask| mask.view());
                scheme.fit(crop(&image.data, bounds), mask)
            })
            .collect();
        let shape = resampled_shape(cropped, geometry.spacing(), plan.target_spacing);
        let voxels = shape
            .iter()
            .fold(images.len() as f64, |n, edge| n * *edge as f64);
        if voxels > MAX_VOXELS {
            return Err(too_large(case, &geometry, shape));
        }
        Ok(Self {
            images,
            labels,
            grid: GridMap {
                source: geometry.clone(),
                geometry,
                crop: bounds,
                shape,
                spacing: plan.target_spacing,
            },
            normalizers,
            mask,
        })
    }

    /// The way back.
    pub fn grid(&self) -> &GridMap {
        &self.grid
    }

    /// One resampling of order 3 for each channel.
    pub fn channels(&self) -> Vec<Resampler<impl Source>> {
        (0..self.images.len())
            .map(|channel| self.channel(channel))
            .collect()
    }

    fn channel(&self, channel: usize) -> Resampler<Normalized<'_>> {
        let normalizer = self.normalizers[channel];
        let mask = self.mask.as_ref().filter(|_| normalizer.is_masked());
        let source = Normalized {
            voxels: crop(&self.images[channel].data, self.grid.crop),
            normalizer,
            mask: mask.map(|mask| mask.view()),
        };
        Resampler::new(source, self.grid.shape, Order::Cubic, self.interpolation())
    }

    /// The resampling of the labels, of a training case. Background outside of the body is [`OUTSIDE_OF_BODY`] where the
    /// plan takes statistics within the body.
    pub fn labels(&self) -> Option<LabelResampler<'_>> {
        let labels = self.labels.as_ref()?;
        let cropped = crop(&labels.data, self.grid.crop);
        Some(LabelResampler::new(
            cropped,
            self.grid.shape,
            self.interpolation(),
        ))
    }

    fn interpolation(&self) -> Interpolation {
        Interpolation::choose(self.grid.geometry.spacing(), self.grid.spacing)
    }

    /// The whole case at once.
    fn whole(self, case: &Case) -> Result<Preprocessed> {
        let [d, h, w] = self.grid.shape;
        let channels = self.channels();
        let voxels = channels.len() * d * h * w;
        let mut values = Vec::new();
        values
            .try_reserve_exact(voxels)
            .map_err(|_| too_large(case, &self.grid.geometry, self.grid.shape))?;
        values.resize(voxels, 0.0);
        for (resampler, target) in channels.iter().zip(values.chunks_mut((d * h * w).max(1))) {
            resampler.whole_into(target);
        }
        let image = Array4::from_shape_vec([channels.len(), d, h, w], values);
        let labels = self.labels().map(|resampler| resampler.whole());
        Ok(Preprocessed {
            image: image.expect("as many values as voxels"),
            labels,
            grid: self.grid.clone(),
        })
    }
}

/// Preprocesses a training case: images and labels.
///
/// # Errors
/// When a file can't be read, or image and labels don't fit together.
pub fn preprocess_case(case: &Case, dataset: &Dataset, plan: &Plan) -> Result<Preprocessed> {
    Prepared::read(case, dataset, plan)?.whole(case)
}

/// Preprocesses a case to be predicted: images alone.
///
/// # Errors
/// When a file can't be read, the channels don't fit together, or there are more or fewer than the plan has.
pub fn preprocess_images(case: &Case, plan: &Plan, options: &ReadOptions) -> Result<Preprocessed> {
    Prepared::read_images(case, plan, options)?.whole(case)
}

fn too_large(case: &Case, geometry: &Geometry, shape: [usize; 3]) -> DataError {
    let file = case.images.first().map_or(Path::new(&case.id), |p| p);
    DataError::invalid(
        file,
        format!(
            "its voxels of {:.4?} mm make {shape:?} voxels at the plan's spacing, which do not fit into memory",
            geometry.spacing()
        ),
        "correct the voxel size in the file, or plan a coarser spacing",
    )
}

/// A channel that is normalised as it is read.
#[derive(Debug)]
struct Normalized<'a> {
    voxels: ArrayView3<'a, f32>,
    normalizer: Normalizer,
    mask: Option<ArrayView3<'a, bool>>,
}

impl Source for Normalized<'_> {
    fn shape(&self) -> [usize; 3] {
        self.voxels.dim().into()
    }

    fn read(&self, d: usize, h: usize, w: usize, out: &mut [f32]) {
        self.voxels.read(d, h, w, out);
        self.normalizer.apply(out);
        if let Some(mask) = &self.mask {
            let row = mask.slice(s![d, h, w..w + out.len()]);
            out.iter_mut()
                .zip(row)
                .filter(|(_, inside)| !**inside)
                .for_each(|(v, _)| *v = 0.0);
        }
    }
}

fn crop<T>(voxels: &Array3<T>, bounds: [[usize; 2]; 3]) -> ArrayView3<'_, T> {
    let [d, h, w] = bounds;
    voxels.slice(s![d[0]..d[1], h[0]..h[1], w[0]..w[1]])
}
