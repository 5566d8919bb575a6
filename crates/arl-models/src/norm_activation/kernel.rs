//! The arithmetic on slices. A task is one channel of one image; statistics are f64 sums of short f32 sums, in an
//! order that does not depend on the number of threads.

use pulp::Arch;
use rayon::prelude::*;

use crate::lanes::sum;

/// What the passes share.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Added to the variance.
    pub epsilon: f64,
    /// Slope of the activation below zero.
    pub slope: f64,
}

/// Gradients with respect to the input, gamma and beta.
pub(super) struct Gradients {
    /// As the input.
    pub input: Vec<f32>,
    /// `[C]`.
    pub gamma: Vec<f32>,
    /// `[C]`.
    pub beta: Vec<f32>,
}

/// `leaky_relu(gamma·(x − mean)/√(variance + epsilon) + beta)` of `[N, C, voxels]`, with the mean and the (biased)
/// variance of each channel of each image.
pub(super) fn forward(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    voxels: usize,
    options: Options,
) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let slope = options.slope as f32;
    let arch = Arch::new();
    out.par_chunks_exact_mut(voxels)
        .zip(x.par_chunks_exact(voxels))
        .enumerate()
        .for_each(|(row, (out, x))| {
            let channel = row % gamma.len();
            arch.dispatch(
                #[inline(always)]
                || {
                    let (mean, rest, scale) = statistics(x, options.epsilon);
                    let scale = scale * gamma[channel];
                    let shift = beta[channel] - rest * scale;
                    for (out, &x) in out.iter_mut().zip(x) {
                        let y = (x - mean) * scale + shift;
                        *out = if y > 0.0 { y } else { y * slope };
                    }
                },
            );
        });
    out
}

/// The gradients of [`forward`], from that with respect to its result.
pub(super) fn backward(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    gradient: &[f32],
    voxels: usize,
    options: Options,
) -> Gradients {
    let channels = gamma.len();
    let slope = options.slope as f32;
    let mut input = vec![0.0; x.len()];
    let arch = Arch::new();
    // Per image and channel: the gradients of gamma and beta.
    let sums: Vec<[f64; 2]> = input
        .par_chunks_exact_mut(voxels)
        .zip(
            x.par_chunks_exact(voxels)
                .zip(gradient.par_chunks_exact(voxels)),
        )
        .enumerate()
        .map(|(row, (input, (x, gradient)))| {
            let channel = row % channels;
            arch.dispatch(
                #[inline(always)]
                || {
                    let (mean, rest, scale) = statistics(x, options.epsilon);
                    let normalized = |x: f32| (x - mean - rest) * scale;
                    // As in the forward pass, so that both see the same sign.
                    let (gain, shift) = (
                        scale * gamma[channel],
                        beta[channel] - rest * (scale * gamma[channel]),
                    );
                    for ((input, &x), &gradient) in input.iter_mut().zip(x).zip(gradient) {
                        let active = (x - mean) * gain + shift > 0.0;
                        *input = if active { gradient } else { gradient * slope };
                    }
                    let of_beta = sum(x.len(), |i| input[i]);
                    let of_gamma = sum(x.len(), |i| input[i] * normalized(x[i]));
                    let (mean_gradient, mean_product) = (
                        (of_beta / voxels as f64) as f32,
                        (of_gamma / voxels as f64) as f32,
                    );
                    for (input, &x) in input.iter_mut().zip(x) {
                        *input = gain * (*input - mean_gradient - normalized(x) * mean_product);
                    }
                    [of_gamma, of_beta]
                },
            )
        })
        .collect();
    let total = |which: usize| -> Vec<f32> {
        let of_channel = |channel: usize| {
            let images = sums.iter().skip(channel).step_by(channels);
            images.map(|sums| sums[which]).sum::<f64>() as f32
        };
        (0..channels).map(of_channel).collect()
    };
    Gradients {
        gamma: total(0),
        beta: total(1),
        input,
    }
}

/// Mean, what f32 leaves of it, and one over the standard deviation. The mean is subtracted from a voxel before anything
/// else: of values far from 0, multiplied first, the digits that tell them apart would be lost.
#[inline(always)]
fn statistics(x: &[f32], epsilon: f64) -> (f32, f32, f32) {
    let voxels = x.len() as f64;
    let exact = sum(x.len(), |i| x[i]) / voxels;
    let mean = exact as f32;
    let rest = (exact - f64::from(mean)) as f32;
    let variance = sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / voxels;
    (mean, rest, (variance + epsilon).sqrt().recip() as f32)
}
