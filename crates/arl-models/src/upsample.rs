use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::convolution::upsampling_convolution;
use crate::initialization::{he_leaky, zero_bias};

/// A transposed convolution whose kernel equals its stride. With stride 1 it is a plain 1×1×1 convolution.
#[derive(Module, Debug)]
pub(crate) struct Upsample {
    /// `[in, out, a, b, c]` for stride `[a, b, c]`, as in PyTorch's `ConvTranspose3d`.
    weight: Param<Tensor<5>>,
    /// `[out]`.
    bias: Param<Tensor<1>>,
}

impl Upsample {
    /// `channels` are `[in, out]`.
    pub(crate) fn new(channels: [usize; 2], stride: [usize; 3], device: &Device) -> Self {
        let [input, output] = channels;
        let [a, b, c] = stride;
        Self {
            // Each output voxel is a sum over `input` products, whatever the stride.
            weight: he_leaky().init_with([input, output, a, b, c], Some(input), None, device),
            bias: zero_bias(output, device),
        }
    }

    /// `[N, in, D, H, W]` to `[N, out, D·a, H·b, W·c]`.
    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        upsampling_convolution(x, self.weight.val(), self.bias.val())
    }
}
