use burn::module::{Module, Param};
use burn::tensor::module::conv3d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use crate::depth_to_space;
use crate::initialization::{he_normal, zero_bias};

/// A transposed convolution whose kernel equals its stride, computed as a 1×1×1 convolution followed by
/// [`depth_to_space`]. With stride 1 it is a plain 1×1×1 convolution.
#[derive(Module, Debug)]
pub(crate) struct Upsample {
    /// `[out·a·b·c, in, 1, 1, 1]` for stride `[a, b, c]`.
    weight: Param<Tensor<5>>,
    /// `[out]`: the voxels of a block share it, as in a transposed convolution.
    bias: Param<Tensor<1>>,
    stride: [usize; 3],
}

impl Upsample {
    /// `channels` are `[in, out]`.
    pub(crate) fn new(channels: [usize; 2], stride: [usize; 3], device: &Device) -> Self {
        let [input, output] = channels;
        let rows = output * stride.iter().product::<usize>();
        Self {
            // Each output voxel is a sum over `input` products, whatever the stride.
            weight: he_normal().init_with([rows, input, 1, 1, 1], Some(input), None, device),
            bias: zero_bias(output, device),
            stride,
        }
    }

    /// `[N, in, D, H, W]` to `[N, out, D·a, H·b, W·c]`.
    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let bias = self.bias.val();
        let [output] = bias.dims();
        let block = self.stride.iter().product::<usize>();
        let bias = bias
            .reshape([output, 1])
            .repeat_dim(1, block)
            .reshape([output * block]);
        let options = ConvOptions::new([1; 3], [0; 3], [1; 3], 1);
        depth_to_space(
            conv3d(x, self.weight.val(), Some(bias), options),
            self.stride,
        )
    }
}
