use burn::module::Module;
use burn::nn::{PRelu, PReluConfig};
use burn::tensor::{Device, Tensor};

use crate::plain_convolution::Convolution;
use crate::upsample::Upsample;
use crate::vnet_config::{LEVELS, VNetVariant};
use crate::{SegmentationModel, VNetConfig};

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
        let features: [usize; LEVELS] = std::array::from_fn(|level| config.features << level);
        let down = features.iter().zip(config.variant.down()).enumerate();
        let down = down.map(|(level, (&features, count))| DownStage {
            reduce: (level > 0).then(|| Activated::new([features / 2, features], 2, 2, 0, device)),
            convolutions: match level {
                0 => ResidualConvolutions::new([config.in_channels, features], count, device),
                _ => ResidualConvolutions::new([features; 2], count, device),
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
                upsample: Upsample::new([below, features[level]], [2; 3], device),
                activation: prelu(features[level], device),
                convolutions: ResidualConvolutions::new([2 * features[level]; 2], count, device),
            }
        });
        let joined = 2 * features[0];
        let classes = config.num_classes;
        let head = match config.variant {
            VNetVariant::Paper => Head {
                before: None,
                last: Convolution::new([joined, classes], 1, 1, 0, device),
            },
            VNetVariant::Prototxt => Head {
                before: Some(Activated::new([joined, classes], 5, 1, 2, device)),
                last: Convolution::new([classes; 2], 1, 1, 0, device),
            },
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
    fn forward(&self, images: Tensor<5>) -> Vec<Tensor<5>> {
        vec![self.predict(images)]
    }

    fn predict(&self, images: Tensor<5>) -> Tensor<5> {
        let mut x = images;
        let mut skips = Vec::with_capacity(self.down.len());
        for stage in &self.down {
            x = stage.forward(x);
            skips.push(x.clone());
        }
        skips.pop();
        for (stage, skip) in self.up.iter().zip(skips).rev() {
            x = stage.forward(x, skip);
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

fn prelu(channels: usize, device: &Device) -> PRelu {
    PReluConfig::new()
        .with_num_parameters(channels)
        .init(device)
}

/// A convolution and its PReLU.
#[derive(Module, Debug)]
struct Activated {
    convolution: Convolution,
    activation: PRelu,
}

impl Activated {
    fn new(
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: usize,
        device: &Device,
    ) -> Self {
        Self {
            convolution: Convolution::new(channels, kernel, stride, padding, device),
            activation: prelu(channels[1], device),
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.activation.forward(self.convolution.forward(x))
    }
}

/// 5×5×5 convolutions whose input is added before the last PReLU.
#[derive(Module, Debug)]
struct ResidualConvolutions {
    convolutions: Vec<Activated>,
    /// How often the input is repeated to have as many channels as the result: the finest stage adds the image to each
    /// of its channels.
    #[module(skip)]
    copies: usize,
}

impl ResidualConvolutions {
    /// `channels` are `[in, out]`, and `in` divides `out`.
    fn new(channels: [usize; 2], count: usize, device: &Device) -> Self {
        let [input, output] = channels;
        let convolution = |i| {
            let input = if i == 0 { input } else { output };
            Activated::new([input, output], 5, 1, 2, device)
        };
        Self {
            convolutions: (0..count).map(convolution).collect(),
            copies: output / input,
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let Some((last, before)) = self.convolutions.split_last() else {
            return x;
        };
        let inner = before.iter().fold(x.clone(), |x, one| one.forward(x));
        let inner = last.convolution.forward(inner);
        last.activation
            .forward(inner + x.repeat_dim(1, self.copies))
    }
}

/// One resolution on the way down.
#[derive(Module, Debug)]
struct DownStage {
    reduce: Option<Activated>,
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
    activation: PRelu,
    convolutions: ResidualConvolutions,
}

impl UpStage {
    fn forward(&self, coarse: Tensor<5>, skip: Tensor<5>) -> Tensor<5> {
        let x = self.activation.forward(self.upsample.forward(coarse));
        self.convolutions.forward(Tensor::cat(vec![x, skip], 1))
    }
}

/// From the finest features to the classes.
#[derive(Module, Debug)]
struct Head {
    before: Option<Activated>,
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
