use burn::module::Module;
use burn::nn::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, Initializer, InstanceNorm,
    InstanceNormConfig, PRelu, PReluConfig,
};
use burn::tensor::activation::leaky_relu;
use burn::tensor::module::batch_norm_train;
use burn::tensor::{DType, Device, Distribution, Tensor};

use crate::checkpointing::{drawn, is_training};
use crate::norm_activation::{NO_ACTIVATION, norm_activation};
use crate::precision::{convert, single};
use crate::{Activation, LayerConfig, Normalization};

/// What follows a convolution: dropout, normalisation, activation.
#[derive(Module, Debug)]
pub(crate) struct Layers {
    norm: Option<NormalizationLayer>,
    activation: Option<ActivationLayer>,
    #[module(skip)]
    dropout: f64,
}

impl Layers {
    /// For convolutions that have so many channels.
    pub(crate) fn new(channels: usize, config: &LayerConfig, device: &Device) -> Self {
        Self {
            norm: NormalizationLayer::new(channels, config.normalization, device),
            activation: Some(ActivationLayer::new(channels, config.activation, device)),
            dropout: config.dropout,
        }
    }

    /// Dropout and normalisation alone, for a sum that is activated afterwards.
    pub(crate) fn without_activation(mut self) -> Self {
        self.activation = None;
        self
    }

    /// Normalisation and activation alone.
    pub(crate) fn without_dropout(mut self) -> Self {
        self.dropout = 0.0;
        self
    }

    /// With the scale of the normalisation at zero: what is normalised begins as nothing.
    pub(crate) fn starting_at_zero(mut self, device: &Device) -> Self {
        if let Some(norm) = &mut self.norm {
            norm.start_at_zero(device);
        }
        self
    }

    /// Features `[N, C, D, H, W]`.
    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let x = drop_channels(x, self.dropout);
        let slope = match &self.activation {
            Some(activation) => activation.constant_slope(),
            None => Some(NO_ACTIVATION),
        };
        if let (Some(NormalizationLayer::Instance(norm)), Some(slope)) = (&self.norm, slope) {
            return norm_activation(norm, x, slope);
        }
        let dtype = x.dtype();
        // Statistics of 16 bits would be of little use.
        let x = single(x);
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let x = match &self.activation {
            Some(activation) => activation.forward(x),
            None => x,
        };
        convert(x, dtype)
    }
}

#[derive(Module, Debug)]
enum NormalizationLayer {
    Instance(InstanceNorm),
    Batch(BatchNorm),
    Group(GroupNorm),
}

impl NormalizationLayer {
    fn new(channels: usize, normalization: Normalization, device: &Device) -> Option<Self> {
        Some(match normalization {
            Normalization::None => return None,
            Normalization::Instance => {
                Self::Instance(InstanceNormConfig::new(channels).init(device))
            }
            Normalization::Batch => Self::Batch(BatchNormConfig::new(channels).init(device)),
            Normalization::Group { groups } => {
                Self::Group(GroupNormConfig::new(groups, channels).init(device))
            }
        })
    }

    fn start_at_zero(&mut self, device: &Device) {
        let zeros = |channels: usize| Initializer::Zeros.init([channels], device);
        match self {
            Self::Instance(norm) => norm.gamma = Some(zeros(norm.num_channels)),
            Self::Batch(norm) => norm.gamma = zeros(norm.gamma.shape()[0]),
            Self::Group(norm) => norm.gamma = Some(zeros(norm.num_channels)),
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        match self {
            Self::Instance(norm) => norm_activation(norm, x, NO_ACTIVATION),
            Self::Batch(norm) => batch_norm(norm, x),
            Self::Group(norm) => norm.forward(x),
        }
    }
}

fn batch_norm(norm: &BatchNorm, x: Tensor<5>) -> Tensor<5> {
    let device = x.device();
    if norm.training.is_enabled() && is_training(&device) && !device.is_autodiff() {
        // Burn would take the gathered statistics, without gradients. It gathers those of this batch when the stage is
        // computed again.
        return batch_norm_train(x, norm.gamma.val(), norm.beta.val(), norm.epsilon).output;
    }
    norm.forward(x)
}

/// An activation with its slope below zero, which is either the same for all channels or learned.
#[derive(Module, Debug)]
pub(crate) struct ActivationLayer {
    learned: Option<PRelu>,
    #[module(skip)]
    slope: f64,
}

impl ActivationLayer {
    pub(crate) fn new(channels: usize, activation: Activation, device: &Device) -> Self {
        let prelu = PReluConfig::new().with_num_parameters(channels);
        let (learned, slope) = match activation {
            Activation::Relu => (None, 0.0),
            Activation::LeakyRelu { slope } => (None, slope),
            Activation::PRelu => (Some(prelu.init(device)), 0.0),
        };
        Self { learned, slope }
    }

    /// The slope below zero, unless it is learned.
    fn constant_slope(&self) -> Option<f64> {
        self.learned.is_none().then_some(self.slope)
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        match &self.learned {
            // Its slopes are f32.
            Some(prelu) if x.dtype() != DType::F32 => {
                let dtype = x.dtype();
                convert(prelu.forward(single(x)), dtype)
            }
            Some(prelu) => prelu.forward(x),
            None => leaky_relu(x, self.slope),
        }
    }
}

/// Sets channels of `[N, C, D, H, W]` to zero with this probability, where gradients are taken, and scales up the others
/// so that the mean stays.
fn drop_channels(x: Tensor<5>, probability: f64) -> Tensor<5> {
    let device = x.device();
    if probability == 0.0 || !is_training(&device) {
        return x;
    }
    let [images, channels, ..] = x.dims();
    let kept = 1.0 - probability;
    let shape = [images, channels, 1, 1, 1];
    let mask = drawn(|| Tensor::random(shape, Distribution::Bernoulli(kept), &device));
    x * (mask / kept)
}
