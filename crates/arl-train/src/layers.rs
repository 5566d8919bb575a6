//! What a person may decide about the layers behind the convolutions, on the command line and in the file of `--config`.

use arl_models::{Activation, LayerConfig, Normalization};
use clap::Args;
use serde::{Deserialize, Serialize};

/// Layers behind the convolutions; what is not given is the network's own.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerChoices {
    /// Normalisation of the features: none, instance, batch, or group:8 for 8 groups [default: the network's own, which for
    /// unet is instance]
    #[arg(long, value_name = "KIND")]
    pub normalization: Option<Normalization>,
    /// Activation: relu, leaky-relu, leaky-relu:SLOPE or prelu [default: the network's own, which for unet is leaky-relu:0.01]
    #[arg(long, value_name = "KIND")]
    pub activation: Option<Activation>,
    /// Probability with which a channel is set to zero in training [default: 0]
    #[arg(long, value_name = "PROBABILITY")]
    pub dropout: Option<f64>,
}

impl LayerChoices {
    /// These choices, completed by others.
    pub fn or(&self, other: &Self) -> Self {
        Self {
            normalization: self.normalization.or(other.normalization),
            activation: self.activation.or(other.activation),
            dropout: self.dropout.or(other.dropout),
        }
    }

    /// A network's own layers with these choices.
    pub fn applied_to(&self, own: LayerConfig) -> LayerConfig {
        LayerConfig {
            normalization: self.normalization.unwrap_or(own.normalization),
            activation: self.activation.unwrap_or(own.activation),
            dropout: self.dropout.unwrap_or(own.dropout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_chose_is_the_networks_own() {
        let file = LayerChoices {
            dropout: Some(0.1),
            normalization: Some(Normalization::Batch),
            activation: None,
        };
        let chosen = LayerChoices {
            dropout: Some(0.0),
            ..LayerChoices::default()
        };
        let layers = chosen.or(&file).applied_to(LayerConfig::vnet());
        let expected = LayerConfig {
            normalization: Normalization::Batch,
            ..LayerConfig::vnet()
        };
        assert_eq!(layers, expected);
        let json = serde_json::to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<LayerChoices>(&json).unwrap(), file);
    }
}
