//! The arithmetic on slices. A task is one channel of one image; statistics are f64 sums of short f32 sums, in an
//! order that does not depend on the number of threads.

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::lanes::{RUN, sum};
use crate::unfilled::written;

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
    let arch = Arch::new();
    let normalize = |out: &mut [MaybeUninit<f32>]| {
        out.par_chunks_exact_mut(voxels)
            .zip(x.par_chunks_exact(voxels))
            .enumerate()
            .for_each(|(row, (out, x))| {
                let channel = row % gamma.len();
                arch.dispatch(Forward {
                    out,
                    x,
                    gamma: gamma[channel],
                    beta: beta[channel],
                    options,
                });
            });
    };
    // SAFETY: each channel of each image writes its voxels.
    unsafe { written(x.len(), normalize) }.0
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
    let arch = Arch::new();
    let go_back = |input: &mut [MaybeUninit<f32>]| -> Vec<[f64; 2]> {
        input
            .par_chunks_exact_mut(voxels)
            .zip(
                x.par_chunks_exact(voxels)
                    .zip(gradient.par_chunks_exact(voxels)),
            )
            .enumerate()
            .map(|(row, (input, (x, gradient)))| {
                let channel = row % channels;
                arch.dispatch(Backward {
                    input,
                    x,
                    gradient,
                    gamma: gamma[channel],
                    beta: beta[channel],
                    options,
                })
            })
            .collect()
    };
    // Per image and channel: the gradients of gamma and beta.
    // SAFETY: each channel of each image writes its voxels.
    let (input, sums) = unsafe { written(x.len(), go_back) };
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

// Rows are structures rather than closures, which the compiler would not put into the code for wide vectors.

/// [`forward`] of one channel of one image.
struct Forward<'a> {
    out: &'a mut [MaybeUninit<f32>],
    x: &'a [f32],
    gamma: f32,
    beta: f32,
    options: Options,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let slope = self.options.slope as f32;
        let (mean, rest, scale) = statistics(self.x, self.options.epsilon);
        let scale = scale * self.gamma;
        let shift = self.beta - rest * scale;
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            let y = (x - mean) * scale + shift;
            out.write(behind_activation(y, y, slope));
        }
    }
}

/// [`backward`] of one channel of one image.
struct Backward<'a> {
    input: &'a mut [MaybeUninit<f32>],
    x: &'a [f32],
    gradient: &'a [f32],
    gamma: f32,
    beta: f32,
    options: Options,
}

impl WithSimd for Backward<'_> {
    /// The gradients of gamma and beta.
    type Output = [f64; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [f64; 2] {
        let slope = self.options.slope as f32;
        let (mean, rest, scale) = statistics(self.x, self.options.epsilon);
        let normalized = |x: f32| (x - mean - rest) * scale;
        // As in the forward pass, so that both see the same sign.
        let gain = scale * self.gamma;
        let shift = self.beta - rest * gain;
        // The gradient behind the activation, and its sums, while a run of it is at hand.
        let (mut of_beta, mut of_gamma) = (0.0, 0.0);
        for ((input, x), gradient) in (self.input.chunks_mut(RUN))
            .zip(self.x.chunks(RUN))
            .zip(self.gradient.chunks(RUN))
        {
            for ((input, &x), &gradient) in input.iter_mut().zip(x).zip(gradient) {
                let y = (x - mean) * gain + shift;
                input.write(behind_activation(y, gradient, slope));
            }
            // SAFETY: they were written right here.
            let input = unsafe { input.assume_init_ref() };
            of_beta += sum(x.len(), |i| input[i]);
            of_gamma += sum(x.len(), |i| input[i] * normalized(x[i]));
        }
        let voxels = self.x.len() as f64;
        let (mean_gradient, mean_product) = ((of_beta / voxels) as f32, (of_gamma / voxels) as f32);
        // SAFETY: they were written above, run by run.
        let input = unsafe { self.input.assume_init_mut() };
        for (input, &x) in input.iter_mut().zip(self.x) {
            *input = gain * (*input - mean_gradient - normalized(x) * mean_product);
        }
        [of_gamma, of_beta]
    }
}

/// `value` where y is positive, and times the slope elsewhere. Both are computed: a branch nobody could predict.
#[inline(always)]
fn behind_activation(y: f32, value: f32, slope: f32) -> f32 {
    let sloped = value * slope;
    if y > 0.0 { value } else { sloped }
}

/// Mean, what f32 leaves of it, and one over the standard deviation. The mean is subtracted from a voxel before anything
/// else: of values far from 0, multiplied first, the digits that tell them apart would be lost.
///
/// The row is read once: mean and squared deviations of each run, which the fastest cache holds, join those of the runs before
/// (Chan, Golub and LeVeque, 1979).
#[inline(always)]
fn statistics(x: &[f32], epsilon: f64) -> (f32, f32, f32) {
    let (mut count, mut exact, mut squares) = (0.0, 0.0, 0.0);
    for run in x.chunks(RUN) {
        let voxels = run.len() as f64;
        let of_run = sum(run.len(), |i| run[i]) / voxels;
        let near = of_run as f32;
        let about_near = sum(run.len(), |i| (run[i] - near) * (run[i] - near));
        let all = count + voxels;
        let apart = of_run - exact;
        squares += about_near - voxels * (of_run - f64::from(near)).powi(2)
            + apart * apart * count * voxels / all;
        exact += apart * voxels / all;
        count = all;
    }
    let mean = exact as f32;
    let rest = (exact - f64::from(mean)) as f32;
    (
        mean,
        rest,
        (squares / count + epsilon).sqrt().recip() as f32,
    )
}
