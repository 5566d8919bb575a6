//! Instance normalisation and leaky ReLU in one.
//!
//! On the CPU in f32 both are computed channel by channel, which then stays in the cache if it fits: [`kernel`] is the
//! arithmetic on slices, [`ops`] makes it a differentiable operation of the backend. On GPUs they are one pass for the
//! statistics and one for the result ([`cube_kernels`], [`planes`]). Elsewhere they are Burn's.

#[cfg(feature = "cubecl")]
mod cube;
#[cfg(feature = "cubecl")]
mod cube_kernels;
#[cfg(feature = "flex")]
mod kernel;
#[cfg(feature = "flex")]
mod ops;
#[cfg(feature = "cubecl")]
mod planes;
#[cfg(all(test, feature = "flex"))]
mod tests;

use burn::nn::InstanceNorm;
use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;

use crate::precision::{convert, single};

/// A leaky ReLU of this slope changes nothing.
pub(crate) const NO_ACTIVATION: f64 = 1.0;

/// `leaky_relu(norm(x))` of `[N, C, D, H, W]`, with this slope below zero. Statistics are those of f32 for x of 16 bits too.
pub(crate) fn norm_activation(norm: &InstanceNorm, x: Tensor<5>, slope: f64) -> Tensor<5> {
    #[cfg(feature = "cubecl")]
    if let (Some(gamma), Some(beta)) = (&norm.gamma, &norm.beta)
        && on_gpu(&x)
    {
        return planes::norm_activation(x, gamma.val(), beta.val(), norm.epsilon, slope);
    }
    let dtype = x.dtype();
    convert(normalized(norm, single(x), slope), dtype)
}

/// Whether the features live where the kernels of GPUs run, and can be counted there.
#[cfg(feature = "cubecl")]
fn on_gpu(x: &Tensor<5>) -> bool {
    use burn::tensor::DType;
    crate::channels_last::on_gpu(x)
        && matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16)
        && crate::cube::fits(x.dims())
}

fn normalized(norm: &InstanceNorm, x: Tensor<5>, slope: f64) -> Tensor<5> {
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
