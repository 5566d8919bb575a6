use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::convolution::upsampling_convolution;
use crate::initialization::zero_bias;

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
    pub(crate) fn new(
        channels: [usize; 2],
        stride: [usize; 3],
        weights: Initializer,
        device: &Device,
    ) -> Self {
        let [input, output] = channels;
        let [a, b, c] = stride;
        // PyTorch and Caffe, which the published networks were drawn by, take a transposed convolution for the convolution that it is
        // the way back of: each of that one's voxels is a sum over so many products.
        let products = match stride {
            [1, 1, 1] => input,
            _ => output * a * b * c,
        };
        Self {
            weight: weights.init_with([input, output, a, b, c], Some(products), None, device),
            bias: zero_bias(output, device),
        }
    }

    /// `[N, in, D, H, W]` to `[N, out, D·a, H·b, W·c]`.
    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        upsampling_convolution(x, self.weight.val(), self.bias.val())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initialization::{he_leaky, he_relu};

    #[test]
    fn weights_are_drawn_as_pytorch_and_caffe_draw_them() {
        // torch.nn.init.kaiming_normal_ of ConvTranspose3d's weight with a = 0.01, and of Conv3d's; Caffe's msra.
        for (stride, weights, deviation) in [
            ([2, 2, 2], he_leaky(), 0.088384),
            ([1, 2, 2], he_leaky(), 0.124994),
            ([1, 1, 1], he_leaky(), 0.176768),
            ([2, 2, 2], he_relu(), 0.088388),
        ] {
            let device = Device::flex();
            let drawn = Upsample::new([64, 32], stride, weights, &device)
                .weight
                .val();
            let found: f32 = drawn.powf_scalar(2.0).mean().sqrt().into_scalar();
            // Five times what the mean of the fewest squares, 2,048 of them, is off by.
            let bound = 5.0 / (2.0 * 2048f32).sqrt();
            assert!(
                (found / deviation - 1.0).abs() < bound,
                "{found} instead of {deviation} for a stride of {stride:?}"
            );
        }
    }
}
