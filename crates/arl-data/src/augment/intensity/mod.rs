//! Transforms of the image alone.

mod bias_field;
mod binary_operator;
mod blur;
mod brightness;
mod channels;
mod component_removal;
mod contrast;
mod convolution;
mod frequency;
mod gamma;
mod ghosting;
mod gibbs;
mod low_resolution;
mod masks;
mod noise;
mod normal;
mod spike;

use ndarray::Array4;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::error::AugmentError;
pub use bias_field::BiasField;
pub use binary_operator::BinaryOperator;
pub use blur::Blur;
pub use brightness::Brightness;
pub use component_removal::ComponentRemoval;
pub use contrast::Contrast;
pub use gamma::Gamma;
pub use ghosting::Ghosting;
pub use gibbs::Gibbs;
pub use low_resolution::LowResolution;
pub use noise::Noise;
pub use spike::Spike;

/// Any transform of the image alone; in JSON its name with its parameters, `{"noise": {"probability": 0.1}}`, where a
/// parameter that isn't given has nnU-Net's or TorchIO's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntensityTransform {
    /// Additive Gaussian noise.
    Noise(Noise),
    /// Gaussian blur.
    Blur(Blur),
    /// Multiplicative brightness.
    Brightness(Brightness),
    /// Contrast about the mean.
    Contrast(Contrast),
    /// Simulated low resolution.
    LowResolution(LowResolution),
    /// Gamma correction.
    Gamma(Gamma),
    /// The smooth shading of magnetic resonance images.
    BiasField(BiasField),
    /// Ghosts of periodic motion.
    Ghosting(Ghosting),
    /// Ringing at edges.
    Gibbs(Gibbs),
    /// Stripes of a spark in the measured frequencies.
    Spike(Spike),
    /// Growing and shrinking of masks.
    BinaryOperator(BinaryOperator),
    /// Removal of parts of masks.
    ComponentRemoval(ComponentRemoval),
}

impl IntensityTransform {
    /// Changes `image` `[C, D, H, W]` in place.
    pub fn apply(&self, image: &mut Array4<f32>, rng: &mut impl Rng) {
        match self {
            Self::Noise(transform) => transform.apply(image, rng),
            Self::Blur(transform) => transform.apply(image, rng),
            Self::Brightness(transform) => transform.apply(image, rng),
            Self::Contrast(transform) => transform.apply(image, rng),
            Self::LowResolution(transform) => transform.apply(image, rng),
            Self::Gamma(transform) => transform.apply(image, rng),
            Self::BiasField(transform) => transform.apply(image, rng),
            Self::Ghosting(transform) => transform.apply(image, rng),
            Self::Gibbs(transform) => transform.apply(image, rng),
            Self::Spike(transform) => transform.apply(image, rng),
            Self::BinaryOperator(transform) => transform.apply(image, rng),
            Self::ComponentRemoval(transform) => transform.apply(image, rng),
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// The first that is out of its bounds.
    pub fn validate(&self) -> Result<(), AugmentError> {
        match self {
            Self::Noise(transform) => transform.validate(),
            Self::Blur(transform) => transform.validate(),
            Self::Brightness(transform) => transform.validate(),
            Self::Contrast(transform) => transform.validate(),
            Self::LowResolution(transform) => transform.validate(),
            Self::Gamma(transform) => transform.validate(),
            Self::BiasField(transform) => transform.validate(),
            Self::Ghosting(transform) => transform.validate(),
            Self::Gibbs(transform) => transform.validate(),
            Self::Spike(transform) => transform.validate(),
            Self::BinaryOperator(transform) => transform.validate(),
            Self::ComponentRemoval(transform) => transform.validate(),
        }
    }

    /// The channels that the transform names, where it does not act on all.
    pub fn named_channels(&self) -> &[usize] {
        match self {
            Self::BinaryOperator(transform) => &transform.channels,
            Self::ComponentRemoval(transform) => &transform.channels,
            _ => &[],
        }
    }
}
