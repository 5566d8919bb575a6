//! Mirroring.

use ndarray::{Array3, Array4, Axis};
use rand::{Rng, RngExt};

/// Flips image and labels along random axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// How often each axis is flipped, independently.
    pub probability: f64,
}

impl Default for Mirror {
    /// nnU-Net's value.
    fn default() -> Self {
        Mirror { probability: 0.5 }
    }
}

impl Mirror {
    /// Flips `image` `[C, D, H, W]` and `labels` `[D, H, W]` along some of `axes` (0 depth, 1 height, 2 width).
    pub fn apply(
        &self,
        image: &mut Array4<f32>,
        labels: &mut Array3<u16>,
        axes: &[usize],
        rng: &mut impl Rng,
    ) {
        let mut flipped = false;
        for &axis in axes {
            if rng.random_bool(self.probability) {
                image.invert_axis(Axis(axis + 1));
                labels.invert_axis(Axis(axis));
                flipped = true;
            }
        }
        // Inverting only turns the strides; what follows reads the patch as one contiguous block.
        if flipped {
            *image = image.as_standard_layout().into_owned();
            *labels = labels.as_standard_layout().into_owned();
        }
    }
}
