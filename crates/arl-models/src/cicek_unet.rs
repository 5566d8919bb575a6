use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::channels_last::join_channels;
use crate::checkpointing::{checkpointed, checkpointed_up};
use crate::checks::assert_images_fit;
use crate::cicek_unet_config::{LEVELS, Padding};
use crate::conv_block::ConvBlock;
use crate::initialization::he_relu;
use crate::layers::Layers;
use crate::plain_convolution::Convolution;
use crate::upsample::Upsample;
use crate::{CicekUNetConfig, LayerConfig, SegmentationModel, max_pool};

/// The first 3D U-Net (Çiçek et al., MICCAI 2016): pairs of 3×3×3 convolutions with batch normalisation and ReLU,
/// max-pooling on the way down, 2×2×2 transposed convolutions on the way up.
///
/// Made by [`CicekUNetConfig::try_init`]. Batch normalisation takes the statistics of the batch on a device with gradients,
/// and those gathered in training elsewhere.
#[derive(Module, Debug)]
pub struct CicekUNet {
    /// Finest first.
    down: Vec<Pair>,
    /// Finest first.
    up: Vec<UpStep>,
    head: Convolution,
    #[module(skip)]
    config: CicekUNetConfig,
}

impl CicekUNet {
    /// `config` is valid.
    pub(crate) fn new(config: CicekUNetConfig, device: &Device) -> Self {
        let padding = match config.padding {
            Padding::Same => 1,
            Padding::Valid => 0,
        };
        let pair = |channels| Pair::new(channels, padding, &config.layers, device);
        // Each pair ends with twice the channels of its first convolution, so that none is a bottleneck.
        let first = |level: usize| config.features << level;
        let down = (0..LEVELS).map(|level| {
            let input = if level == 0 {
                config.in_channels
            } else {
                first(level)
            };
            pair([input, first(level), 2 * first(level)])
        });
        let up = (0..LEVELS - 1).map(|level| {
            let (below, skip) = (4 * first(level), 2 * first(level));
            UpStep {
                upsample: Upsample::new([below; 2], [2; 3], he_relu(), device),
                convolutions: pair([below + skip, skip, skip]),
            }
        });
        let channels = [2 * config.features, config.num_classes];
        Self {
            down: down.collect(),
            up: up.collect(),
            head: Convolution::new(channels, [1; 3], [1; 3], [0; 3], he_relu(), device),
            config,
        }
    }

    /// The description that the network was made from.
    pub fn config(&self) -> &CicekUNetConfig {
        &self.config
    }
}

impl SegmentationModel for CicekUNet {
    /// Logits as large as the images with [`Padding::Same`], and their middle with [`Padding::Valid`]; see
    /// [`CicekUNetConfig::output_size`].
    fn predict(&self, images: Tensor<5>) -> Tensor<5> {
        let config = &self.config;
        assert_images_fit(&images, config.in_channels, |patch| {
            config.check_patch(patch)
        });
        let mut x = images;
        let mut skips = Vec::with_capacity(LEVELS);
        for (level, pair) in self.down.iter().enumerate() {
            x = match level {
                0 => checkpointed(pair, [x], |pair, [x]| pair.forward(x)),
                _ => checkpointed(pair, [x], |pair, [x]| pair.forward(max_pool(x))),
            };
            skips.push(x.clone());
        }
        skips.pop();
        let sizes = [2 * config.features, config.num_classes];
        for (level, (step, skip)) in self.up.iter().zip(skips).enumerate().rev() {
            x = checkpointed_up(level, sizes, step, [x, skip], |step, [x, skip]| {
                step.forward(x, skip)
            });
        }
        self.head.forward(x)
    }

    fn num_classes(&self) -> usize {
        self.config.num_classes
    }

    fn patch_divisors(&self) -> [usize; 3] {
        self.config.patch_divisors()
    }
}

/// Two convolutions, each with its normalisation and activation.
#[derive(Module, Debug)]
struct Pair {
    blocks: [ConvBlock; 2],
}

impl Pair {
    /// `channels` before, between and after.
    fn new(channels: [usize; 3], padding: usize, layers: &LayerConfig, device: &Device) -> Self {
        let [before, between, after] = channels;
        let block = |input, output| {
            let padding = [padding; 3];
            let channels = [input, output];
            ConvBlock::new(
                Convolution::new(channels, [3; 3], [1; 3], padding, he_relu(), device),
                Layers::new(output, layers, device),
            )
        };
        Self {
            blocks: [block(before, between), block(between, after)],
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.blocks.iter().fold(x, |x, block| block.forward(x))
    }
}

/// One resolution on the way up.
#[derive(Module, Debug)]
struct UpStep {
    upsample: Upsample,
    convolutions: Pair,
}

impl UpStep {
    fn forward(&self, coarse: Tensor<5>, skip: Tensor<5>) -> Tensor<5> {
        let x = self.upsample.forward(coarse);
        let skip = middle(skip, &x);
        self.convolutions.forward(join_channels(x, skip))
    }
}

/// The middle of `x` that is as large as `like`.
fn middle(x: Tensor<5>, like: &Tensor<5>) -> Tensor<5> {
    let ([n, c, ..], [_, _, d, h, w]) = (x.dims(), like.dims());
    let [depth, height, width] = [0, 1, 2].map(|axis| {
        let size = [d, h, w][axis];
        let start = (x.dims()[axis + 2] - size) / 2;
        start..start + size
    });
    x.slice([0..n, 0..c, depth, height, width])
}
