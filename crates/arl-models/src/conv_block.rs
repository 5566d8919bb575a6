use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::LayerConfig;
use crate::initialization::he_leaky;
use crate::layers::Layers;
use crate::plain_convolution::Convolution;

/// A convolution and what follows it: the unit that all the networks are made of.
#[derive(Module, Debug)]
pub(crate) struct ConvBlock {
    conv: Convolution,
    layers: Layers,
}

impl ConvBlock {
    pub(crate) fn new(conv: Convolution, layers: Layers) -> Self {
        Self { conv, layers }
    }

    /// As nnU-Net's plain networks have it. `channels` are `[in, out]`; the kernel is odd, and its padding keeps the size
    /// but for the stride.
    pub(crate) fn nnunet(
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        layers: &LayerConfig,
        device: &Device,
    ) -> Self {
        let padding = kernel.map(|size| size / 2);
        Self {
            conv: Convolution::new(channels, kernel, stride, padding, he_leaky(), device),
            layers: Layers::new(channels[1], layers, device),
        }
    }

    /// The block with an activation or without, and with what else `change` makes of its layers.
    pub(crate) fn map_layers(mut self, change: impl Fn(Layers) -> Layers) -> Self {
        self.layers = change(self.layers);
        self
    }

    /// The block without the bias of its convolution.
    pub(crate) fn without_bias(mut self) -> Self {
        self.conv = self.conv.without_bias();
        self
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.layers.forward(self.conv.forward(x))
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
        layers: &LayerConfig,
        device: &Device,
    ) -> Self {
        let [input, output] = channels;
        let block = |channels, stride| ConvBlock::nnunet(channels, kernel, stride, layers, device);
        let first = block([input, output], stride);
        let rest = (1..count).map(|_| block([output; 2], [1; 3]));
        Self {
            blocks: std::iter::once(first).chain(rest).collect(),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.blocks.iter().fold(x, |x, block| block.forward(x))
    }
}
