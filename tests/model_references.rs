//! The published networks against PyTorch: the same weights give the same logits and the same gradients.
//!
//! `references/models.py` made `references/models.json`. Neither holds weights: both sides compute them by [`noise`].

mod common;

use arl::models::{
    Activation, CicekUNetConfig, LayerConfig, Normalization, Padding, SegmentationModel,
    StageConfig, UNetConfig, VNetConfig, VNetVariant,
};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde::Deserialize;

#[derive(Deserialize)]
struct References {
    networks: Vec<Network>,
}

#[derive(Deserialize)]
struct Network {
    name: String,
    images: [usize; 5],
    parameters: Vec<Parameter>,
    logits: Vec<Logits>,
}

#[derive(Deserialize)]
struct Parameter {
    kind: String,
    shape: Vec<usize>,
    gradient: Samples,
}

#[derive(Deserialize)]
struct Logits {
    shape: [usize; 5],
    #[serde(flatten)]
    samples: Samples,
}

/// Some values of a tensor, and the norm of all.
#[derive(Deserialize)]
struct Samples {
    places: Vec<usize>,
    values: Vec<f64>,
    norm: f64,
}

impl Samples {
    /// Values and norm within `tolerance` of the largest value and of the norm.
    fn check(&self, data: TensorData, tolerance: f64, what: &str) {
        let found: Vec<f64> = data.iter().collect();
        let norm = found.iter().map(|v| v * v).sum::<f64>().sqrt();
        // A bias before a normalisation has no gradient but rounding, beside others of some hundreds.
        let floor = 1.0;
        assert!(
            (norm - self.norm).abs() <= tolerance * self.norm.max(floor),
            "norm of {what}: {norm} instead of {}",
            self.norm
        );
        let largest = self.values.iter().fold(floor, |a, b| f64::max(a, b.abs()));
        for (&place, &expected) in self.places.iter().zip(&self.values) {
            assert!(
                (found[place] - expected).abs() <= tolerance * largest,
                "{what} at {place}: {} instead of {expected}",
                found[place]
            );
        }
    }
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

/// Passes over a batch normalisation's running statistics, which are no parameters.
#[derive(Default)]
struct Place {
    name: String,
    index: usize,
}

impl Place {
    fn next<'a>(&mut self, parameters: &'a [Parameter]) -> Option<(usize, &'a Parameter)> {
        if self.name.starts_with("running") {
            return None;
        }
        let index = self.index;
        self.index += 1;
        Some((index, &parameters[index]))
    }
}

/// Gives every parameter its value.
struct Fill<'a> {
    parameters: &'a [Parameter],
    place: Place,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.place.name = name.to_owned();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((stream, expected)) = self.place.next(self.parameters) else {
            return param;
        };
        let shape = param.dims();
        assert_eq!(shape[..], expected.shape, "parameter {stream}");
        let inputs = match expected.kind.as_str() {
            "pointwise" | "transposed" => shape[0],
            _ => shape[1..].iter().product(),
        };
        let value = |u: f64| match expected.kind.as_str() {
            "scale" => 1.0 + 0.5 * u,
            "slope" => 0.25 + 0.1 * u,
            "bias" => 0.3 * u,
            _ => u * (6.0 / inputs as f64).sqrt(),
        };
        let values: Vec<f64> = noise(shape.iter().product(), stream).map(value).collect();
        param.map(|old| {
            Tensor::from_data(TensorData::new(values, shape), &old.device()).require_grad()
        })
    }
}

/// Holds every gradient to its reference.
struct CheckGradients<'a> {
    name: &'a str,
    parameters: &'a [Parameter],
    gradients: &'a Gradients,
    place: Place,
}

impl ModuleVisitor for CheckGradients<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.place.name = name.to_owned();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some((index, expected)) = self.place.next(self.parameters) else {
            return;
        };
        let gradient = param.val().grad(self.gradients).expect("a gradient");
        let what = format!("gradient of {} {index} of {}", expected.kind, self.name);
        expected.gradient.check(gradient.into_data(), 1e-3, &what);
    }
}

fn compare<M: Module + SegmentationModel>(reference: &Network, model: M, device: &Device) {
    let parameters = &reference.parameters;
    let mut fill = Fill {
        parameters,
        place: Place::default(),
    };
    let model = model.map(&mut fill);
    assert_eq!(fill.place.index, parameters.len(), "{}", reference.name);

    let logits = model.forward(noise_tensor(reference.images, 500, device));
    assert_eq!(logits.len(), reference.logits.len(), "{}", reference.name);
    let mut loss = Tensor::<1>::zeros([1], device);
    for (head, (logits, expected)) in logits.into_iter().zip(&reference.logits).enumerate() {
        assert_eq!(logits.dims(), expected.shape, "{}", reference.name);
        let what = format!("logits {head} of {}", reference.name);
        expected
            .samples
            .check(logits.clone().into_data(), 1e-4, &what);
        loss = loss + (logits * noise_tensor(expected.shape, 600 + head, device)).sum();
    }
    let gradients = loss.backward();
    let mut check = CheckGradients {
        name: &reference.name,
        parameters,
        gradients: &gradients,
        place: Place::default(),
    };
    model.visit(&mut check);
    assert_eq!(check.place.index, parameters.len(), "{}", reference.name);
}

/// Compares the networks whose reference is `wanted`, and returns how many those are.
fn compare_all(device: &Device, wanted: impl Fn(&Network) -> bool) -> usize {
    let text = include_str!("references/models.json");
    let references: References = serde_json::from_str(text).unwrap();
    let stages = vec![
        StageConfig::new(4, [1, 3, 3], [1; 3]),
        StageConfig::new(6, [3; 3], [1, 2, 2]),
        StageConfig::new(8, [3; 3], [2; 3]),
    ];
    let unet = UNetConfig::new(2, 3, stages);
    let vnet = |channels, classes| VNetConfig::new(channels, classes).with_features(2);
    let mut done = 0;
    for reference in references
        .networks
        .iter()
        .filter(|&network| wanted(network))
    {
        done += 1;
        match reference.name.as_str() {
            "plain U-Net" => compare(reference, unet.try_init(device).unwrap(), device),
            "residual encoder U-Net" => {
                let config = unet
                    .clone()
                    .with_residual_blocks(Some(vec![1, 3, 2]))
                    .with_convolutions_per_decoder_stage(1);
                compare(reference, config.try_init(device).unwrap(), device);
            }
            "plain U-Net, groups and ReLU" => {
                let config = unet.clone().with_layers(LayerConfig {
                    normalization: Normalization::Group { groups: 2 },
                    activation: Activation::Relu,
                    dropout: 0.0,
                });
                compare(reference, config.try_init(device).unwrap(), device);
            }
            "residual encoder U-Net, batches and PReLU" => {
                let config = unet
                    .clone()
                    .with_residual_blocks(Some(vec![1, 2, 1]))
                    .with_convolutions_per_decoder_stage(1)
                    .with_layers(LayerConfig {
                        normalization: Normalization::Batch,
                        activation: Activation::PRelu,
                        dropout: 0.0,
                    });
                compare(reference, config.try_init(device).unwrap(), device);
            }
            "V-Net of the paper" => {
                compare(reference, vnet(1, 2).try_init(device).unwrap(), device);
            }
            "V-Net of the prototxt" => {
                let config = vnet(2, 3).with_variant(VNetVariant::Prototxt);
                compare(reference, config.try_init(device).unwrap(), device);
            }
            "first U-Net, padded" => {
                let config = CicekUNetConfig::new(2, 3).with_features(2);
                compare(reference, config.try_init(device).unwrap(), device);
            }
            "first U-Net, valid" => {
                let config = CicekUNetConfig::new(1, 2).with_features(1);
                let config = config.with_padding(Padding::Valid);
                compare(reference, config.try_init(device).unwrap(), device);
            }
            other => panic!("no network is called {other}"),
        }
    }
    done
}

#[test]
fn networks_are_pytorchs_on_the_cpu() {
    assert_eq!(compare_all(&Device::flex().autodiff(), |_| true), 8);
}

#[test]
fn networks_are_pytorchs_through_wgpu() {
    if let Some(device) = common::wgpu() {
        // The others take a software driver minutes.
        let small = |network: &Network| network.name.ends_with("encoder U-Net");
        assert_eq!(compare_all(&device.autodiff(), small), 1);
    }
}
