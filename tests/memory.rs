//! What a training step takes of the memory, held to the estimate.

#[path = "common/training_memory.rs"]
mod training_memory;

use arl::models::{
    Activation, CicekUNetConfig, LayerConfig, NetworkConfig, Normalization, SegmentationModel,
    StageConfig, UNetConfig, VNetConfig, estimate_memory,
};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use std::sync::Mutex;
use training_memory::{LiveBytes, measured};

#[global_allocator]
static ALLOCATOR: LiveBytes = LiveBytes;

fn stages(features: &[usize]) -> Vec<StageConfig> {
    let stride = |stage| if stage == 0 { [1; 3] } else { [2; 3] };
    let stages = features.iter().enumerate();
    stages
        .map(|(i, &f)| StageConfig::new(f, [3; 3], stride(i)))
        .collect()
}

/// Random numbers and memory are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn estimates_are_within_fifteen_percent() {
    let _alone = ALONE.lock().unwrap();
    let unet = |features: &[usize], classes| UNetConfig::new(1, classes, stages(features));
    let cases = [
        (
            "plain",
            NetworkConfig::UNet(unet(&[16, 32, 64], 4)),
            [32, 32, 32],
            2,
        ),
        (
            "many classes",
            NetworkConfig::UNet(unet(&[8, 16, 32], 40)),
            [32, 32, 32],
            1,
        ),
        (
            "wide",
            NetworkConfig::UNet(unet(&[64, 128, 256], 3)),
            [16, 16, 16],
            1,
        ),
        (
            "stem",
            NetworkConfig::UNet(unet(&[16, 32, 64], 8).with_stem_stride([2; 3])),
            [64, 32, 32],
            1,
        ),
        (
            "residual",
            NetworkConfig::UNet(
                unet(&[16, 32, 64], 4)
                    .with_residual_blocks(Some(vec![1, 3, 4]))
                    .with_convolutions_per_decoder_stage(1),
            ),
            [32, 32, 32],
            2,
        ),
        (
            "V-Net",
            NetworkConfig::VNet(VNetConfig::new(1, 3).with_features(4)),
            [32, 32, 32],
            1,
        ),
        (
            "groups and PReLU",
            NetworkConfig::UNet(unet(&[16, 32, 64], 4).with_layers(LayerConfig {
                normalization: Normalization::Group { groups: 4 },
                activation: Activation::PRelu,
                dropout: 0.2,
            })),
            [32, 32, 32],
            1,
        ),
        (
            "large V-Net",
            NetworkConfig::VNet(VNetConfig::new(1, 3).with_features(2)),
            [64, 64, 64],
            1,
        ),
        (
            "large plain",
            NetworkConfig::UNet(unet(&[8, 16, 32], 4)),
            [64, 64, 64],
            1,
        ),
        (
            "Çiçek",
            NetworkConfig::CicekUNet(CicekUNetConfig::new(1, 3).with_features(8)),
            [32, 32, 32],
            2,
        ),
    ];
    let mut wrong = Vec::new();
    let both = |case| [(case, false), (case, true)];
    for ((name, config, patch, batch), checkpointing) in cases.iter().flat_map(both) {
        let most = measured(config, *patch, *batch, checkpointing) as f64;
        let estimate = estimate_memory(config, *patch, *batch, checkpointing).unwrap();
        let estimate = estimate.total() as f64;
        let how = if checkpointing { ", checkpointing" } else { "" };
        let line = format!(
            "{name}{how}: {:.1} MB, estimated {:.1} MB ({:+.0} %)",
            most / 1e6,
            estimate / 1e6,
            100.0 * (estimate / most - 1.0)
        );
        println!("{line}");
        if (estimate / most - 1.0).abs() > 0.15 {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The gradients of every parameter, one after the other, where no scale of a normalisation is zero.
fn gradients(config: &NetworkConfig, device: &Device) -> Vec<f32> {
    /// What residual blocks add begins as nothing, and so would the gradients of their convolutions.
    struct FromZero;
    impl ModuleMapper for FromZero {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D > 1 {
                return param;
            }
            param.map(|tensor| {
                let asked = tensor.is_require_grad();
                (tensor.set_require_grad(false) + 0.125).set_require_grad(asked)
            })
        }
    }
    struct Collect<'a>(&'a Gradients, Vec<f32>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.0) {
                self.1.extend(gradient.into_data().iter::<f32>());
            }
        }
    }
    let network = config.init_seeded(device, 3).unwrap().map(&mut FromZero);
    let shape = [2, config.channels().0, 16, 16, 32];
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let images = Tensor::<5>::from_data(TensorData::new(values, shape), device);
    let loss = network
        .forward(images)
        .into_iter()
        .map(|logits| logits.powi_scalar(2).mean());
    let gradients = loss.reduce(|a, b| a + b).unwrap().backward();
    let mut collect = Collect(&gradients, Vec::new());
    network.visit(&mut collect);
    collect.1
}

#[test]
fn checkpointing_changes_no_gradient() {
    let _alone = ALONE.lock().unwrap();
    let unet = |classes| UNetConfig::new(1, classes, stages(&[4, 8, 16]));
    let residual = |classes| unet(classes).with_residual_blocks(Some(vec![1, 2, 2]));
    // Where three gradients meet, behind a residual stage, they are added in another order.
    for (config, tolerance) in [
        (NetworkConfig::UNet(unet(3)), 0.0),
        (NetworkConfig::UNet(unet(5)), 0.0),
        (NetworkConfig::UNet(residual(3)), 1e-6),
        (NetworkConfig::UNet(residual(5)), 1e-6),
        (
            NetworkConfig::VNet(VNetConfig::new(1, 3).with_features(2)),
            0.0,
        ),
        (
            NetworkConfig::VNet(VNetConfig::new(1, 5).with_features(2)),
            0.0,
        ),
        (
            NetworkConfig::CicekUNet(CicekUNetConfig::new(1, 3).with_features(2)),
            0.0,
        ),
        (
            NetworkConfig::CicekUNet(CicekUNetConfig::new(1, 5).with_features(2)),
            0.0,
        ),
    ] {
        let kept = gradients(&config, &Device::flex().autodiff());
        let again = gradients(&config, &Device::flex().autodiff().gradient_checkpointing());
        // The taps of a V-Net's kernels that its coarsest features are too small for have none.
        let some = kept.iter().filter(|&&gradient| gradient != 0.0).count();
        assert!(
            4 * some > kept.len(),
            "{some} of {}: {config:?}",
            kept.len()
        );
        assert_eq!(kept.len(), again.len());
        let largest = kept.iter().fold(0.0, |a, b| f32::max(a, b.abs()));
        let furthest = kept.iter().zip(&again).map(|(a, b)| (a - b).abs());
        let furthest = furthest.fold(0.0, f32::max);
        println!("{furthest:e} of {largest:e}");
        assert!(
            furthest <= tolerance * largest,
            "{furthest:e} of {largest:e}: {config:?}"
        );
    }
}
