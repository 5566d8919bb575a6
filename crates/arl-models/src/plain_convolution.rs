use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::convolution::convolution;
use crate::initialization::zero_bias;

/// A convolution with its bias and nothing around it.
#[derive(Module, Debug)]
pub(crate) struct Convolution {
    /// `[out, in, kernel]`.
    weight: Param<Tensor<5>>,
    /// `[out]`.
    bias: Param<Tensor<1>>,
    #[module(skip)]
    stride: [usize; 3],
    #[module(skip)]
    padding: [usize; 3],
}

impl Convolution {
    /// `channels` are `[in, out]`. Weights begin as He's for a ReLU (ICCV 2015), which Caffe calls `msra`.
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: usize,
        device: &Device,
    ) -> Self {
        let [input, output] = channels;
        let inputs = input * kernel.pow(3);
        let he = Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: false,
        };
        let shape = [output, input, kernel, kernel, kernel];
        Self {
            weight: he.init_with(shape, Some(inputs), None, device),
            bias: zero_bias(output, device),
            stride: [stride; 3],
            padding: [padding; 3],
        }
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        convolution(x, weight, bias, self.stride, self.padding)
    }
}
