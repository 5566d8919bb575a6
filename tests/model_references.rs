//! The published networks against PyTorch: the same weights give the same logits and the same gradients, and have the same names.
//!
//! `references/models.py` made `references/models.json`. Neither holds weights: both sides compute them by [`noise`].

mod common;

use std::collections::BTreeMap;

use arl::models::{
    Activation, CicekUNetConfig, LayerConfig, Network, NetworkConfig, Normalization, Padding,
    SegmentationModel, StageConfig, UNetConfig, VNetConfig, VNetVariant, Weights,
};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde::Deserialize;

#[derive(Deserialize)]
struct References {
    networks: Vec<Reference>,
    states: Vec<State>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    images: [usize; 5],
    parameters: Vec<Parameter>,
    logits: Vec<Logits>,
    /// The finest logits of a batch normalisation's running statistics.
    predicted: Option<Logits>,
}

#[derive(Deserialize)]
struct Parameter {
    kind: String,
    shape: Vec<usize>,
    /// None where the other network does not have this parameter, which is zero here.
    gradient: Option<Samples>,
}

#[derive(Deserialize)]
struct Logits {
    shape: [usize; 5],
    #[serde(flatten)]
    samples: Samples,
}

/// What a network's `state_dict` holds: the shape of each tensor.
#[derive(Deserialize)]
struct State {
    name: String,
    tensors: BTreeMap<String, Vec<usize>>,
}

/// What a tensor is recognised by.
#[derive(Deserialize)]
struct Samples {
    /// At even distances, and where the largest values are.
    places: Vec<usize>,
    values: Vec<f64>,
    norm: f64,
    /// Sums over all values, each times a number that depends on its place: no value can be another or elsewhere unnoticed.
    projections: [f64; 2],
    /// A tensor that is zero but for rounding has no size of its own to measure errors by; this is another's norm.
    scale: Option<f64>,
}

/// Streams of [`noise`]; those of the parameters count from 0.
const IMAGES: usize = 500;
const HEADS: usize = 600;
const STATISTICS: usize = 700;
const PROJECTIONS: [usize; 2] = [800, 801];

impl Samples {
    /// The largest error: of the values as a share of the largest one, of the norm as a share of itself, and of the projections as
    /// a share of what those of a tensor of this norm are on average.
    fn error(&self, found: &[f64]) -> f64 {
        let scale = self.scale.unwrap_or(self.norm);
        let norm = found.iter().map(|v| v * v).sum::<f64>().sqrt();
        let mut error = (norm - self.norm).abs() / scale;

        let largest = self.values.iter().fold(0.0, |a, b| f64::max(a, b.abs()));
        let largest = self.scale.unwrap_or(largest);
        for (&place, &expected) in self.places.iter().zip(&self.values) {
            error = error.max((found[place] - expected).abs() / largest);
        }

        // The root of the mean square of numbers between -1 and 1.
        let average = scale / 3f64.sqrt();
        for (stream, expected) in PROJECTIONS.into_iter().zip(self.projections) {
            let numbers = noise(found.len(), stream);
            let projection: f64 = found.iter().zip(numbers).map(|(v, u)| v * u).sum();
            error = error.max((projection - expected).abs() / average);
        }
        // What is not a number compares as nothing.
        if norm.is_finite() {
            error
        } else {
            f64::INFINITY
        }
    }

    /// Holds a tensor to an error of at most `tolerance`, and returns that error. Makes sure that it would not pass with two
    /// neighbouring slices in each other's place, on any axis.
    fn check<const D: usize>(&self, tensor: Tensor<D>, tolerance: f64, what: &str) -> f64 {
        let shape = tensor.dims();
        let values: Vec<f64> = tensor.into_data().iter().collect();
        let error = self.error(&values);
        assert!(error <= tolerance, "{what}: an error of {error}");
        for axis in (0..D).filter(|&axis| shape[axis] > 1 && self.scale.is_none()) {
            let other = self.error(&with_exchanged_slices(&values, &shape, axis));
            assert!(
                other > tolerance,
                "{what}: slices of axis {axis} are exchanged unnoticed, {other}"
            );
        }
        error
    }
}

/// The values with the slice of the largest one in the place of its neighbour on this axis.
fn with_exchanged_slices(values: &[f64], shape: &[usize], axis: usize) -> Vec<f64> {
    let stride: usize = shape[axis + 1..].iter().product();
    let slice = |place: usize| place / stride % shape[axis];
    let largest = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
    let first = slice(largest.unwrap()).min(shape[axis] - 2);
    let mut values = values.to_vec();
    for place in (0..values.len()).filter(|&place| slice(place) == first) {
        values.swap(place, place + stride);
    }
    values
}

/// `count` numbers in [-1, 1), the same as in `references/models.py`.
fn noise(count: usize, stream: usize) -> impl Iterator<Item = f64> {
    (1..=count as u32).map(move |i| {
        let mut x = i
            .wrapping_mul(2_654_435_761)
            .wrapping_add((stream as u32 + 1).wrapping_mul(97));
        x ^= x >> 16;
        x = x.wrapping_mul(2_246_822_519);
        x ^= x >> 13;
        f64::from(x) / f64::from(1u32 << 31) - 1.0
    })
}

fn noise_tensor(shape: [usize; 5], stream: usize, device: &Device) -> Tensor<5> {
    let values: Vec<f64> = noise(shape.iter().product(), stream).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Where a visit has come to. A batch normalisation's running statistics are no parameters and counted by themselves.
#[derive(Default)]
struct Place {
    name: String,
    parameters: usize,
    statistics: usize,
}

impl Place {
    fn is_statistic(&self) -> bool {
        self.name.starts_with("running")
    }
}

/// Gives every parameter and every running statistic its value.
struct Fill<'a> {
    parameters: &'a [Parameter],
    place: Place,
}

impl Fill<'_> {
    fn statistic(&mut self, count: usize) -> Vec<f64> {
        let stream = STATISTICS + self.place.statistics;
        self.place.statistics += 1;
        let is_mean = self.place.name == "running_mean";
        let value = |u: f64| if is_mean { 0.3 * u } else { 1.0 + 0.5 * u };
        noise(count, stream).map(value).collect()
    }

    fn parameter(&mut self, shape: &[usize]) -> Vec<f64> {
        let stream = self.place.parameters;
        self.place.parameters += 1;
        let expected = &self.parameters[stream];
        assert_eq!(shape, expected.shape, "parameter {stream}");
        let inputs = match expected.kind.as_str() {
            "pointwise" | "transposed" => shape[0],
            _ => shape[1..].iter().product(),
        };
        let value = |u: f64| match expected.kind.as_str() {
            "zero" => 0.0,
            "scale" => 1.0 + 0.5 * u,
            "slope" => 0.25 + 0.1 * u,
            "bias" => 0.3 * u,
            _ => u * (6.0 / inputs as f64).sqrt(),
        };
        noise(shape.iter().product(), stream).map(value).collect()
    }
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.place.name = name.to_owned();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.dims();
        let is_statistic = self.place.is_statistic();
        let values = match is_statistic {
            true => self.statistic(shape.iter().product()),
            false => self.parameter(&shape),
        };
        param.map(|old| {
            let value = Tensor::from_data(TensorData::new(values, shape), &old.device());
            match old.device().is_autodiff() && !is_statistic {
                true => value.require_grad(),
                false => value,
            }
        })
    }
}

/// Holds every gradient to its reference.
struct CheckGradients<'a> {
    reference: &'a Reference,
    gradients: &'a Gradients,
    place: Place,
    worst: f64,
}

impl ModuleVisitor for CheckGradients<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.place.name = name.to_owned();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.place.is_statistic() {
            return;
        }
        let index = self.place.parameters;
        self.place.parameters += 1;
        let Parameter { kind, gradient, .. } = &self.reference.parameters[index];
        let Some(expected) = gradient else { return };
        let what = format!("gradient of {kind} {index} of {}", self.reference.name);
        let found = param.val().grad(self.gradients).expect("a gradient");
        self.worst = self.worst.max(expected.check(found, 1e-3, &what));
    }
}

/// The network of `config` with the weights of the reference.
fn filled(reference: &Reference, config: &NetworkConfig, device: &Device) -> Network {
    let mut fill = Fill {
        parameters: &reference.parameters,
        place: Place::default(),
    };
    let network = config.try_init(device).unwrap().map(&mut fill);
    let name = &reference.name;
    assert_eq!(fill.place.parameters, reference.parameters.len(), "{name}");
    assert_eq!(fill.place.statistics > 0, reference.predicted.is_some());
    network
}

/// Holds the network in training to its reference, on a device with gradients.
fn compare(reference: &Reference, config: &NetworkConfig, device: &Device) {
    let network = filled(reference, config, device);
    let name = &reference.name;
    let logits = network.forward(noise_tensor(reference.images, IMAGES, device));
    assert_eq!(logits.len(), reference.logits.len(), "{name}");
    let mut loss = Tensor::<1>::zeros([1], device);
    let mut worst = 0.0f64;
    for (head, (logits, expected)) in logits.into_iter().zip(&reference.logits).enumerate() {
        assert_eq!(logits.dims(), expected.shape, "{name}");
        let what = format!("logits {head} of {name}");
        let error = expected.samples.check(logits.clone(), 1e-4, &what);
        worst = worst.max(error);
        loss = loss + (logits * noise_tensor(expected.shape, HEADS + head, device)).sum();
    }
    let gradients = loss.backward();
    let mut check = CheckGradients {
        reference,
        gradients: &gradients,
        place: Place::default(),
        worst: 0.0,
    };
    network.visit(&mut check);
    assert_eq!(check.place.parameters, reference.parameters.len(), "{name}");
    println!(
        "{name}: errors up to {worst:.1e} in logits, {:.1e} in gradients",
        check.worst
    );
}

/// Holds what the network predicts with given running statistics to its reference, on a device without gradients.
fn compare_predicted(reference: &Reference, config: &NetworkConfig, device: &Device) {
    let Some(expected) = &reference.predicted else {
        return;
    };
    let network = filled(reference, config, device);
    let logits = network.predict(noise_tensor(reference.images, IMAGES, device));
    assert_eq!(logits.dims(), expected.shape, "{}", reference.name);
    let what = format!("predicted logits of {}", reference.name);
    let error = expected.samples.check(logits, 1e-4, &what);
    println!("{what}: errors up to {error:.1e}");
}

fn references() -> References {
    serde_json::from_str(include_str!("references/models.json")).unwrap()
}

/// The network that a reference is of, by its name.
fn config(name: &str) -> NetworkConfig {
    let unet = UNetConfig::new(
        2,
        3,
        vec![
            StageConfig::new(4, [1, 3, 3], [1; 3]),
            StageConfig::new(6, [3; 3], [1, 2, 2]),
            StageConfig::new(8, [3; 3], [2; 3]),
        ],
    );
    let residual = |blocks: [usize; 3]| {
        let unet = unet.clone().with_convolutions_per_decoder_stage(1);
        unet.with_residual_blocks(Some(blocks.to_vec()))
    };
    let vnet = |channels, classes| VNetConfig::new(channels, classes).with_features(2);
    let prototxt = vnet(2, 3).with_variant(VNetVariant::Prototxt);
    let cicek = CicekUNetConfig::new(2, 3).with_features(2);
    let layers = |normalization, activation| LayerConfig {
        normalization,
        activation,
        dropout: 0.0,
    };
    let groups = Normalization::Group { groups: 2 };
    match name {
        "plain U-Net" => NetworkConfig::UNet(unet),
        "MONAI's DynUNet" => {
            let mut unet = unet.with_deep_supervision(false);
            for stage in &mut unet.stages {
                stage.kernel = [3, 3, 5];
            }
            NetworkConfig::UNet(unet)
        }
        "plain U-Net, groups and ReLU" => {
            NetworkConfig::UNet(unet.with_layers(layers(groups, Activation::Relu)))
        }
        "residual encoder U-Net" => NetworkConfig::UNet(residual([1, 3, 2])),
        "residual encoder U-Net, batches and PReLU" => {
            let layers = layers(Normalization::Batch, Activation::PRelu);
            NetworkConfig::UNet(residual([1, 2, 1]).with_layers(layers))
        }
        "V-Net of the paper" => NetworkConfig::VNet(vnet(1, 2)),
        "V-Net of the prototxt" => NetworkConfig::VNet(prototxt),
        "V-Net of the prototxt, instances and leaky ReLU" => {
            NetworkConfig::VNet(prototxt.with_layers(LayerConfig::nnunet()))
        }
        "first U-Net, padded" => NetworkConfig::CicekUNet(cicek),
        "first U-Net, groups and PReLU" => {
            NetworkConfig::CicekUNet(cicek.with_layers(layers(groups, Activation::PRelu)))
        }
        "first U-Net, valid" => {
            let config = CicekUNetConfig::new(1, 2).with_features(1);
            NetworkConfig::CicekUNet(config.with_padding(Padding::Valid))
        }
        other => panic!("no network is called {other}"),
    }
}

#[test]
fn networks_are_pytorchs_on_the_cpu() {
    let networks = references().networks;
    assert_eq!(networks.len(), 9);
    for reference in networks {
        let (config, device) = (config(&reference.name), Device::flex());
        compare(&reference, &config, &device.clone().autodiff());
        compare_predicted(&reference, &config, &device);
    }
}

#[test]
fn networks_are_pytorchs_on_gpus() {
    if let Some(device) = common::gpu() {
        // The others take a software driver minutes.
        let name = "residual encoder U-Net";
        let networks = references().networks;
        let reference = networks.iter().find(|network| network.name == name);
        let device = device.autodiff();
        compare(reference.unwrap(), &config(name), &device);
    }
}

/// `load_state_dict` of the networks in `examples/pytorch/networks.py` takes what is exported.
#[test]
fn exported_names_and_shapes_are_those_of_the_networks_in_pytorch() {
    let states = references().states;
    assert_eq!(states.len(), 5);
    for State { name, tensors } in states {
        let config = config(&name);
        let network = config.try_init(&Device::flex()).unwrap();
        let weights = Weights::of(&network);
        let names = weights.names();
        let found: BTreeMap<String, Vec<usize>> = names
            .map(|name| (name.to_owned(), weights.shape(name).unwrap()))
            .collect();
        assert_eq!(found, tensors, "{name}");
    }
}
