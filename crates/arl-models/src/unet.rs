use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::channels_last::join_channels;
use crate::checkpointing::{checkpointed, checkpointed_up};
use crate::checks::assert_images_fit;
use crate::conv_block::{ConvBlock, ConvStage};
use crate::initialization::he_leaky;
use crate::residual_block::ResidualStage;
use crate::upsample::Upsample;
use crate::{SegmentationModel, UNetConfig};

/// 3D U-Net with strided convolutions on the way down, as nnU-Net plans it (`PlainConvUNet` and `ResidualEncoderUNet`;
/// Çiçek et al., MICCAI 2016; Isensee et al., Nature Methods 2021 and MICCAI 2024).
///
/// Made by [`UNetConfig::try_init`].
#[derive(Module, Debug)]
pub struct UNet {
    /// The convolution before a residual encoder.
    stem: Option<ConvBlock>,
    /// Finest first.
    encoder: Vec<EncoderStage>,
    /// Finest first; one fewer than the encoder, whose deepest stage is the turning point.
    decoder: Vec<DecoderStage>,
    /// Finest first: one per decoder stage, or only the finest.
    heads: Vec<Upsample>,
    #[module(skip)]
    config: UNetConfig,
}

impl UNet {
    /// `config` is valid.
    pub(crate) fn new(config: UNetConfig, device: &Device) -> Self {
        let (stages, layers) = (&config.stages, &config.layers);
        let first = &stages[0];
        let stem = config.residual_blocks.as_ref().map(|_| {
            let channels = [config.in_channels, first.features];
            ConvBlock::nnunet(channels, first.kernel, config.stem_stride, layers, device)
        });
        let encoder = stages
            .iter()
            .enumerate()
            .map(|(i, stage)| {
                let (input, stride) = match i {
                    0 if stem.is_some() => (first.features, [1; 3]),
                    0 => (config.in_channels, config.stem_stride),
                    _ => (stages[i - 1].features, stage.stride),
                };
                let channels = [input, stage.features];
                let count = match &config.residual_blocks {
                    Some(blocks) => blocks[i],
                    None => config.convolutions_per_encoder_stage,
                };
                let kernel = stage.kernel;
                if stem.is_some() {
                    EncoderStage::Residual(ResidualStage::new(
                        channels, kernel, stride, count, layers, device,
                    ))
                } else {
                    EncoderStage::Plain(ConvStage::new(
                        channels, kernel, stride, count, layers, device,
                    ))
                }
            })
            .collect();
        let decoder = (0..stages.len() - 1)
            .map(|i| {
                let (fine, coarse) = (&stages[i], &stages[i + 1]);
                let features = fine.features;
                let count = config.convolutions_per_decoder_stage;
                let channels = [2 * features, features];
                DecoderStage {
                    upsample: Upsample::new(
                        [coarse.features, features],
                        coarse.stride,
                        he_leaky(),
                        device,
                    ),
                    convolutions: ConvStage::new(
                        channels,
                        fine.kernel,
                        [1; 3],
                        count,
                        layers,
                        device,
                    ),
                }
            })
            .collect();
        let levels = match config.deep_supervision {
            true => stages.len() - 1,
            false => 1,
        };
        let heads = (0..levels)
            .map(|i| {
                // The finest head makes up for the stem's stride.
                let stride = if i == 0 { config.stem_stride } else { [1; 3] };
                Upsample::new(
                    [stages[i].features, config.num_classes],
                    stride,
                    he_leaky(),
                    device,
                )
            })
            .collect();
        Self {
            stem,
            encoder,
            decoder,
            heads,
            config,
        }
    }

    /// The description that the network was made from.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Logits of the `levels` finest heads, finest first.
    fn logits(&self, images: Tensor<5>, levels: usize) -> Vec<Tensor<5>> {
        let config = &self.config;
        assert_images_fit(&images, config.in_channels, |patch| {
            config.check_patch(patch)
        });
        let mut x = match &self.stem {
            Some(stem) => checkpointed(stem, [images], |stem, [x]| stem.forward(x)),
            None => images,
        };
        let mut skips = Vec::with_capacity(self.encoder.len());
        for stage in &self.encoder {
            x = checkpointed(stage, [x], |stage, [x]| stage.forward(x));
            skips.push(x.clone());
        }
        // The deepest features are where the way up starts, nothing skips to there.
        skips.pop();

        // The logits have the resolution of the images, the finest features that of the stem.
        let logits_of_a_voxel = config.num_classes * config.stem_stride.iter().product::<usize>();
        let mut logits = Vec::with_capacity(levels);
        for (level, (stage, skip)) in self.decoder.iter().zip(skips).enumerate().rev() {
            let sizes = [config.stages[level].features, logits_of_a_voxel];
            x = checkpointed_up(level, sizes, stage, [x, skip], |stage, [x, skip]| {
                stage.forward(x, skip)
            });
            if level < levels {
                logits.push(self.heads[level].forward(x.clone()));
            }
        }
        logits.reverse();
        logits
    }
}

impl SegmentationModel for UNet {
    fn forward(&self, images: Tensor<5>) -> Vec<Tensor<5>> {
        self.logits(images, self.heads.len())
    }

    fn predict(&self, images: Tensor<5>) -> Tensor<5> {
        self.logits(images, 1).remove(0)
    }

    fn num_classes(&self) -> usize {
        self.config.num_classes
    }

    fn patch_divisors(&self) -> [usize; 3] {
        self.config.patch_divisors()
    }
}

/// One resolution on the way down.
#[derive(Module, Debug)]
enum EncoderStage {
    Plain(ConvStage),
    Residual(ResidualStage),
}

impl EncoderStage {
    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        match self {
            Self::Plain(stage) => stage.forward(x),
            Self::Residual(stage) => stage.forward(x),
        }
    }
}

/// One step up: bring the coarser features to this resolution, join the encoder's, convolve.
#[derive(Module, Debug)]
struct DecoderStage {
    upsample: Upsample,
    convolutions: ConvStage,
}

impl DecoderStage {
    fn forward(&self, coarse: Tensor<5>, skip: Tensor<5>) -> Tensor<5> {
        let x = join_channels(self.upsample.forward(coarse), skip);
        self.convolutions.forward(x)
    }
}
