//! Gamma correction.

use ndarray::{Array4, ArrayViewMut3, Axis};
use rand::{Rng, RngExt};

use super::factor_around_one;

/// Smallest range and deviation that are divided by.
const SMALLEST: f32 = 1e-7;

/// Raises each channel, scaled to 0..1, to its own random power, and restores its mean and standard deviation.
#[derive(Debug, Clone, PartialEq)]
pub struct Gamma {
    /// How often a patch is changed.
    pub probability: f64,
    /// Range of the power; half of the draws lie below 1, half above.
    pub power: (f32, f32),
    /// Whether the power acts on the negated image, so that it bends the bright end instead of the dark one.
    pub invert: bool,
}

impl Default for Gamma {
    /// nnU-Net's second gamma transform, on the image as it is.
    fn default() -> Self {
        Gamma {
            probability: 0.3,
            power: (0.7, 1.5),
            invert: false,
        }
    }
}

impl Gamma {
    /// nnU-Net's first gamma transform, on the negated image.
    pub fn inverted() -> Self {
        Gamma {
            probability: 0.1,
            invert: true,
            ..Gamma::default()
        }
    }

    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        if !rng.random_bool(self.probability) {
            return;
        }
        for channel in image.axis_iter_mut(Axis(0)) {
            bend(channel, factor_around_one(self.power, rng), self.invert);
        }
    }
}

/// Applies one power to one channel.
fn bend(mut channel: ArrayViewMut3<'_, f32>, power: f32, invert: bool) {
    let sign = if invert { -1.0 } else { 1.0 };
    let (mean, deviation) = mean_and_deviation(&channel);
    let bounds = (f32::INFINITY, f32::NEG_INFINITY);
    let (low, high) = channel.iter().fold(bounds, |(low, high), v| {
        (low.min(sign * v), high.max(sign * v))
    });
    let range = high - low;
    channel.mapv_inplace(|v| {
        let unit = (sign * v - low) / range.max(SMALLEST);
        sign * (unit.powf(power) * range + low)
    });
    let (new_mean, new_deviation) = mean_and_deviation(&channel);
    let scale = deviation / new_deviation.max(SMALLEST);
    channel.mapv_inplace(|v| (v - new_mean) * scale + mean);
}

/// Mean and standard deviation, summed in double precision.
fn mean_and_deviation(channel: &ArrayViewMut3<'_, f32>) -> (f32, f32) {
    let n = channel.len().max(1) as f64;
    let mean = channel.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = channel
        .iter()
        .map(|v| (f64::from(*v) - mean).powi(2))
        .sum::<f64>()
        / n;
    (mean as f32, variance.sqrt() as f32)
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn mean_and_deviation_stay_and_the_order_of_values_too() {
        for invert in [false, true] {
            let mut x = Array3::from_shape_fn((3, 4, 5), |(d, h, w)| (d * 20 + h * 5 + w) as f32);
            let before = mean_and_deviation(&x.view_mut());
            bend(x.view_mut(), 1.4, invert);
            let after = mean_and_deviation(&x.view_mut());
            assert!((before.0 - after.0).abs() < 1e-3 && (before.1 - after.1).abs() < 1e-3);
            let values: Vec<f32> = x.iter().copied().collect();
            assert!(values.is_sorted());
            // A power above one flattens the end it starts from.
            let (first, last) = (values[1] - values[0], values[59] - values[58]);
            assert_eq!(first < last, !invert);
        }
    }

    #[test]
    fn a_constant_stays() {
        let mut x = Array3::from_elem((2, 2, 2), 5.0f32);
        bend(x.view_mut(), 0.7, false);
        assert!(x.iter().all(|v| (v - 5.0).abs() < 1e-5));
    }
}
