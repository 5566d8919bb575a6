//! Convolution and transposed convolution, without dilation and groups.
//!
//! Burn computes them on every device. On the CPU in f32 they run on kernels of our own, whose speed is in
//! benches/RESULTS.md: [`kernel`] is the arithmetic on slices, [`ops`] makes it differentiable operations of the backend.

#[cfg(feature = "flex")]
mod kernel;
#[cfg(feature = "flex")]
mod ops;
#[cfg(all(test, feature = "flex"))]
mod tests;

use burn::tensor::Tensor;
use burn::tensor::module::conv3d;
use burn::tensor::ops::ConvOptions;

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
    if ops::supports(&x) {
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
    if ops::supports(&x) {
        return ops::upsampling_convolution(x, weight, bias);
    }
    let [input, output, a, b, c] = weight.dims();
    let rows = output * a * b * c;
    let weight = weight.reshape([input, rows]).transpose();
    let bias = bias.reshape([output, 1]).repeat_dim(1, a * b * c);
    let x = conv3d(
        x,
        weight.reshape([rows, input, 1, 1, 1]),
        Some(bias.reshape([rows])),
        ConvOptions::new([1; 3], [0; 3], [1; 3], 1),
    );
    depth_to_space(x, [a, b, c])
}
