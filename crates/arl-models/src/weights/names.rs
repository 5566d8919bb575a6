//! What PyTorch calls the parameters of our networks.

use std::collections::BTreeSet;

use crate::{Network, Normalization, UNetConfig};

/// Follows a visit of a network and knows the name of the parameter that it has come to.
pub(super) struct Names {
    /// The U-Net that is visited, if it is one: nnU-Net's names depend on its stages.
    unet: Option<UNetConfig>,
    /// The fields on the way here; `None` for what has no part in a name.
    path: Vec<Option<String>>,
}

/// A parameter's name in PyTorch.
pub(super) struct Name {
    pub text: String,
    /// Whether PyTorch has the first two axes in the other order: a 1×1×1 convolution is stored here as the transposed
    /// convolution that it is with a larger stride.
    pub pointwise: bool,
}

impl Names {
    /// For a visit of this network.
    pub fn of(network: &Network) -> Self {
        Self {
            unet: match network {
                Network::UNet(unet) => Some(unet.config().clone()),
                Network::VNet(_) | Network::CicekUNet(_) => None,
            },
            path: Vec::new(),
        }
    }

    pub fn enter(&mut self, name: &str, container: &str) {
        let variant = container.starts_with("Enum:");
        let unnamed = matches!(name, "layers" | "learned");
        self.path.push(match (variant || unnamed, name) {
            (true, _) => None,
            (false, "gamma" | "alpha") => Some("weight".into()),
            (false, "beta") => Some("bias".into()),
            (false, name) => Some(name.into()),
        });
    }

    pub fn exit(&mut self) {
        self.path.pop();
    }

    /// The other names under which a file may hold a tensor of the network. Dropout whose probability is 0 does nothing, and has
    /// its place among the layers all the same.
    pub fn others(&self, name: &str) -> BTreeSet<String> {
        let unet = self.unet.iter();
        unet.flat_map(|unet| [false, true].map(|dropout| repeated(unet, dropout, name)))
            .flatten()
            .collect()
    }

    /// The name of the parameter here.
    pub fn here(&self) -> Name {
        let path: Vec<&str> = self.path.iter().flatten().map(String::as_str).collect();
        match &self.unet {
            Some(unet) => nnunet(unet, &path),
            None => Name {
                text: path.join("."),
                pointwise: false,
            },
        }
    }
}

/// The names of `dynamic_network_architectures` (`PlainConvUNet`, `ResidualEncoderUNet`, `UNetDecoder`), whose decoder counts
/// from the coarsest stage on.
fn nnunet(unet: &UNetConfig, path: &[&str]) -> Name {
    let number = |text: &str| text.parse::<usize>().unwrap_or(0);
    let from_coarsest = |text: &str| unet.stages.len() - 2 - number(text);
    let mut pointwise = false;
    // The leaf of a block: an activation is called `nonlin` there.
    let leaf = |rest: &[&str]| rest.join(".").replace("activation.", "nonlin.");
    let text = match path {
        ["stem", rest @ ..] => format!("encoder.stem.convs.0.{}", leaf(rest)),
        ["encoder", stage, "blocks", block, "activation", rest @ ..] => {
            format!(
                "encoder.stages.{stage}.blocks.{block}.nonlin2.{}",
                rest.join(".")
            )
        }
        ["encoder", stage, "blocks", block, "first", rest @ ..] => {
            format!("encoder.stages.{stage}.blocks.{block}.conv1.{}", leaf(rest))
        }
        ["encoder", stage, "blocks", block, "second", rest @ ..] => {
            format!("encoder.stages.{stage}.blocks.{block}.conv2.{}", leaf(rest))
        }
        ["encoder", stage, "blocks", block, "projection", rest @ ..] => {
            // Behind an average pooling, where there is one. The first stage keeps the stem's resolution.
            let at = number(stage);
            let pooled = at > 0 && *block == "0" && unet.stages[at].stride != [1; 3];
            let place = usize::from(pooled);
            format!(
                "encoder.stages.{stage}.blocks.{block}.skip.{place}.{}",
                leaf(rest)
            )
        }
        ["encoder", stage, "blocks", block, rest @ ..] => {
            format!("encoder.stages.{stage}.0.convs.{block}.{}", leaf(rest))
        }
        ["decoder", stage, "upsample", rest @ ..] => {
            format!(
                "decoder.transpconvs.{}.{}",
                from_coarsest(stage),
                rest.join(".")
            )
        }
        ["decoder", stage, "convolutions", "blocks", block, rest @ ..] => {
            format!(
                "decoder.stages.{}.convs.{block}.{}",
                from_coarsest(stage),
                leaf(rest)
            )
        }
        ["heads", level, rest @ ..] => {
            // The finest head undoes the stride of the stem.
            pointwise = rest == ["weight"] && (*level != "0" || unet.stem_stride == [1; 3]);
            format!(
                "decoder.seg_layers.{}.{}",
                from_coarsest(level),
                rest.join(".")
            )
        }
        other => other.join("."),
    };
    Name { text, pointwise }
}

/// The other names by which nnU-Net's network of this kind lists a tensor. Each of its blocks has its layers a second time, by
/// their place in the row (`all_modules`), where `dropout` has one too, and its decoder has the encoder.
pub(super) fn repeated(
    unet: &UNetConfig,
    dropout: bool,
    name: &str,
) -> impl Iterator<Item = String> {
    let by_place = place_in_block(unet, dropout, name);
    let names = std::iter::once(name.to_owned()).chain(by_place.clone());
    let in_decoder = names
        .filter(|name| name.starts_with("encoder."))
        .map(|name| format!("decoder.{name}"));
    by_place
        .into_iter()
        .chain(in_decoder.collect::<Vec<String>>())
}

/// The name by its place of a tensor of a convolution, dropout, normalisation and activation (`ConvDropoutNormReLU`).
fn place_in_block(unet: &UNetConfig, dropout: bool, name: &str) -> Option<String> {
    let (rest, leaf) = name.rsplit_once('.')?;
    let (block, layer) = rest.rsplit_once('.')?;
    // Of a residual block only the first convolution has dropout.
    let within = block
        .strip_prefix("encoder.")
        .filter(|_| unet.residual_blocks.is_some());
    let without_dropout =
        within.is_some_and(|block| block.ends_with(".conv2") || block.contains(".skip."));
    let dropout = usize::from(dropout && !without_dropout);
    let norm = usize::from(unet.layers.normalization != Normalization::None);
    let place = match layer {
        "conv" => 0,
        "norm" => 1 + dropout,
        "nonlin" => 1 + dropout + norm,
        _ => return None,
    };
    Some(format!("{block}.all_modules.{place}.{leaf}"))
}
