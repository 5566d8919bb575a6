//! Simulated low resolution.

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::channels;
use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};
use crate::augment::math::vectorised;

/// Shrinks some channels to fewer voxels (nearest) and enlarges them again (linear).
///
/// ```
/// use arl_data::augment::LowResolution;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::from_shape_fn((1, 1, 1, 4), |(_, _, _, w)| w as f32);
/// let coarse = LowResolution {
///     probability: 1.0,
///     channel_probability: 1.0,
///     scale: (0.5, 0.5),
///     ..Default::default()
/// };
/// coarse.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// assert_eq!(image.as_slice().unwrap(), [1.0, 1.5, 2.5, 3.0]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LowResolution {
    /// How often a patch is changed at all.
    pub probability: f64,
    /// How often a channel of such a patch is changed.
    pub channel_probability: f64,
    /// Range of the factor on the number of voxels per axis, drawn per channel, the same for all axes.
    pub scale: (f32, f32),
    /// The axes that are shrunk: 0 depth, 1 height, 2 width.
    pub axes: Vec<usize>,
}

impl Default for LowResolution {
    /// nnU-Net's values; where it rotates in the plane only, it leaves axis 0 out.
    fn default() -> Self {
        LowResolution {
            probability: 0.25,
            channel_probability: 0.5,
            scale: (0.5, 1.0),
            axes: vec![0, 1, 2],
        }
    }
}

impl LowResolution {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !happens(self.probability, rng) {
            return;
        }
        let (channels, shape) = channels(image);
        for channel in channels {
            if happens(self.channel_probability, rng) {
                let scale = uniform(self.scale, rng);
                let axes = [0, 1, 2].map(|axis| {
                    let scale = if self.axes.contains(&axis) {
                        scale
                    } else {
                        1.0
                    };
                    let length = shape[axis];
                    let coarse = (length as f32 * scale).round_ties_even() as usize;
                    Axis::new(length, coarse.clamp(1, length.max(1)))
                });
                vectorised(
                    #[inline(always)]
                    || shrink_and_enlarge(channel, shape, &axes),
                );
            }
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("low_resolution");
        check.probability("probability", self.probability)?;
        check.probability("channel_probability", self.channel_probability)?;
        check.range("scale", self.scale, (0.01, 1.0))?;
        check.axes("axes", &self.axes)
    }
}

/// How one axis is shrunk and enlarged, with voxels as cells that fill the axis: PyTorch's `nearest-exact`, and `linear`
/// without aligned corners.
struct Axis {
    /// The voxel that each coarse voxel takes its value from.
    taken: Vec<usize>,
    /// For each voxel the two coarse voxels between which it lies, and how far it is from the first.
    between: Vec<(usize, usize, f32)>,
}

impl Axis {
    fn new(length: usize, coarse: usize) -> Self {
        let shrink = length as f32 / coarse as f32;
        let enlarge = coarse as f32 / length as f32;
        let taken = |i: usize| (((i as f32 + 0.5) * shrink) as usize).min(length - 1);
        let between = |i: usize| {
            let position = ((i as f32 + 0.5) * enlarge - 0.5).max(0.0);
            let first = (position as usize).min(coarse - 1);
            (first, (first + 1).min(coarse - 1), position - first as f32)
        };
        Axis {
            taken: (0..coarse).map(taken).collect(),
            between: (0..length).map(between).collect(),
        }
    }
}

/// The coarse slices are enlarged in the plane one after the other, and each voxel lies between two of them.
#[inline(always)]
fn shrink_and_enlarge(volume: &mut [f32], [_, height, width]: [usize; 3], axes: &[Axis; 3]) {
    let [depth_axis, height_axis, width_axis] = axes;
    let plane = height * width;
    // Coarse rows, already of full width; those of all slices, as the volume is overwritten from here on.
    let rows = height_axis.taken.len();
    let between = width_axis.between.iter();
    let columns: Vec<_> = between
        .map(|&(a, b, share)| (width_axis.taken[a], width_axis.taken[b], share))
        .collect();
    let mut coarse = Vec::with_capacity(depth_axis.taken.len() * rows * width);
    for &d in &depth_axis.taken {
        for &h in &height_axis.taken {
            let row = &volume[d * plane + h * width..][..width];
            coarse.extend(
                columns
                    .iter()
                    .map(|&(a, b, share)| mix(row[a], row[b], share)),
            );
        }
    }
    let enlarge = |slice: usize, out: &mut [f32]| {
        let slice = &coarse[slice * rows * width..][..rows * width];
        for (out, &(a, b, share)) in out.chunks_exact_mut(width).zip(&height_axis.between) {
            mix_rows(out, &slice[a * width..], &slice[b * width..], share);
        }
    };
    let mut planes = [vec![0.0; plane], vec![0.0; plane]];
    let mut held = [usize::MAX; 2];
    for (out, &(a, b, share)) in volume.chunks_exact_mut(plane).zip(&depth_axis.between) {
        if held[1] == a {
            planes.swap(0, 1);
            held.swap(0, 1);
        }
        for (side, slice) in [a, b].into_iter().enumerate() {
            if held[side] != slice {
                enlarge(slice, &mut planes[side]);
                held[side] = slice;
            }
        }
        mix_rows(out, &planes[0], &planes[1], share);
    }
}

#[inline(always)]
fn mix(a: f32, b: f32, share: f32) -> f32 {
    a * (1.0 - share) + b * share
}

#[inline(always)]
fn mix_rows(out: &mut [f32], a: &[f32], b: &[f32], share: f32) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = mix(*a, *b, share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_size_changes_nothing() {
        let shape = [3, 5, 7];
        let mut volume: Vec<f32> = (0..105).map(|i| ((i * 31) % 17) as f32).collect();
        let before = volume.clone();
        shrink_and_enlarge(&mut volume, shape, &shape.map(|n| Axis::new(n, n)));
        assert_eq!(volume, before);
    }

    #[test]
    fn one_coarse_voxel_makes_the_volume_even() {
        let shape = [3, 4, 5];
        let mut volume: Vec<f32> = (0..60u8).map(f32::from).collect();
        shrink_and_enlarge(&mut volume, shape, &shape.map(|n| Axis::new(n, 1)));
        assert_eq!(volume, [32.0; 60], "the voxel in the middle");
    }
}
