//! Random variation of training patches.
//!
//! The intensity transforms and the mirroring of nnU-Net v2, in its order and with its probabilities and ranges; each
//! lives in its own file with its constants. Rotation and scaling, which nnU-Net applies first, are not part of this
//! module yet: they need a larger patch to be read, so that no border enters the picture.
//!
//! Everything random comes from the generator that is passed in: the same generator state gives the same patch.

mod blur;
mod brightness;
mod contrast;
mod gamma;
mod low_resolution;
mod mirror;
mod noise;

use std::fmt;
use std::str::FromStr;

use ndarray::{Array3, Array4};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

pub use blur::Blur;
pub use brightness::Brightness;
pub use contrast::Contrast;
pub use gamma::Gamma;
pub use low_resolution::LowResolution;
pub use mirror::Mirror;
pub use noise::Noise;

/// Which transforms are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// None: the patch stays as it was read.
    None,
    /// The cheap ones: noise, brightness, contrast, gamma, mirror. For training on a CPU.
    Light,
    /// All of them, as nnU-Net does.
    #[default]
    Nnunet,
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Preset::None => "none",
            Preset::Light => "light",
            Preset::Nnunet => "nnunet",
        })
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Preset::None),
            "light" => Ok(Preset::Light),
            "nnunet" => Ok(Preset::Nnunet),
            _ => Err(format!(
                "unknown augmentation {text:?}; use none, light or nnunet"
            )),
        }
    }
}

/// What to do to every training patch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AugmentConfig {
    /// The transforms.
    pub preset: Preset,
    /// Axes that may be mirrored: 0 depth, 1 height, 2 width. Only axes whose two sides are interchangeable.
    pub mirror_axes: Vec<usize>,
}

impl AugmentConfig {
    /// Varies one patch in place: image `[C, D, H, W]`, labels `[D, H, W]`.
    pub fn apply(&self, image: &mut Array4<f32>, labels: &mut Array3<u16>, rng: &mut impl Rng) {
        if self.preset == Preset::None {
            return;
        }
        let all = self.preset == Preset::Nnunet;
        Noise::default().apply(image, rng);
        if all {
            Blur::default().apply(image, rng);
        }
        Brightness::default().apply(image, rng);
        Contrast::default().apply(image, rng);
        if all {
            LowResolution::default().apply(image, rng);
            Gamma::inverted().apply(image, rng);
        }
        Gamma::default().apply(image, rng);
        Mirror::default().apply(image, labels, &self.mirror_axes, rng);
    }
}

/// A factor from `low..high` around 1: half of the time below 1 and half above, uniform on either side, so that a
/// range that reaches further up than down does not favour larger factors.
fn factor_around_one((low, high): (f32, f32), rng: &mut impl Rng) -> f32 {
    if rng.random_bool(0.5) {
        rng.random_range(low..1.0)
    } else {
        rng.random_range(1.0..high)
    }
}

#[cfg(test)]
mod tests;
