//! Crop to the content, normalise, resample: what the network sees, and the way back to the image's own grid.
//!
//! The order is nnU-Net v2's (`preprocessing/preprocessors/default_preprocessor.py`). [`Prepared`] holds a case as it was
//! read; everything after that is computed slab by slab, so that the case is in memory once whatever its spacing.

mod crop;
mod normalize;
mod restore;
#[cfg(test)]
mod tests;

use ndarray::{Array3, Array4, ArrayView3, s};

use crate::dataset::read::check_channels;
use crate::dataset::{Case, Dataset, ReadOptions};
use crate::error::Result;
use crate::plan::Plan;
use crate::resample::{Interpolation, LabelResampler, Order, Resampler, Source, resampled_shape};
use crate::volume::Volume;

use crop::filled_mask;
pub(crate) use crop::nonzero_box;
pub use normalize::Normalizer;
pub use restore::GridMap;

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
        Ok(Self::new(images, Some(labels), plan))
    }

    /// Reads a case to be predicted: images alone.
    ///
    /// # Errors
    /// When a file can't be read, the channels don't fit together, or there are more or fewer than the plan has.
    pub fn read_images(case: &Case, plan: &Plan, options: &ReadOptions) -> Result<Self> {
        let images = case.read_images(options)?;
        check_channels(case, images.len(), plan.channel_names.len())?;
        Ok(Self::new(images, None, plan))
    }

    fn new(images: Vec<Volume<f32>>, labels: Option<Volume<u16>>, plan: &Plan) -> Self {
        let geometry = images[0].geometry.clone();
        let bounds = nonzero_box(&images);
        let cropped: [usize; 3] = std::array::from_fn(|axis| bounds[axis][1] - bounds[axis][0]);
        let mask = plan.use_mask_for_norm.then(|| filled_mask(&images, bounds));
        let normalizers = images
            .iter()
            .zip(&plan.normalization)
            .map(|(image, scheme)| {
                let mask = mask.as_ref().map(|mask| mask.view());
                scheme.fit(crop(&image.data, bounds), mask)
            })
            .collect();
        let shape = resampled_shape(cropped, geometry.spacing(), plan.target_spacing);
        Self {
            images,
            labels,
            grid: GridMap {
                geometry,
                crop: bounds,
                shape,
                spacing: plan.target_spacing,
            },
            normalizers,
            mask,
        }
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

    /// The resampling of the labels, of a training case.
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
    fn whole(self) -> Preprocessed {
        let [d, h, w] = self.grid.shape;
        let channels = self.channels();
        let mut image = Array4::zeros([channels.len(), d, h, w]);
        for (resampler, mut target) in channels.iter().zip(image.outer_iter_mut()) {
            resampler.whole_into(target.as_slice_mut().expect("channels of a new array"));
        }
        let labels = self.labels().map(|resampler| resampler.whole());
        Preprocessed {
            image,
            labels,
            grid: self.grid.clone(),
        }
    }
}

/// Preprocesses a training case: images and labels.
///
/// # Errors
/// When a file can't be read, or image and labels don't fit together.
pub fn preprocess_case(case: &Case, dataset: &Dataset, plan: &Plan) -> Result<Preprocessed> {
    Ok(Prepared::read(case, dataset, plan)?.whole())
}

/// Preprocesses a case to be predicted: images alone.
///
/// # Errors
/// When a file can't be read, the channels don't fit together, or there are more or fewer than the plan has.
pub fn preprocess_images(case: &Case, plan: &Plan, options: &ReadOptions) -> Result<Preprocessed> {
    Ok(Prepared::read_images(case, plan, options)?.whole())
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
