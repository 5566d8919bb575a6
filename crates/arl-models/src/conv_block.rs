use burn::module::Module;
use burn::nn::conv::{Conv3d, Conv3dConfig};
use burn::nn::{InstanceNorm, InstanceNormConfig, PaddingConfig3d};
use burn::tensor::{Device, Tensor};

use crate::convolution::convolution;
use crate::initialization::{he_normal, zero_bias};
use crate::norm_activation::norm_activation;

/// Convolution, instance normalisation, leaky ReLU: the unit that nnU-Net's plain networks are made of.
#[derive(Module, Debug)]
pub(crate) struct ConvBlock {
    conv: Conv3d,
    norm: InstanceNorm,
}

impl ConvBlock {
    /// `channels` are `[in, out]`. The kernel is odd; its padding keeps the size but for the stride.
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        device: &Device,
    ) -> Self {
        let [depth, height, width] = kernel.map(|size| size / 2);
        let mut conv = Conv3dConfig::new(channels, kernel)
            .with_stride(stride)
            .with_padding(PaddingConfig3d::Explicit(depth, height, width))
            .with_initializer(he_normal())
            .with_bias(false)
            .init(device);
        conv.bias = Some(zero_bias(channels[1], device));
        Self {
            conv,
            norm: InstanceNormConfig::new(channels[1]).init(device),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let bias = self.conv.bias.as_ref().expect("made with a bias").val();
        let x = convolution(x, self.conv.weight.val(), bias, self.conv.stride);
        norm_activation(&self.norm, x)
    }
}

/// Several blocks in a row, of which the first changes the number of channels and may be strided.
#[derive(Module, Debug)]
pub(crate) struct ConvStage {
    blocks: Vec<ConvBlock>,
}

impl ConvStage {
    /// `count` blocks, `channels` are `[in, out]` of the whole stage.
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        count: usize,
        device: &Device,
    ) -> Self {
        let [input, output] = channels;
        let first = ConvBlock::new([input, output], kernel, stride, device);
        let rest = (1..count).map(|_| ConvBlock::new([output, output], kernel, [1; 3], device));
        Self {
            blocks: std::iter::once(first).chain(rest).collect(),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.blocks.iter().fold(x, |x, block| block.forward(x))
    }
}
