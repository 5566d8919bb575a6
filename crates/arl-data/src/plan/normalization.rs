//! How each channel's intensities are normalised.
//!
//! Source: nnU-Net v2, `map_channel_name_to_normalization.py` and `default_experiment_planner.py`.

use serde::{Deserialize, Serialize};

use crate::fingerprint::{Fingerprint, Intensities};

/// Cropping that leaves less than this share of the voxels makes the rest count as outside of the body.
const MUCH_CROPPED: f64 = 0.75;

/// How a channel is normalised, by its name (source: nnU-Net v2, `preprocessing/normalization`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "scheme", rename_all = "snake_case", from = "Written")]
pub enum ChannelNormalization {
    /// Clip to the dataset's foreground percentiles, then standardise with its mean and standard deviation. All in the
    /// intensities of the images (CT: Hounsfield units).
    Ct {
        /// 0.5th percentile.
        lower: f64,
        /// 99.5th percentile.
        upper: f64,
        /// Mean of the foreground.
        mean: f64,
        /// Standard deviation of the foreground.
        std: f64,
    },
    /// Each image by its own mean and standard deviation.
    ZScore,
    /// As it is.
    None,
    /// Each image to 0..1.
    RescaleTo01,
    /// Divided by 255.
    RgbTo01,
}

/// [`ChannelNormalization`] in a file: serde refuses unknown fields only where a variant may have fields.
#[derive(Deserialize)]
#[serde(tag = "scheme", rename_all = "snake_case", deny_unknown_fields)]
enum Written {
    Ct {
        lower: f64,
        upper: f64,
        mean: f64,
        std: f64,
    },
    ZScore {},
    None {},
    RescaleTo01 {},
    RgbTo01 {},
}

impl From<Written> for ChannelNormalization {
    fn from(written: Written) -> Self {
        match written {
            Written::Ct {
                lower,
                upper,
                mean,
                std,
            } => Self::Ct {
                lower,
                upper,
                mean,
                std,
            },
            Written::ZScore {} => Self::ZScore,
            Written::None {} => Self::None,
            Written::RescaleTo01 {} => Self::RescaleTo01,
            Written::RgbTo01 {} => Self::RgbTo01,
        }
    }
}

/// The normalisation of a channel, and a sentence that says why.
pub(super) fn normalization(
    name: &str,
    foreground: &Intensities,
) -> (ChannelNormalization, String) {
    let (scheme, what) = match name.to_lowercase().as_str() {
        "ct" => (
            ChannelNormalization::Ct {
                lower: foreground.percentile_00_5,
                upper: foreground.percentile_99_5,
                mean: foreground.mean,
                std: foreground.std,
            },
            "clipped and standardised with the statistics of the whole dataset",
        ),
        "nonorm" => (ChannelNormalization::None, "left as it is"),
        "rescale_to_0_1" => (
            ChannelNormalization::RescaleTo01,
            "rescaled to 0..1 image by image",
        ),
        "rgb_to_0_1" => (ChannelNormalization::RgbTo01, "divided by 255"),
        _ => (ChannelNormalization::ZScore, "standardised image by image"),
    };
    let reason = format!("Channel {name:?} is {what}, because of its name.");
    (scheme, reason)
}

/// Whether standardised channels take their mean and deviation from the voxels within the body alone, and a sentence
/// that says why if so: where cropping to what is not zero removes a quarter of the voxels or more, the images have
/// empty surroundings, whose size says nothing.
pub(super) fn use_mask_for_norm(
    fingerprint: &Fingerprint,
    channels: &[ChannelNormalization],
) -> (bool, Option<String>) {
    let left = fingerprint.median_relative_size_after_cropping();
    let used = left < MUCH_CROPPED && channels.contains(&ChannelNormalization::ZScore);
    let reason = used.then(|| {
        format!(
            "Standardised channels take their statistics from the voxels that are not zero: cropping leaves {:.0} % of \
             the median case.",
            100.0 * left
        )
    });
    (used, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let read = |text| serde_json::from_str::<ChannelNormalization>(text);
        assert_eq!(
            read(r#"{"scheme":"z_score"}"#).unwrap(),
            ChannelNormalization::ZScore
        );
        let ct = r#"{"scheme":"ct","lower":-10,"upper":10,"mean":0,"std":1,"medain":2}"#;
        assert!(read(ct).unwrap_err().to_string().contains("medain"));
        let other = r#"{"scheme":"z_score","lower":-10}"#;
        assert!(read(other).unwrap_err().to_string().contains("lower"));
    }
}
