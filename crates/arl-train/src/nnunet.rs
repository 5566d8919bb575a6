//! What nnU-Net v2 stores of a trained network, as ours: its `plans.json` and `dataset.json` become a plan.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use arl_data::dataset::describe;
use arl_data::plan::{Architecture, ChannelNormalization, PLAN_VERSION, Plan, StagePlan};
use arl_models::{Activation, Normalization};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::read_json;
use crate::layers::LayerChoices;

/// A `plans.json`, as far as it matters here.
#[derive(Deserialize)]
struct Plans {
    dataset_name: String,
    /// The image's axis that each axis of the network is.
    transpose_forward: Vec<usize>,
    image_reader_writer: Option<String>,
    configurations: BTreeMap<String, Map<String, Value>>,
    #[serde(default)]
    foreground_intensity_properties_per_channel: BTreeMap<String, Intensities>,
}

#[derive(Deserialize)]
struct Intensities {
    mean: f64,
    std: f64,
    percentile_00_5: f64,
    percentile_99_5: f64,
}

/// One of its configurations, such as `3d_fullres`.
#[derive(Deserialize)]
struct Configuration {
    patch_size: Vec<usize>,
    batch_size: usize,
    median_image_size_in_voxels: Vec<f64>,
    spacing: Vec<f64>,
    normalization_schemes: Vec<String>,
    use_mask_for_norm: Vec<bool>,
    preprocessor_name: Option<String>,
    resampling_fn_data: String,
    resampling_fn_data_kwargs: Option<Map<String, Value>>,
    resampling_fn_probabilities: Option<String>,
    resampling_fn_probabilities_kwargs: Option<Map<String, Value>>,
    previous_stage: Option<Value>,
    architecture: Option<Network>,
    // Before version 2.4 the network was described by these.
    #[serde(rename = "UNet_class_name")]
    unet_class_name: Option<String>,
    #[serde(rename = "UNet_base_num_features")]
    unet_base_num_features: Option<usize>,
    unet_max_num_features: Option<usize>,
    n_conv_per_stage_encoder: Option<Vec<usize>>,
    n_conv_per_stage_decoder: Option<Vec<usize>>,
    pool_op_kernel_sizes: Option<Vec<[usize; 3]>>,
    conv_kernel_sizes: Option<Vec<[usize; 3]>>,
}

#[derive(Deserialize)]
struct Network {
    network_class_name: String,
    arch_kwargs: NetworkArguments,
}

#[derive(Deserialize)]
struct NetworkArguments {
    features_per_stage: Vec<usize>,
    kernel_sizes: Vec<[usize; 3]>,
    strides: Vec<[usize; 3]>,
    n_conv_per_stage: Option<Vec<usize>>,
    n_blocks_per_stage: Option<Vec<usize>>,
    n_conv_per_stage_decoder: Vec<usize>,
    conv_bias: bool,
    norm_op: Option<String>,
    norm_op_kwargs: Option<Map<String, Value>>,
    dropout_op: Option<String>,
    dropout_op_kwargs: Option<Map<String, Value>>,
    nonlin: String,
    nonlin_kwargs: Option<Map<String, Value>>,
    #[serde(default)]
    nonlin_first: bool,
}

/// What nnU-Net stores of a trained network, in our words.
#[derive(Debug)]
pub struct Translation {
    pub plan: Plan,
    pub layers: LayerChoices,
    /// The order that nnU-Net puts the axes into, in which its weights have theirs. The plan's are those of the image.
    pub transpose_forward: [usize; 3],
}

/// The translation of a configuration of nnU-Net, whose patches may be mirrored along these of its axes.
///
/// # Errors
/// When a file can't be read, or asks for what is not done here; what that is, in a sentence.
pub fn translate(
    plans_file: &Path,
    dataset_file: &Path,
    configuration: &str,
    mirror_axes: Vec<usize>,
) -> anyhow::Result<Translation> {
    ensure!(
        plans_file.extension().is_none_or(|ending| ending != "pkl"),
        "{}: is of nnU-Net v1; only what v2 trained, which has a plans.json, can be imported",
        plans_file.display()
    );
    let plans: Plans = read_json(plans_file)?;
    let found = inherited(&plans.configurations, configuration, plans_file)?;
    translated(&plans, found, dataset_file, configuration, mirror_axes)
        .with_context(|| format!("{}, configuration {configuration}", plans_file.display()))
}

/// A configuration with what it takes over from others.
fn inherited(
    all: &BTreeMap<String, Map<String, Value>>,
    name: &str,
    file: &Path,
) -> anyhow::Result<Configuration> {
    let mut merged = Map::new();
    let mut next = Some(name.to_owned());
    let mut seen = Vec::new();
    while let Some(name) = next {
        let Some(found) = all.get(&name).filter(|_| !seen.contains(&name)) else {
            let known: Vec<&str> = all.keys().map(String::as_str).collect();
            bail!(
                "{}: has no configuration {name}; --configuration knows {}",
                file.display(),
                known.join(", ")
            );
        };
        for (key, value) in found {
            merged.entry(key).or_insert_with(|| value.clone());
        }
        let parent = found.get("inherits_from").and_then(Value::as_str);
        next = parent.map(str::to_owned);
        seen.push(name);
    }
    let patch = merged.get("patch_size").and_then(Value::as_array);
    ensure!(
        patch.is_none_or(|patch| patch.len() == 3),
        "{}: configuration {name} has patches of {} axes; import one of 3, such as 3d_fullres",
        file.display(),
        patch.map_or(0, Vec::len)
    );
    serde_json::from_value(Value::Object(merged)).with_context(|| {
        format!(
            "{}: configuration {name} can't be understood",
            file.display()
        )
    })
}

fn translated(
    plans: &Plans,
    found: Configuration,
    dataset_file: &Path,
    name: &str,
    mirror_axes: Vec<usize>,
) -> anyhow::Result<Translation> {
    let order = axis_order(&plans.transpose_forward)?;
    let orientation = orientation(plans.image_reader_writer.as_deref())?;
    ensure!(
        found.previous_stage.as_ref().is_none_or(Value::is_null),
        "the network refines the labels of another one (a cascade), which is not done here; import 3d_fullres or 3d_lowres"
    );
    preparation(&found)?;
    let three = |what: &str, values: &[usize]| {
        <[usize; 3]>::try_from(values)
            .ok()
            .with_context(|| format!("{what} is {values:?}, which is not 3D; import 3d_fullres"))
    };
    let patch_size = three("patch_size", &found.patch_size)?;
    let median: Vec<usize> = (found.median_image_size_in_voxels.iter())
        .map(|&voxels| voxels.round() as usize)
        .collect();
    let median_shape = three("median_image_size_in_voxels", &median)?;
    let target_spacing = <[f64; 3]>::try_from(&found.spacing[..])
        .ok()
        .with_context(|| format!("spacing is {:?}", found.spacing))?;
    let described = describe(dataset_file)?;
    let channels = described.channel_names.len();
    ensure!(
        found.normalization_schemes.len() == channels && found.use_mask_for_norm.len() == channels,
        "{} normalisation schemes for the {channels} channels of {}",
        found.normalization_schemes.len(),
        dataset_file.display()
    );
    let normalization = (0..channels)
        .map(|channel| normalization(plans, &found.normalization_schemes[channel], channel))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut masked = normalization
        .iter()
        .zip(&found.use_mask_for_norm)
        .filter(|(scheme, _)| **scheme == ChannelNormalization::ZScore)
        .map(|(_, &masked)| masked);
    let use_mask_for_norm = masked.next().unwrap_or(false);
    ensure!(
        masked.all(|other| other == use_mask_for_norm),
        "use_mask_for_norm is {:?}; here all standardised channels have a mask, or none",
        found.use_mask_for_norm
    );
    ensure!(
        mirror_axes.iter().all(|&axis| axis < 3),
        "the checkpoint's inference_allowed_mirroring_axes are {mirror_axes:?}; a volume has the axes 0, 1 and 2"
    );
    let mut mirror_axes: Vec<usize> = mirror_axes.into_iter().map(|axis| order[axis]).collect();
    mirror_axes.sort_unstable();
    let batch_size = found.batch_size;
    let network = network(found)?;
    let arguments = network.arch_kwargs;
    let layers = layers(&arguments)?;
    let (architecture, blocks) = match network.network_class_name.rsplit('.').next() {
        Some("PlainConvUNet") => (Architecture::Plain, arguments.n_conv_per_stage),
        Some("ResidualEncoderUNet") => {
            (Architecture::ResidualEncoder, arguments.n_blocks_per_stage)
        }
        _ => bail!(
            "the network is a {}; PlainConvUNet and ResidualEncoderUNet can be imported",
            network.network_class_name
        ),
    };
    let blocks =
        blocks.context("the network does not say how many convolutions its stages have")?;
    let stages = arguments.features_per_stage.len();
    ensure!(
        [
            blocks.len(),
            arguments.kernel_sizes.len(),
            arguments.strides.len()
        ] == [stages; 3]
            && arguments.n_conv_per_stage_decoder.len() + 1 == stages,
        "the network has {stages} numbers of features, but {} of blocks, {} kernels, {} strides and {} decoder stages",
        blocks.len(),
        arguments.kernel_sizes.len(),
        arguments.strides.len(),
        arguments.n_conv_per_stage_decoder.len()
    );
    let decoder = &arguments.n_conv_per_stage_decoder;
    ensure!(
        decoder.windows(2).all(|pair| pair[0] == pair[1]),
        "the decoder has {decoder:?} convolutions in its stages; here each has the same number"
    );
    let decoder_convolutions = *decoder
        .first()
        .with_context(|| format!("the network has {stages} stages; a U-Net has at least 2"))?;
    ensure!(
        !arguments.nonlin_first,
        "the activation comes before the normalisation (nonlin_first); here it comes after"
    );
    ensure!(
        arguments.conv_bias,
        "the convolutions have no bias (conv_bias is false); here they have one"
    );
    let plan = Plan {
        version: PLAN_VERSION,
        dataset: plans.dataset_name.clone(),
        channel_names: described.channel_names,
        classes: described.classes,
        regions: described.regions,
        ignore_label: described.ignore_label,
        target_spacing: of_image(order, target_spacing),
        median_shape: of_image(order, median_shape),
        normalization,
        use_mask_for_norm,
        patch_size: of_image(order, patch_size),
        batch_size,
        architecture,
        stem_stride: [1; 3],
        stages: (0..stages)
            .map(|stage| StagePlan {
                features: arguments.features_per_stage[stage],
                kernel: of_image(order, arguments.kernel_sizes[stage]),
                stride: of_image(order, arguments.strides[stage]),
                blocks: blocks[stage],
            })
            .collect(),
        decoder_convolutions,
        mirror_axes,
        orientation,
        foreground_fraction: 0.33,
        low_resolution: None,
        reasons: vec![format!("Imported from nnU-Net's configuration {name}.")],
    };
    plan.validate().map_err(anyhow::Error::msg)?;
    Ok(Translation {
        plan,
        layers,
        transpose_forward: order,
    })
}

/// The order that nnU-Net puts the axes of an image into, for which it says `transpose_forward`.
pub fn axis_order(transpose_forward: &[usize]) -> anyhow::Result<[usize; 3]> {
    let mut sorted = transpose_forward.to_vec();
    sorted.sort_unstable();
    ensure!(
        sorted == [0, 1, 2],
        "transpose_forward is {transpose_forward:?}, which is no order of three axes"
    );
    Ok(std::array::from_fn(|axis| transpose_forward[axis]))
}

/// What nnU-Net has for each of its axes, for those of the image.
fn of_image<T: Copy>(order: [usize; 3], of_network: [T; 3]) -> [T; 3] {
    let mut of_image = of_network;
    for (axis, value) in order.into_iter().zip(of_network) {
        of_image[axis] = value;
    }
    of_image
}

/// How nnU-Net turns images when it reads them.
fn orientation(reader: Option<&str>) -> anyhow::Result<Option<String>> {
    match reader {
        // As they lie in their files.
        None | Some("SimpleITKIO" | "NibabelIO") => Ok(None),
        Some("SimpleITKIOWithReorient" | "NibabelIOWithReorient") => Ok(Some("RAS".into())),
        Some(other) => bail!(
            "images are read by {other}; SimpleITKIO and NibabelIO are known, also WithReorient"
        ),
    }
}

/// Whether images are prepared and logits brought back in nnU-Net's own way, which is the only one that is known here.
fn preparation(found: &Configuration) -> anyhow::Result<()> {
    let preprocessor = found.preprocessor_name.as_deref();
    ensure!(
        preprocessor.is_none_or(|name| name == "DefaultPreprocessor"),
        "images are prepared by {}; only nnU-Net's DefaultPreprocessor is known",
        preprocessor.unwrap_or_default()
    );
    let default = "resample_data_or_seg_to_shape";
    let probabilities = found.resampling_fn_probabilities.as_deref();
    for (what, function, options, order) in [
        (
            "images are",
            found.resampling_fn_data.as_str(),
            &found.resampling_fn_data_kwargs,
            3,
        ),
        (
            "logits are",
            probabilities.unwrap_or(default),
            &found.resampling_fn_probabilities_kwargs,
            1,
        ),
    ] {
        ensure!(
            function == default,
            "{what} resampled by {function}; only nnU-Net's default, {default}, is known"
        );
        let own = [
            ("order", Value::from(order)),
            ("order_z", Value::from(0)),
            ("force_separate_z", Value::Null),
        ];
        for (name, own) in own {
            let asked = options.as_ref().and_then(|options| options.get(name));
            ensure!(
                asked.is_none_or(|asked| *asked == own),
                "{what} resampled with {name} {}; only nnU-Net's default, {own}, is known",
                asked.unwrap_or(&own)
            );
        }
    }
    Ok(())
}

fn normalization(
    plans: &Plans,
    scheme: &str,
    channel: usize,
) -> anyhow::Result<ChannelNormalization> {
    Ok(match scheme {
        "CTNormalization" => {
            let intensities = &plans.foreground_intensity_properties_per_channel;
            let found = intensities.get(&channel.to_string()).with_context(|| {
                format!("channel {channel} has no foreground_intensity_properties_per_channel")
            })?;
            ChannelNormalization::Ct {
                lower: found.percentile_00_5,
                upper: found.percentile_99_5,
                mean: found.mean,
                std: found.std,
            }
        }
        "ZScoreNormalization" => ChannelNormalization::ZScore,
        "NoNormalization" => ChannelNormalization::None,
        "RescaleTo01Normalization" => ChannelNormalization::RescaleTo01,
        "RGBTo01Normalization" => ChannelNormalization::RgbTo01,
        other => bail!("channel {channel} is normalised by {other}, which is not known"),
    })
}

/// The network, also of plans from before version 2.4.
fn network(found: Configuration) -> anyhow::Result<Network> {
    if let Some(network) = found.architecture {
        return Ok(network);
    }
    let missing = |what: &'static str| move || format!("has neither an architecture nor {what}");
    let class = found
        .unet_class_name
        .with_context(missing("UNet_class_name"))?;
    let base = (found.unet_base_num_features).with_context(missing("UNet_base_num_features"))?;
    let most = (found.unet_max_num_features).with_context(missing("unet_max_num_features"))?;
    let kernels = found
        .conv_kernel_sizes
        .with_context(missing("conv_kernel_sizes"))?;
    let encoder =
        (found.n_conv_per_stage_encoder).with_context(missing("n_conv_per_stage_encoder"))?;
    let doubled =
        |stage: usize| base.saturating_mul(1usize.checked_shl(stage as u32).unwrap_or(usize::MAX));
    Ok(Network {
        network_class_name: class,
        arch_kwargs: NetworkArguments {
            features_per_stage: (0..kernels.len())
                .map(|stage| doubled(stage).min(most))
                .collect(),
            kernel_sizes: kernels,
            strides: (found.pool_op_kernel_sizes).with_context(missing("pool_op_kernel_sizes"))?,
            n_conv_per_stage: Some(encoder.clone()),
            n_blocks_per_stage: Some(encoder),
            n_conv_per_stage_decoder: (found.n_conv_per_stage_decoder)
                .with_context(missing("n_conv_per_stage_decoder"))?,
            conv_bias: true,
            norm_op: Some("torch.nn.InstanceNorm3d".into()),
            norm_op_kwargs: None,
            dropout_op: None,
            dropout_op_kwargs: None,
            nonlin: "torch.nn.LeakyReLU".into(),
            nonlin_kwargs: None,
            nonlin_first: false,
        },
    })
}

fn layers(network: &NetworkArguments) -> anyhow::Result<LayerChoices> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let number = |options: &Option<Map<String, Value>>, key: &str, otherwise: f64| {
        let value = options.as_ref().and_then(|options| options.get(key));
        value.map_or(Some(otherwise), Value::as_f64)
    };
    let norm = network.norm_op.as_deref().map(last);
    let normalization = match norm.as_deref() {
        None => Normalization::None,
        Some("InstanceNorm3d") => Normalization::Instance,
        Some("BatchNorm3d") => Normalization::Batch,
        Some(other) => {
            bail!("the normalisation is {other}; InstanceNorm3d and BatchNorm3d are known")
        }
    };
    if normalization != Normalization::None {
        let epsilon = number(&network.norm_op_kwargs, "eps", 1e-5);
        ensure!(
            epsilon.is_some_and(|epsilon| (epsilon - 1e-5).abs() < 1e-12),
            "the normalisation's eps is {epsilon:?}; here it is 1e-5"
        );
        // PyTorch's own default differs between the two.
        let affine = network
            .norm_op_kwargs
            .as_ref()
            .and_then(|options| options.get("affine"));
        ensure!(
            affine.map_or(network.norm_op_kwargs.is_none(), |affine| affine == true),
            "the normalisation has no scale and offset (affine); here it has"
        );
    }
    let activation = match last(&network.nonlin).as_str() {
        "LeakyReLU" => Activation::LeakyRelu {
            slope: number(&network.nonlin_kwargs, "negative_slope", 0.01)
                .context("negative_slope of the leaky ReLU is no number")?,
        },
        "ReLU" => Activation::Relu,
        other => bail!("the activation is {other}; LeakyReLU and ReLU are known"),
    };
    let dropout = match &network.dropout_op {
        None => 0.0,
        Some(name) if last(name) == "Dropout3d" => {
            number(&network.dropout_op_kwargs, "p", 0.5).context("p of the dropout is no number")?
        }
        Some(other) => bail!("the dropout is {other}; Dropout3d is known"),
    };
    Ok(LayerChoices {
        normalization: Some(normalization),
        activation: Some(activation),
        dropout: Some(dropout),
    })
}
