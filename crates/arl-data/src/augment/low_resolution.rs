//! Simulated low resolution.

use ndarray::{Array4, Axis};
use rand::{Rng, RngExt};

use crate::resample::{Order, resize};

/// An axis this many times shorter than the longest is taken to be coarse already and left alone.
const ANISOTROPY_THRESHOLD: usize = 3;

/// Shrinks some channels to fewer voxels (nearest) and enlarges them again (linear).
#[derive(Debug, Clone, PartialEq)]
pub struct LowResolution {
    /// How often a patch is changed at all.
    pub probability: f64,
    /// How often a channel of such a patch is changed.
    pub channel_probability: f64,
    /// Range of the factor on the number of voxels per axis, drawn per channel, the same for all axes.
    pub scale: (f32, f32),
}

impl Default for LowResolution {
    /// nnU-Net's values.
    fn default() -> Self {
        LowResolution {
            probability: 0.25,
            channel_probability: 0.5,
            scale: (0.5, 1.0),
        }
    }
}

impl LowResolution {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !rng.random_bool(self.probability) {
            return;
        }
        for mut channel in image.axis_iter_mut(Axis(0)) {
            if rng.random_bool(self.channel_probability) {
                let (low, high) = self.scale;
                let shape: [usize; 3] = channel.dim().into();
                let small = shrunk(shape, rng.random_range(low..high));
                let coarse = resize(channel.view(), small, Order::Nearest);
                channel.assign(&resize(coarse.view(), shape, Order::Linear));
            }
        }
    }
}

/// `shape` times `scale` on all axes but coarse ones, at least one voxel each.
fn shrunk(shape: [usize; 3], scale: f32) -> [usize; 3] {
    let longest = shape.into_iter().max().unwrap_or(1);
    shape.map(|n| {
        if longest > ANISOTROPY_THRESHOLD * n {
            n
        } else {
            ((n as f32 * scale).round() as usize).max(1)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_axes_are_left_alone() {
        assert_eq!(shrunk([20, 96, 64], 0.5), [20, 48, 32]);
        assert_eq!(shrunk([32, 96, 1], 0.75), [24, 72, 1]);
    }
}
