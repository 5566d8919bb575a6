//! Convolution and transposed convolution, without dilation and groups.
//!
//! [`ops`] makes them differentiable operations of Burn's backends. On the CPU in f32 they run on kernels of our own, whose speed
//! is in benches/RESULTS.md: [`kernel`] is their arithmetic on slices. So they do on GPUs ([`cube`]). Elsewhere
//! they are Burn's.

#[cfg(feature = "cubecl")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "flex", feature = "cubecl"))]
mod geometry;
#[cfg(feature = "flex")]
mod kernel;
#[cfg(any(feature = "flex", feature = "cubecl"))]
mod ops;
#[cfg(all(test, feature = "flex"))]
mod tests;
#[cfg(feature = "flex")]
mod transposed;

use burn::tensor::Tensor;
use burn::tensor::module::conv3d;
use burn::tensor::ops::ConvOptions;

#[cfg(feature = "cubecl")]
pub(crate) use cube::matrix_units;
#[cfg(any(feature = "flex", feature = "cubecl"))]
use geometry::Geometry;

#[cfg(feature = "cubecl")]
use crate::channels_last::on_gpu;
use crate::depth_to_space;
use crate::precision::like;

/// Convolution of `[N, Cin, D, H, W]` with weights `[Cout, Cin, kernel]` and a bias `[Cout]`.
pub(crate) fn convolution(
    x: Tensor<5>,
    weight: Tensor<5>,
    bias: Tensor<1>,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Tensor<5> {
    let (weight, bias) = (like(weight, &x), like(bias, &x));
    #[cfg(feature = "flex")]
    if on_our_cpu_kernels(&x) {
        return ops::convolution(x, weight, bias, stride, padding);
    }
    #[cfg(feature = "cubecl")]
    if on_gpu(&x) && counted(x.dims(), weight.dims()[0], padding) {
        return ops::convolution(x, weight, bias, stride, padding);
    }
    let options = ConvOptions::new(stride, padding, [1; 3], 1);
    conv3d(x, weight, Some(bias), options)
}

/// Transposed convolution of `[N, Cin, D, H, W]` with weights `[Cin, Cout, a, b, c]` and a bias `[Cout]`, whose
/// stride is its kernel: `[N, Cout, D·a, H·b, W·c]`.
///
/// On other devices than the CPU it is a 1×1×1 convolution and a [`depth_to_space`], which GPUs are fast at.
pub(crate) fn upsampling_convolution(
    x: Tensor<5>,
    weight: Tensor<5>,
    bias: Tensor<1>,
) -> Tensor<5> {
    let (weight, bias) = (like(weight, &x), like(bias, &x));
    #[cfg(feature = "flex")]
    if on_our_cpu_kernels(&x) {
        return transposed::upsampling_convolution(x, weight, bias);
    }
    let [input, output, a, b, c] = weight.dims();
    let rows = a * b * c * output;
    let weight = weight.permute([2, 3, 4, 1, 0]);
    let weight = weight.reshape([rows, input, 1, 1, 1]);
    let bias = bias.repeat_dim(0, a * b * c);
    let x = convolution(x, weight, bias, [1; 3], [0; 3]);
    depth_to_space(x, [a, b, c])
}

/// Whether this tensor lives where the kernels of the CPU run.
#[cfg(feature = "flex")]
fn on_our_cpu_kernels(x: &Tensor<5>) -> bool {
    use burn::tensor::{DType, Device};
    x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// Whether the kernels of GPUs, which count in 32 bits, can count the input and the output.
#[cfg(feature = "cubecl")]
fn counted(x: [usize; 5], outputs: usize, padding: [usize; 3]) -> bool {
    let [images, inputs, d, h, w] = x;
    let [d, h, w] = [d + 2 * padding[0], h + 2 * padding[1], w + 2 * padding[2]];
    crate::cube::fits([images, inputs.max(outputs), d, h, w])
}
