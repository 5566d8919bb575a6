use burn::module::Module;
use burn::nn::conv::{Conv3d, Conv3dConfig};
use burn::nn::{Initializer, InstanceNorm, InstanceNormConfig, PaddingConfig3d};
use burn::tensor::{Device, Tensor};

use crate::convolution::convolution;
use crate::initialization::{LEAKY_SLOPE, he_normal, zero_bias};
use crate::norm_activation::{NO_ACTIVATION, norm_activation};

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

    /// The block without its bias, which its normalisation cancels anyway; nnU-Net's projections are made so.
    pub(crate) fn without_bias(mut self) -> Self {
        self.conv.bias = None;
        self
    }

    /// The block with the scale of its normalisation at zero: what it adds to a residual connection begins as nothing.
    pub(crate) fn starting_at_zero(mut self, device: &Device) -> Self {
        let channels = self.norm.num_channels;
        self.norm.gamma = Some(Initializer::Zeros.init([channels], device));
        self
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        norm_activation(&self.norm, self.convolve(x), LEAKY_SLOPE)
    }

    /// Convolution and normalisation alone, for a sum that is activated afterwards.
    pub(crate) fn forward_without_activation(&self, x: Tensor<5>) -> Tensor<5> {
        norm_activation(&self.norm, self.convolve(x), NO_ACTIVATION)
    }

    fn convolve(&self, x: Tensor<5>) -> Tensor<5> {
        let weight = self.conv.weight.val();
        let bias = match &self.conv.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([weight.dims()[0]], &x.device()),
        };
        let [_, _, d, h, w] = weight.dims();
        let padding = [d, h, w].map(|size| size / 2);
        convolution(x, weight, bias, self.conv.stride, padding)
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
