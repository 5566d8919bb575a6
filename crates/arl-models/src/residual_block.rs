use burn::module::Module;
use burn::tensor::activation::leaky_relu;
use burn::tensor::module::adaptive_avg_pool3d;
use burn::tensor::{Device, Tensor};

use crate::conv_block::ConvBlock;
use crate::initialization::LEAKY_SLOPE;

/// Two convolutions and a connection around them, the unit of nnU-Net's residual encoder (`BasicBlockD`; He et al., "Bag
/// of tricks", CVPR 2019, model D).
///
/// Where the block is strided, the connection averages; where it changes the number of channels, it has a 1×1×1
/// convolution. What the convolutions add begins as zero.
#[derive(Module, Debug)]
pub(crate) struct ResidualBlock {
    first: ConvBlock,
    second: ConvBlock,
    projection: Option<ConvBlock>,
    #[module(skip)]
    stride: [usize; 3],
}

impl ResidualBlock {
    /// `channels` are `[in, out]`. The kernel is odd.
    pub(crate) fn new(
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        device: &Device,
    ) -> Self {
        let [input, output] = channels;
        Self {
            first: ConvBlock::new(channels, kernel, stride, device),
            second: ConvBlock::new([output; 2], kernel, [1; 3], device).starting_at_zero(device),
            projection: (input != output)
                .then(|| ConvBlock::new(channels, [1; 3], [1; 3], device).without_bias()),
            stride,
        }
    }

    /// `[N, in, D, H, W]`, whose sizes the stride divides, to `[N, out, D/a, H/b, W/c]`.
    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let inner = self.first.forward(x.clone());
        let inner = self.second.forward_without_activation(inner);
        let around = match &self.projection {
            Some(projection) => projection.forward_without_activation(self.average(x)),
            None => self.average(x),
        };
        leaky_relu(inner + around, LEAKY_SLOPE)
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
        device: &Device,
    ) -> Self {
        let [_, output] = channels;
        let first = ResidualBlock::new(channels, kernel, stride, device);
        let rest = (1..count).map(|_| ResidualBlock::new([output; 2], kernel, [1; 3], device));
        Self {
            blocks: std::iter::once(first).chain(rest).collect(),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.blocks.iter().fold(x, |x, block| block.forward(x))
    }
}
