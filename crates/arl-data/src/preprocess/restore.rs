//! The way back: from scores on the plan's grid to labels on the image's own.

use ndarray::{Array3, Array4, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::Region;
use crate::orientation::{axis_codes, reorient};
use crate::resample::{Interpolation, Order, Resampler};
use crate::volume::{Geometry, Volume};

/// How the grid of the plan lies in the grid of the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridMap {
    /// The image's own grid.
    pub source: Geometry,
    /// The same voxels with their axes as the plan has them.
    pub geometry: Geometry,
    /// `[start, end)` of the cropped box along `[D, H, W]`, in the image's voxels.
    pub crop: [[usize; 2]; 3],
    /// Voxels at the plan's spacing, `[D, H, W]`.
    pub shape: [usize; 3],
    /// The plan's spacing in mm, `[D, H, W]`.
    pub spacing: [f64; 3],
}

impl GridMap {
    /// Turns class scores on the plan's grid, `[K, d, h, w]`, into labels on the image's own grid.
    ///
    /// Scores are brought to the image's voxels slab by slab and class by class, and only the best class so far is kept:
    /// beside the labels, memory holds a slab of one class. Outside the cropped box everything is background.
    pub fn restore(&self, scores: &Array4<f32>) -> Volume<u16> {
        self.restore_by(scores, &|class, score, best, label| {
            if score > *best {
                (*best, *label) = (score, class as u16);
            }
        })
    }

    /// Turns region scores (logits) on the plan's grid, `[R, d, h, w]`, into labels on the image's own grid.
    ///
    /// Each region is painted with its label where its probability is above one half, over the regions before it, as in
    /// nnU-Net (`label_handling.py`, `convert_probabilities_to_segmentation`). Elsewhere is background.
    pub fn restore_regions(&self, scores: &Array4<f32>, regions: &[Region]) -> Volume<u16> {
        self.restore_by(scores, &|region, logit, _, label| {
            // The probability of a logit of 0 is one half.
            if logit > 0.0 {
                *label = regions[region].paint;
            }
        })
    }

    /// Lets `take` look at the scores of each voxel one after the other, with what it has kept of those before: the best
    /// score, which begins as −∞, and the label, which begins as 0.
    fn restore_by(
        &self,
        scores: &Array4<f32>,
        take: &(impl Fn(usize, f32, &mut f32, &mut u16) + Sync),
    ) -> Volume<u16> {
        let cropped: [usize; 3] =
            std::array::from_fn(|axis| self.crop[axis][1] - self.crop[axis][0]);
        let interpolation = Interpolation::choose(self.spacing, self.geometry.spacing());
        let classes: Vec<_> = scores
            .outer_iter()
            .map(|class| Resampler::new(class, cropped, Order::Linear, interpolation))
            .collect();
        let mut data = Array3::zeros(self.geometry.shape);
        let [d, h, w] = self.crop;
        let planes = classes.first().map_or(cropped[0], Resampler::slab_planes);
        let plane = cropped[1] * cropped[2];
        let (mut best, mut labels, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for first in (0..cropped[0]).step_by(planes) {
            let range = first..(first + planes).min(cropped[0]);
            let shape = [range.len(), cropped[1], cropped[2]];
            best.clear();
            best.resize(range.len() * plane, f32::NEG_INFINITY);
            labels.clear();
            labels.resize(range.len() * plane, 0u16);
            values.resize(range.len() * plane, 0.0);
            for (class, resampler) in classes.iter().enumerate() {
                resampler.planes(range.clone(), &mut values);
                let rows = best
                    .par_chunks_mut(cropped[2])
                    .zip(labels.par_chunks_mut(cropped[2]))
                    .zip(values.par_chunks(cropped[2]));
                rows.for_each(|((best, labels), values)| {
                    for ((best, label), value) in best.iter_mut().zip(labels).zip(values) {
                        take(class, *value, best, label);
                    }
                });
            }
            let slab = ndarray::ArrayView3::from_shape(shape, &labels).expect("a slab of labels");
            data.slice_mut(s![
                d[0] + range.start..d[0] + range.end,
                h[0]..h[1],
                w[0]..w[1]
            ])
            .assign(&slab);
        }
        let labels = Volume {
            data,
            geometry: self.geometry.clone(),
        };
        if self.source == self.geometry {
            return labels;
        }
        let back = reorient(&labels, &axis_codes(&self.source.affine));
        let back = back.expect("the codes of an affine are an orientation");
        Volume::new(back.data, self.source.clone())
    }
}
