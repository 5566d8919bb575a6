//! Instance normalisation and leaky ReLU in one.
//!
//! On the CPU in f32 both are computed channel by channel, which then stays in the cache if it fits: [`kernel`] is the
//! arithmetic on slices, [`ops`] makes it a differentiable operation of the backend. Elsewhere they are Burn's.

#[cfg(feature = "flex")]
mod kernel;
#[cfg(feature = "flex")]
mod ops;
#[cfg(all(test, feature = "flex"))]
mod tests;

use burn::nn::InstanceNorm;
use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;

/// A leaky ReLU of this slope changes nothing.
pub(crate) const NO_ACTIVATION: f64 = 1.0;

/// `leaky_relu(norm(x))` of `[N, C, D, H, W]`, with this slope below zero.
pub(crate) fn norm_activation(norm: &InstanceNorm, x: Tensor<5>, slope: f64) -> Tensor<5> {
    #[cfg(feature = "flex")]
    if let (Some(gamma), Some(beta)) = (&norm.gamma, &norm.beta)
        && ops::supports(&x)
    {
        return ops::norm_activation(x, gamma.val(), beta.val(), norm.epsilon, slope);
    }
    let x = norm.forward(x);
    if slope == NO_ACTIVATION {
        return x;
    }
    leaky_relu(x, slope)
}
