//! Stages that are computed again have the same gradients, drop the same channels, and gather statistics once.

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::{checkpointed, kept};
use crate::conv_block::ConvStage;
use crate::layers::Layers;
use crate::parameters_for_tests::{gradients as of_parameters, numbers, parameters};
use crate::{Activation, LayerConfig, Normalization, SegmentationModel, StageConfig, UNetConfig};

const SLOPE: Activation = Activation::LeakyRelu { slope: 0.1 };

/// Numbers between 0 and 1.
fn features(shape: [usize; 5], device: &Device) -> Tensor<5> {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| ((i * 7919 + 3) % 1009) as f32 / 1009.0);
    Tensor::from_data(TensorData::new(values.collect(), shape), device)
}

/// Two convolutions, of 3 channels to 4.
fn stage(normalization: Normalization, activation: Activation, device: &Device) -> ConvStage {
    let layers = LayerConfig {
        normalization,
        activation,
        dropout: 0.0,
    };
    ConvStage::new([3, 4], [3; 3], [1, 2, 2], 2, &layers, device)
}

/// Logits, the gradient of x and those of the parameters, with or without keeping what lies between.
fn run(stage: &ConvStage, x: &Tensor<5>, again: bool) -> Vec<Vec<f32>> {
    let x = x.clone().require_grad();
    let y = match again {
        true => kept::forward(stage, [x.clone()], |stage, [x]| stage.forward(x)),
        false => stage.forward(x.clone()),
    };
    let gradients = y.clone().powi_scalar(3).sum().backward();
    let of_x = x.grad(&gradients).unwrap();
    let of_parameters = of_parameters(stage, &gradients).into_iter().flatten();
    let all = [y.into_data(), of_x.into_data()]
        .into_iter()
        .chain(of_parameters);
    all.map(|data| numbers([data])).collect()
}

/// Holds gradients to each other, with errors of so many times the largest of all: a bias before a normalisation has a gradient that
/// is nothing but rounding.
fn same_gradients(device: &Device, tolerance: f32) {
    for normalization in [
        Normalization::None,
        Normalization::Instance,
        Normalization::Batch,
        Normalization::Group { groups: 2 },
    ] {
        for activation in [SLOPE, Activation::PRelu] {
            let stage = stage(normalization, activation, device);
            let x = features([2, 3, 2, 4, 6], device);
            let (kept, again) = (run(&stage, &x, false), run(&stage, &x, true));
            assert_eq!(kept.len(), again.len());
            let all = kept.iter().flatten();
            let largest = all.fold(0.0, |a, b| f32::max(a, b.abs()));
            assert!(largest > 0.0);
            for (part, (kept, again)) in kept.iter().zip(&again).enumerate() {
                assert_eq!(kept.len(), again.len());
                for (kept, again) in kept.iter().zip(again) {
                    assert!(
                        (kept - again).abs() <= tolerance * largest,
                        "{normalization:?}, {activation:?}, part {part}: {again} instead of {kept}"
                    );
                }
            }
        }
    }
}

#[test]
fn gradients_are_the_same_whatever_follows_the_convolutions() {
    same_gradients(&Device::flex().autodiff(), 0.0);
    same_gradients(&Device::flex().autodiff().gradient_checkpointing(), 0.0);
}

#[test]
fn gradients_of_bf16_features_are_the_same() {
    let device = Device::flex().autodiff();
    let stage = stage(Normalization::Instance, SLOPE, &device);
    let x = features([2, 3, 2, 4, 6], &device).cast(FloatDType::BF16);
    assert_eq!(run(&stage, &x, false), run(&stage, &x, true));
}

#[cfg(feature = "cubecl")]
#[test]
fn gradients_on_gpus_are_the_same() {
    for (name, device) in crate::gpu_for_tests::gpus() {
        println!("{name}");
        // Burn groups its sums (of slopes, of biases) as its tuning likes, and their terms are larger than they are.
        same_gradients(&device.clone().autodiff(), 1e-5);
        same_gradients(&device.clone().autodiff().gradient_checkpointing(), 1e-5);
    }
}

#[test]
fn the_same_channels_are_dropped_again() {
    let device = Device::flex().autodiff();
    let layers = LayerConfig {
        normalization: Normalization::None,
        activation: SLOPE,
        dropout: 0.5,
    };
    let layers = Layers::new(64, &layers, &device);
    let x = features([1, 64, 1, 2, 3], &device).require_grad();
    let y = kept::forward(&layers, [x.clone()], |layers, [x]| layers.forward(x));
    let gradient = x.grad(&y.clone().sum().backward()).unwrap();
    // Of what is positive, a channel is multiplied by 0 or by 2, and so is its gradient.
    let dropped = gradient.clone().equal_scalar(0.0).int().sum();
    let dropped = dropped.into_scalar::<i64>();
    assert!(0 < dropped && dropped < 64 * 6, "{dropped}");
    assert_eq!(y.into_data(), (x.inner() * gradient).into_data());
}

/// Without biases and normalisation a network is of first degree: its logits are those of its gradients, if these are of the
/// same channels.
#[test]
fn a_whole_network_drops_the_same_channels_again() {
    let device = Device::flex().autodiff().gradient_checkpointing();
    let layers = LayerConfig {
        normalization: Normalization::None,
        activation: SLOPE,
        // Rare enough, and of enough channels, that not all are ever dropped.
        dropout: 0.2,
    };
    let stages = [(16, [1; 3]), (16, [2; 3]), (16, [2; 3])];
    let stages = stages.map(|(features, stride)| StageConfig::new(features, [3; 3], stride));
    // Fewer classes than features, and more: the last stage is kept, and computed again.
    for classes in [3, 17] {
        let config = UNetConfig::new(2, classes, stages.to_vec()).with_layers(layers);
        let network = config.try_init(&device).unwrap();
        let x = features([1, 2, 4, 8, 8], &device).require_grad();
        // A forward pass that no backward pass follows is none the worse.
        network.forward(x.clone());
        let logits = network.forward(x.clone()).into_iter().map(Tensor::sum);
        let sum = logits.reduce(|a, b| a + b).unwrap();
        let gradient = x.grad(&sum.backward()).unwrap();
        let products = x.inner() * gradient;
        let (found, size) = (products.clone().sum(), products.abs().sum());
        let [found, size, sum] = [found, size, sum].map(|sum| sum.into_scalar::<f32>());
        assert!(
            size > 0.0 && (found - sum).abs() <= 1e-5 * size,
            "{found} instead of {sum}"
        );
    }
}

#[test]
fn batch_normalisation_gathers_its_statistics_once() {
    let gathered = |again: bool| {
        let device = match again {
            true => Device::flex().autodiff().gradient_checkpointing(),
            false => Device::flex().autodiff(),
        };
        let config = LayerConfig {
            normalization: Normalization::Batch,
            activation: SLOPE,
            dropout: 0.0,
        };
        let layers = Layers::new(4, &config, &device);
        for step in 0..3 {
            let x = features([2, 4, 1, 2, 3], &device) + step;
            let y = checkpointed(&layers, [x.require_grad()], |layers, [x]| layers.forward(x));
            y.sum().backward();
        }
        numbers(parameters(&layers.valid()))
    };
    let kept = gathered(false);
    // Scale, offset, mean, variance: the means are no longer 0.
    assert!(kept[8..12].iter().all(|&mean| mean > 0.1), "{kept:?}");
    assert_eq!(kept, gathered(true));
}

#[test]
fn gradients_are_taken_only_where_they_are_asked_for() {
    let device = Device::flex().autodiff();
    let mut stage = stage(Normalization::Instance, SLOPE, &device);
    let images = features([1, 3, 2, 4, 6], &device);
    let forward =
        |stage: &ConvStage, x: Tensor<5>| kept::forward(stage, [x], |stage, [x]| stage.forward(x));
    let gradients = forward(&stage, images.clone()).sum().backward();
    let of_all = of_parameters(&stage, &gradients);
    assert!(of_all.iter().all(Option::is_some));
    assert!(images.grad(&gradients).is_none());

    stage = stage.no_grad();
    assert!(!forward(&stage, images.clone()).is_tracked());
    let x = images.require_grad();
    let gradients = forward(&stage, x.clone()).sum().backward();
    assert!(x.grad(&gradients).is_some());
    let of_none = of_parameters(&stage, &gradients);
    assert!(of_none.len() == of_all.len() && of_none.iter().all(Option::is_none));
}

#[test]
fn gradients_of_what_several_stages_take_are_added() {
    let device = Device::flex().autodiff();
    let stage = stage(Normalization::Instance, SLOPE, &device);
    let of = |again: bool| {
        let x = features([1, 3, 2, 4, 6], &device).require_grad();
        let twice = |stage: &ConvStage, [x, y]: [Tensor<5>; 2]| stage.forward(x + y);
        let both = |stage: &ConvStage, [x, skip]: [Tensor<5>; 2]| stage.forward(x) * skip;
        let once = |stage: &ConvStage, [x]: [Tensor<5>; 1]| stage.forward(x);
        let y = match again {
            true => {
                let skip = kept::forward(&stage, [x.clone()], once);
                let product = kept::forward(&stage, [x.clone(), skip], both);
                product + kept::forward(&stage, [x.clone(), x.clone()], twice)
            }
            false => {
                let product = both(&stage, [x.clone(), once(&stage, [x.clone()])]);
                product + twice(&stage, [x.clone(), x.clone()])
            }
        };
        let gradients = y.sum().backward();
        let mut all = of_parameters(&stage, &gradients);
        all.push(Some(x.grad(&gradients).unwrap().into_data()));
        numbers(all.into_iter().flatten())
    };
    let (kept, again) = (of(false), of(true));
    let largest = kept.iter().fold(0.0, |a, b| f32::max(a, b.abs()));
    // Several are added in another order.
    for (kept, again) in kept.iter().zip(&again) {
        assert!(
            (kept - again).abs() <= 1e-5 * largest,
            "{again} instead of {kept}"
        );
    }
    assert_eq!(kept.len(), again.len());
}
