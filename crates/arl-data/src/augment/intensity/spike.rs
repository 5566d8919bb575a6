//! Stripes of a spark in the measured frequencies.

use std::f32::consts::TAU;

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::channels::{Moments, channels};
use crate::augment::draw::{happens, uniform};
use crate::augment::error::{AugmentError, Check};

/// Adds one plane wave of random direction, length and phase to all channels: a single wrong value among the measured
/// frequencies, the herringbone of magnetic resonance images.
///
/// ```
/// use arl_data::augment::Spike;
/// use ndarray::Array4;
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut image = Array4::from_shape_fn((1, 8, 8, 8), |(_, d, h, w)| (d + h + w) as f32);
/// let before = image.clone();
/// let spike = Spike { probability: 1.0, amplitude: (0.2, 0.2), ..Default::default() };
/// spike.apply(&mut image, &mut StdRng::seed_from_u64(0));
/// let limit = 0.2 * before.std(0.0) + 1e-5;
/// assert!((&image - &before).iter().all(|change| change.abs() <= limit));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spike {
    /// How often a patch is changed.
    pub probability: f64,
    /// Range of the wave's amplitude in standard deviations of the channel.
    pub amplitude: (f32, f32),
    /// Range of the wave's cycles per voxel along each axis, of either sign.
    pub frequency: (f32, f32),
}

impl Default for Spike {
    /// Faint to clearly visible waves of 2.5 to 20 voxels, in one patch of ten.
    fn default() -> Self {
        Spike {
            probability: 0.1,
            amplitude: (0.05, 0.3),
            frequency: (0.05, 0.4),
        }
    }
}

impl Spike {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !happens(self.probability, rng) {
            return;
        }
        let amplitude = uniform(self.amplitude, rng);
        let frequency = [0; 3].map(|_| {
            let frequency = uniform(self.frequency, rng);
            if happens(0.5, rng) {
                -frequency
            } else {
                frequency
            }
        });
        let phase = uniform((0.0, 1.0), rng);
        let (channels, shape) = channels(image);
        let [_, height, width] = shape;
        let angle = |w: usize| TAU * (frequency[2] * w as f32).fract();
        let columns: Vec<(f32, f32)> = (0..width).map(|w| angle(w).sin_cos()).collect();
        for channel in channels {
            let size = amplitude * Moments::of(channel).deviation;
            for (row, values) in channel.chunks_exact_mut(width.max(1)).enumerate() {
                let (d, h) = ((row / height) as f32, (row % height) as f32);
                let turns = frequency[0] * d + frequency[1] * h + phase;
                let (sine, cosine) = (TAU * turns.fract()).sin_cos();
                // The cosine of the sum of both angles.
                for (value, (s, c)) in values.iter_mut().zip(&columns) {
                    *value += size * (cosine * c - sine * s);
                }
            }
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = Check("spike");
        check.probability("probability", self.probability)?;
        check.range("amplitude", self.amplitude, (0.0, 100.0))?;
        check.range("frequency", self.frequency, (0.0, 0.5))
    }
}
