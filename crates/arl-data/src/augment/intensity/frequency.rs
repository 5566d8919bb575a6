//! Filters of spatial frequencies along one axis.

use std::f64::consts::TAU;

use super::convolution::{Boundary, convolve};

/// Multiplies each frequency along `axis` by `response(cycles over the axis)`, from 0 up to half of its length.
///
/// As a discrete Fourier transform would. It is done as the convolution that this is, as an axis of a patch is short.
pub(super) fn filter(
    volume: &mut [f32],
    shape: [usize; 3],
    axis: usize,
    response: impl Fn(usize) -> f32,
) {
    let n = shape[axis];
    let responses: Vec<f64> = (0..n).map(|k| f64::from(response(k.min(n - k)))).collect();
    let kernel: Vec<f32> = (0..n)
        .map(|i| {
            let waves = responses
                .iter()
                .enumerate()
                .map(|(k, response)| response * (TAU * ((i * k) % n) as f64 / n as f64).cos());
            (waves.sum::<f64>() / n as f64) as f32
        })
        .collect();
    // The kernel is the same forwards and backwards.
    convolve(volume, shape, axis, &kernel, 0, Boundary::Repeat);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_kept_or_lost_by_its_frequency() {
        for axis in 0..3 {
            let mut shape = [3, 2, 4];
            shape[axis] = 24;
            let stride: usize = shape[axis + 1..].iter().product();
            let wave = |cycles: usize| -> Vec<f32> {
                (0..shape.iter().product())
                    .map(|i: usize| {
                        (TAU * (i / stride % 24 * cycles) as f64 / 24.0 + 0.3).sin() as f32
                    })
                    .collect()
            };
            for (cycles, factor) in [(0, 1.0f32), (3, 0.5), (12, 0.0)] {
                let mut volume = wave(cycles);
                let responses = |k: usize| match k {
                    0 => 1.0,
                    3 => 0.5,
                    12 => 0.0,
                    _ => 7.0,
                };
                filter(&mut volume, shape, axis, responses);
                for (actual, original) in volume.iter().zip(wave(cycles)) {
                    assert!((actual - factor * original).abs() < 1e-5, "{axis} {cycles}");
                }
            }
        }
    }
}
