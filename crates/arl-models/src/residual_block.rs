use burn::module::Module;
use burn::tensor::module::adaptive_avg_pool3d;
use burn::tensor::{Device, Tensor};

use crate::LayerConfig;
use crate::conv_block::ConvBlock;
use crate::layers::{ActivationLayer, Layers};

/// Two convolutions and a connection around them, the unit of nnU-Net's residual encoder (`BasicBlockD`; He et al., "Bag
/// of tricks", CVPR 2019, model D).
///
/// Where the block is strided, the connection averages; where it changes the number of channels, it has a 1×1×1
/// convolution. What the convolutions add begins as zero, where there is a normalisation. Only the first convolution has
/// dropout.
#[derive(Module, Debug)]
pub(crate) struct ResidualBlock {
    first: ConvBlock,
    second: ConvBlock,
    projection: Option<ConvBlock>,
    activation: ActivationLayer,
    #[module(skip)]
    stride: [usize; 3],
}

impl ResidualBlock {
    /// `channels` are `[in, out]`. The kernel is odd.
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        layers: &LayerConfig,
        device: &Device,
    ) -> Self {
        let [input, output] = channels;
        let block =
            |channels, kernel, stride| ConvBlock::nnunet(channels, kernel, stride, layers, device);
        let added = |layers: Layers| layers.without_dropout().without_activation();
        Self {
            first: block(channels, kernel, stride),
            second: block([output; 2], kernel, [1; 3])
                .map_layers(|layers| added(layers).starting_at_zero(device)),
            projection: (input != output).then(|| {
                let projection = block(channels, [1; 3], [1; 3]);
                projection.without_bias().map_layers(added)
            }),
            activation: ActivationLayer::new(output, layers.activation, device),
            stride,
        }
    }

    /// `[N, in, D, H, W]`, whose sizes the stride divides, to `[N, out, D/a, H/b, W/c]`.
    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let inner = self.second.forward(self.first.forward(x.clone()));
        let around = match &self.projection {
            Some(projection) => projection.forward(self.average(x)),
            None => self.average(x),
        };
        self.activation.forward(inner + around)
    }

    /// Means over blocks of the size of the stride.
    fn average(&self, x: Tensor<5>) -> Tensor<5> {
        if self.stride == [1; 3] {
            return x;
        }
        let [_, _, d, h, w] = x.dims();
        let [a, b, c] = self.stride;
        adaptive_avg_pool3d(x, [d / a, h / b, w / c])
    }
}

/// Several residual blocks in a row, of which the first changes the number of channels and may be strided.
#[derive(Module, Debug)]
pub(crate) struct ResidualStage {
    blocks: Vec<ResidualBlock>,
}

impl ResidualStage {
    /// `count` blocks, `channels` are `[in, out]` of the whole stage.
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        count: usize,
        layers: &LayerConfig,
        device: &Device,
    ) -> Self {
        let [_, output] = channels;
        let block = |channels, stride| ResidualBlock::new(channels, kernel, stride, layers, device);
        let first = block(channels, stride);
        let rest = (1..count).map(|_| block([output; 2], [1; 3]));
        Self {
            blocks: std::iter::once(first).chain(rest).collect(),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.blocks.iter().fold(x, |x, block| block.forward(x))
    }
}
