//! Mirroring.

use ndarray::{Array3, Array4};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::augment::draw::happens;
use crate::augment::error::{AugmentError, Check};

/// Flips image and labels along random axes.
///
/// ```
/// use arl_data::augment::Mirror;
/// use ndarray::{Array3, Array4};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::from_shape_fn((1, 1, 1, 3), |(_, _, _, w)| w as f32);
/// let mut labels = Array3::from_shape_fn((1, 1, 3), |(_, _, w)| w as u16);
/// let always = Mirror { probability: 1.0, axes: vec![2] };
/// always.apply(&mut image, &mut labels, &mut StdRng::seed_from_u64(0));
/// assert_eq!(image.as_slice().unwrap(), [2.0, 1.0, 0.0]);
/// assert_eq!(labels.as_slice().unwrap(), [2, 1, 0]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    /// How often each axis is flipped, independently.
    pub probability: f64,
    /// The axes that may be flipped: 0 depth, 1 height, 2 width. Only axes whose two sides are interchangeable.
    pub axes: Vec<usize>,
}

impl Default for Mirror {
    /// nnU-Net's values.
    fn default() -> Self {
        Mirror {
            probability: 0.5,
            axes: vec![0, 1, 2],
        }
    }
}

impl Mirror {
    /// Which of the axes `[D, H, W]` of the next patch are flipped.
    pub fn draw(&self, rng: &mut impl Rng) -> [bool; 3] {
        let mut flipped = [false; 3];
        for &axis in &self.axes {
            flipped[axis] = happens(self.probability, rng);
        }
        flipped
    }

    /// Flips `image` `[C, D, H, W]` and `labels` `[D, H, W]` alike, in place.
    ///
    /// # Panics
    /// With an axis above 2.
    pub fn apply(&self, image: &mut Array4<f32>, labels: &mut Array3<u16>, rng: &mut impl Rng) {
        flip(image, labels, self.draw(rng));
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("mirror");
        check.probability("probability", self.probability)?;
        check.axes("axes", &self.axes)
    }
}

/// Flips image and labels along these axes, in place; both are in standard layout then.
pub(super) fn flip(image: &mut Array4<f32>, labels: &mut Array3<u16>, axes: [bool; 3]) {
    if !image.is_standard_layout() {
        *image = image.as_standard_layout().into_owned();
    }
    if !labels.is_standard_layout() {
        *labels = labels.as_standard_layout().into_owned();
    }
    let (_, d, h, w) = image.dim();
    for channel in image
        .as_slice_mut()
        .unwrap_or_default()
        .chunks_exact_mut((d * h * w).max(1))
    {
        flip_volume(channel, [d, h, w], axes);
    }
    let (d, h, w) = labels.dim();
    flip_volume(labels.as_slice_mut().unwrap_or_default(), [d, h, w], axes);
}

/// Swaps every row with the one that takes its place, and turns both around if their own axis is flipped.
fn flip_volume<T>(volume: &mut [T], [depth, height, width]: [usize; 3], axes: [bool; 3]) {
    if volume.is_empty() || axes == [false; 3] {
        return;
    }
    for row in 0..depth * height {
        let (d, h) = (row / height, row % height);
        let other_d = if axes[0] { depth - 1 - d } else { d };
        let other_h = if axes[1] { height - 1 - h } else { h };
        let other = other_d * height + other_h;
        if other > row {
            let (before, after) = volume.split_at_mut(other * width);
            let (a, b) = (&mut before[row * width..][..width], &mut after[..width]);
            a.swap_with_slice(b);
            if axes[2] {
                a.reverse();
                b.reverse();
            }
        } else if other == row && axes[2] {
            volume[row * width..][..width].reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Axis;

    use super::*;

    #[test]
    fn every_combination_of_axes() {
        let image = Array4::from_shape_fn((2, 3, 4, 5), |(c, d, h, w)| {
            (c * 1000 + d * 100 + h * 10 + w) as f32
        });
        let labels = Array3::from_shape_fn((3, 4, 5), |(d, h, w)| (d * 100 + h * 10 + w) as u16);
        for combination in 0..8 {
            let axes = [0, 1, 2].map(|axis| combination >> axis & 1 == 1);
            let (mut expected, mut expected_labels) = (image.clone(), labels.clone());
            for axis in (0..3).filter(|axis| axes[*axis]) {
                expected.invert_axis(Axis(axis + 1));
                expected_labels.invert_axis(Axis(axis));
            }
            let (mut flipped, mut flipped_labels) = (image.clone(), labels.clone());
            flip(&mut flipped, &mut flipped_labels, axes);
            assert_eq!(
                (flipped, flipped_labels),
                (expected, expected_labels),
                "{axes:?}"
            );
        }
    }
}
