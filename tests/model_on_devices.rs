//! The network and the loss give the same logits, loss and gradients on the CPU and on GPUs.

mod common;

use arl::loss::{DeepSupervision, LossConfig, LossKind, RegionGrid, RegionReduction};
use arl::models::{SegmentationModel, StageConfig, UNet, UNetConfig};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

const EDGE: usize = 16;

fn network(device: &Device) -> UNet {
    let stages = vec![
        StageConfig::new(4, [3; 3], [1; 3]),
        StageConfig::new(8, [3; 3], [2; 3]),
        StageConfig::new(8, [3; 3], [2; 3]),
    ];
    UNetConfig::new(1, 3, stages)
        .with_stem_stride([2; 3])
        .try_init(device)
        .unwrap()
}

/// The loss, the finest logits and the gradient of the image.
fn step(network: &UNet, device: &Device, config: &LossConfig) -> (f32, Vec<f32>, Vec<f32>) {
    let voxels = EDGE.pow(3);
    let image: Vec<f32> = (0..voxels).map(|i| (i as f32 * 0.37).sin()).collect();
    let labels: Vec<i32> = (0..voxels).map(|i| (i / 64 % 3) as i32).collect();
    let image = TensorData::new(image, [1, 1, EDGE, EDGE, EDGE]);
    let labels = TensorData::new(labels, [1, EDGE, EDGE, EDGE]);
    let image = Tensor::<5>::from_data(image, device).require_grad();
    let labels = Tensor::<4, Int>::from_data(labels, device);
    let logits = network.forward(image.clone());
    let finest = logits[0].clone();
    let loss = DeepSupervision::new(config).forward(logits, labels);
    let gradients = loss.backward();
    let values = |t: Tensor<5>| t.into_data().iter::<f32>().collect::<Vec<_>>();
    let gradient = image.grad(&gradients).expect("the image has a gradient");
    (loss.into_scalar::<f32>(), values(finest), values(gradient))
}

fn assert_close(a: &[f32], b: &[f32], what: &str) {
    let largest = a.iter().map(|v| v.abs()).fold(0.0, f32::max);
    let difference = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        largest > 0.0 && difference < 1e-3 * largest,
        "{what}: {difference} of {largest}"
    );
}

#[test]
fn gpus_equal_the_cpu() {
    let Some(gpu) = common::gpu() else {
        return;
    };
    let (cpu, gpu) = (Device::flex().autodiff(), gpu.autodiff());
    let network = network(&cpu);
    let gpu_network = network.clone().fork(&gpu);
    let regions = RegionGrid::size([8; 3]);
    let arl = LossConfig::of(LossKind::ArlCe).with_regions(regions);
    let losses = [
        ("dice+ce", LossConfig::of(LossKind::DiceCe)),
        ("arl+ce", arl.clone()),
        (
            "arl+ce, mean",
            arl.with_region_reduction(RegionReduction::Mean),
        ),
    ];
    // Not each loss by itself but behind a network: Burn fuses operations across both, and once lost a divisor so.
    for (name, config) in losses {
        let (loss, logits, gradient) = step(&network, &cpu, &config);
        let (gpu_loss, gpu_logits, gpu_gradient) = step(&gpu_network, &gpu, &config);
        assert!(
            (loss - gpu_loss).abs() < 1e-4,
            "{name}: {loss} against {gpu_loss}"
        );
        assert_close(&logits, &gpu_logits, "logits");
        assert_close(&gradient, &gpu_gradient, &format!("gradient of {name}"));
    }
}
