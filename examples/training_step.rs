//! A few training steps with the adaptive region-specific loss, in a project that brings its own data.
//!
//!     cargo run --example training_step

use arl::loss::{AdaptiveRegionLossConfig, RegionGrid};
use arl::models::{ModelError, SegmentationModel, StageConfig, UNetConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor};

fn main() -> Result<(), ModelError> {
    let device = Device::flex().autodiff();
    let stages = vec![
        StageConfig::new(8, [3; 3], [1; 3]),
        StageConfig::new(16, [3; 3], [2; 3]),
    ];
    let mut network = UNetConfig::new(1, 3, stages).try_init(&device)?;
    let loss = AdaptiveRegionLossConfig::new()
        .with_regions(RegionGrid::count([2, 2, 2]))
        .init();

    // A noise image `[N, C, D, H, W]` whose left half belongs to class 1, as labels `[N, D, H, W]`.
    let images = Tensor::<5>::random([1, 1, 16, 16, 16], Distribution::Default, &device);
    let left = Tensor::<4, Int>::ones([1, 16, 16, 8], &device);
    let right = Tensor::<4, Int>::zeros([1, 16, 16, 8], &device);
    let labels = Tensor::cat(vec![left, right], 3);

    let mut optimizer = AdamWConfig::new().init();
    for step in 0..5 {
        let logits = network.forward(images.clone()).remove(0);
        let value = loss.forward(logits, labels.clone());
        let gradients = GradientsParams::from_grads(value.backward(), &network);
        network = optimizer.step(1e-2, network, gradients);
        println!("step {step}: loss {:.4}", value.into_scalar::<f32>());
    }
    Ok(())
}
