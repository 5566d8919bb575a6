use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::channels_last::join_channels;
use crate::checkpointing::{checkpointed, checkpointed_up};
use crate::checks::assert_images_fit;
use crate::conv_block::ConvBlock;
use crate::initialization::he_relu;
use crate::layers::{ActivationLayer, Layers};
use crate::plain_convolution::Convolution;
use crate::upsample::Upsample;
use crate::vnet_config::{LEVELS, VNetVariant};
use crate::{LayerConfig, Normalization, SegmentationModel, VNetConfig};

/// V-Net (Milletari et al., 3DV 2016): stages of 5×5×5 convolutions with a residual connection each, 2×2×2 convolutions
/// between them, PReLU with a slope per channel, no normalisation.
///
/// Made by [`VNetConfig::try_init`].
#[derive(Module, Debug)]
pub struct VNet {
    /// Finest first.
    down: Vec<DownStage>,
    /// Finest first.
    up: Vec<UpStage>,
    head: Head,
    #[module(skip)]
    config: VNetConfig,
}

impl VNet {
    /// `config` is valid.
    pub(crate) fn new(config: VNetConfig, device: &Device) -> Self {
        let layers = &config.layers;
        let features: [usize; LEVELS] = std::array::from_fn(|level| config.features << level);
        let down = features.iter().zip(config.variant.down()).enumerate();
        let down = down.map(|(level, (&features, count))| DownStage {
            reduce: (level > 0).then(|| {
                let channels = [features / 2, features];
                ConvBlock::new(
                    Convolution::new(channels, [2; 3], [2; 3], [0; 3], he_relu(), device),
                    Layers::new(features, layers, device),
                )
            }),
            convolutions: {
                let input = if level == 0 {
                    config.in_channels
                } else {
                    features
                };
                ResidualConvolutions::new([input, features], count, layers, device)
            },
        });
        let up = config.variant.up().into_iter().enumerate();
        let up = up.map(|(level, count)| {
            // Below lie the features of the coarsest stage, or the joined ones of a stage on the way up.
            let below = match level + 2 {
                LEVELS => features[LEVELS - 1],
                _ => 2 * features[level + 1],
            };
            UpStage {
                upsample: Upsample::new([below, features[level]], [2; 3], he_relu(), device),
                layers: Layers::new(features[level], layers, device),
                convolutions: {
                    let channels = [2 * features[level]; 2];
                    ResidualConvolutions::new(channels, count, layers, device)
                },
            }
        });
        let joined = 2 * features[0];
        let classes = config.num_classes;
        let last = |input| {
            let channels = [input, classes];
            Convolution::new(channels, [1; 3], [1; 3], [0; 3], he_relu(), device)
        };
        let head = match config.variant {
            VNetVariant::Paper => Head {
                before: None,
                last: last(joined),
            },
            VNetVariant::Prototxt => {
                // Classes are no features to be dropped or normalised.
                let layers = LayerConfig {
                    normalization: Normalization::None,
                    dropout: 0.0,
                    ..*layers
                };
                Head {
                    before: Some(same_size([joined, classes], &layers, device)),
                    last: last(classes),
                }
            }
        };
        Self {
            down: down.collect(),
            up: up.collect(),
            head,
            config,
        }
    }

    /// The description that the network was made from.
    pub fn config(&self) -> &VNetConfig {
        &self.config
    }
}

impl SegmentationModel for VNet {
    fn predict(&self, images: Tensor<5>) -> Tensor<5> {
        let config = &self.config;
        assert_images_fit(&images, config.in_channels, |patch| {
            config.check_patch(patch)
        });
        let mut x = images;
        let mut skips = Vec::with_capacity(self.down.len());
        for stage in &self.down {
            x = checkpointed(stage, [x], |stage, [x]| stage.forward(x));
            skips.push(x.clone());
        }
        skips.pop();
        let sizes = [2 * config.features, config.num_classes];
        for (level, (stage, skip)) in self.up.iter().zip(skips).enumerate().rev() {
            x = checkpointed_up(level, sizes, stage, [x, skip], |stage, [x, skip]| {
                stage.forward(x, skip)
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

/// A 5×5×5 convolution and what follows it.
fn same_size(channels: [usize; 2], layers: &LayerConfig, device: &Device) -> ConvBlock {
    ConvBlock::new(
        Convolution::new(channels, [5; 3], [1; 3], [2; 3], he_relu(), device),
        Layers::new(channels[1], layers, device),
    )
}

/// 5×5×5 convolutions whose input is added before the last activation.
#[derive(Module, Debug)]
struct ResidualConvolutions {
    /// The last one without its activation.
    blocks: Vec<ConvBlock>,
    activation: ActivationLayer,
    /// How often the input is repeated to have as many channels as the result: the finest stage adds the image to each
    /// of its channels.
    #[module(skip)]
    copies: usize,
}

impl ResidualConvolutions {
    /// `channels` are `[in, out]`, and `in` divides `out`.
    fn new(channels: [usize; 2], count: usize, layers: &LayerConfig, device: &Device) -> Self {
        let [input, output] = channels;
        let block = |i| {
            let input = if i == 0 { input } else { output };
            let block = same_size([input, output], layers, device);
            match i + 1 == count {
                true => block.map_layers(Layers::without_activation),
                false => block,
            }
        };
        Self {
            blocks: (0..count).map(block).collect(),
            activation: ActivationLayer::new(output, layers.activation, device),
            copies: output / input,
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let around = x.clone().repeat_dim(1, self.copies);
        let inner = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.activation.forward(inner + around)
    }
}

/// One resolution on the way down.
#[derive(Module, Debug)]
struct DownStage {
    reduce: Option<ConvBlock>,
    convolutions: ResidualConvolutions,
}

impl DownStage {
    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let x = match &self.reduce {
            Some(reduce) => reduce.forward(x),
            None => x,
        };
        self.convolutions.forward(x)
    }
}

/// One resolution on the way up.
#[derive(Module, Debug)]
struct UpStage {
    upsample: Upsample,
    layers: Layers,
    convolutions: ResidualConvolutions,
}

impl UpStage {
    fn forward(&self, coarse: Tensor<5>, skip: Tensor<5>) -> Tensor<5> {
        let x = self.layers.forward(self.upsample.forward(coarse));
        self.convolutions.forward(join_channels(x, skip))
    }
}

/// From the finest features to the classes.
#[derive(Module, Debug)]
struct Head {
    before: Option<ConvBlock>,
    last: Convolution,
}

impl Head {
    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let x = match &self.before {
            Some(before) => before.forward(x),
            None => x,
        };
        self.last.forward(x)
    }
}
