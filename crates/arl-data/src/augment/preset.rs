//! Sets of transforms that have a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    Augmentation, Blur, Brightness, Contrast, Gamma, IntensityTransform, LowResolution, Mirror,
    Noise, Rotation, Scaling, Spatial,
};

/// A patch more than so many times longer than thin is rotated and scaled across the thin axis only.
const THIN: usize = 3;

/// A set of transforms.
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

impl Preset {
    /// The transforms for patches of this size in voxels `[D, H, W]`, of which these axes may be mirrored.
    ///
    /// `nnunet` is the list of nnU-Net v2 (`nnUNetTrainer.get_training_transforms`) with its order, probabilities and
    /// ranges. Patches more than three times as long as thin are rotated about the thin axis only, by any angle, scaled
    /// along the other two, and keep the resolution of the thin one (its "dummy 2D"; nnU-Net puts that axis first).
    pub fn augmentation(self, patch_size: [usize; 3], mirror_axes: &[usize]) -> Augmentation {
        if self == Preset::None {
            return Augmentation::default();
        }
        let mirror = Mirror {
            axes: mirror_axes.to_vec(),
            ..Mirror::default()
        };
        let mut spatial = Spatial {
            mirror: Some(mirror),
            ..Spatial::default()
        };
        let noise = IntensityTransform::Noise(Noise::default());
        let brightness = IntensityTransform::Brightness(Brightness::default());
        let contrast = IntensityTransform::Contrast(Contrast::default());
        let gamma = IntensityTransform::Gamma(Gamma::default());
        if self == Preset::Light {
            return Augmentation {
                spatial,
                intensity: vec![noise, brightness, contrast, gamma],
            };
        }
        let mut low_resolution = LowResolution::default();
        if let Some(axis) = thin_axis(patch_size) {
            let scaling = Scaling::across(axis);
            spatial.rotation = Some(Rotation::about(axis));
            low_resolution.axes = scaling.axes.clone();
            spatial.scaling = Some(scaling);
        } else {
            spatial.rotation = Some(Rotation::default());
            spatial.scaling = Some(Scaling::default());
        }
        let intensity = vec![
            noise,
            IntensityTransform::Blur(Blur::default()),
            brightness,
            contrast,
            IntensityTransform::LowResolution(low_resolution),
            IntensityTransform::Gamma(Gamma::inverted()),
            gamma,
        ];
        Augmentation { spatial, intensity }
    }
}

/// The shortest axis, if the patch is thin along it.
fn thin_axis(patch_size: [usize; 3]) -> Option<usize> {
    let longest = patch_size.into_iter().max()?;
    let shortest = (0..3).min_by_key(|&axis| patch_size[axis])?;
    (longest > THIN * patch_size[shortest]).then_some(shortest)
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
