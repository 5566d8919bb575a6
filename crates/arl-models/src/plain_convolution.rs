use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::convolution::convolution;
use crate::initialization::zero_bias;

/// A convolution with nothing around it.
#[derive(Module, Debug)]
pub(crate) struct Convolution {
    /// `[out, in, kernel]`.
    weight: Param<Tensor<5>>,
    /// `[out]`.
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    stride: [usize; 3],
    #[module(skip)]
    padding: [usize; 3],
}

impl Convolution {
    /// `channels` are `[in, out]`; kernel, stride and padding `[D, H, W]`.
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
        initializer: Initializer,
        device: &Device,
    ) -> Self {
        let [input, output] = channels;
        let [d, h, w] = kernel;
        let shape = [output, input, d, h, w];
        Self {
            weight: initializer.init_with(shape, Some(input * d * h * w), None, device),
            bias: Some(zero_bias(output, device)),
            stride,
            padding,
        }
    }

    /// For a normalisation right behind, which cancels a bias anyway.
    pub(crate) fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let weight = self.weight.val();
        let bias = match &self.bias {
            Some(bias) => bias.val(),
            // A number per channel, which is nothing beside the convolution. Without it there would be one more operation, of two
            // parents, and its kernels for GPUs would be compiled a second time.
            None => Tensor::zeros([weight.dims()[0]], &x.device()),
        };
        convolution(x, weight, bias, self.stride, self.padding)
    }
}
