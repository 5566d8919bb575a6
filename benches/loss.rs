//! Milliseconds of ARL + CE on one CT patch of 23 classes, fused and in plain tensor operations.
//!
//! `cargo bench --profile dev --workspace --bench loss` (add `-- 64` for a patch of 64³). The dev profile optimises
//! what does the arithmetic, and is the one that the rest of the workspace is built with.

use arl::loss::{
    AdaptiveRegionLossConfig, CrossEntropyLossConfig, RegionGrid, plain_region_statistics,
    region_statistics,
};
use burn::prelude::*;
use burn::tensor::Distribution;
use std::time::Instant;

const CLASSES: usize = 23;
const REPEATS: usize = 7;

/// The median time of `REPEATS` runs after one that warms up, in milliseconds.
fn median(mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[REPEATS / 2]
}

fn main() {
    let size = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(96);
    let device = Device::flex();
    let shape = [1, CLASSES, size, size, size];
    let logits = Tensor::<5>::random(shape, Distribution::Normal(0.0, 3.0), &device);
    let labels = Distribution::Uniform(0.0, CLASSES as f64);
    let labels = Tensor::<4>::random([1, size, size, size], labels, &device).int();
    let regions = RegionGrid::size([16; 3])
        .regions([size; 3])
        .expect("a cube of at least one voxel");
    let (arl, ce) = (
        AdaptiveRegionLossConfig::new().init(),
        CrossEntropyLossConfig::new().init(),
    );
    let loss = |logits: Tensor<5>, fused: bool| {
        let statistics = if fused {
            region_statistics
        } else {
            plain_region_statistics
        };
        let statistics =
            statistics(logits, labels.clone(), &regions, None).expect("shapes made to fit");
        arl.from_statistics(&statistics).expect("no weights")
            + ce.from_statistics(&statistics).expect("no weights")
    };
    println!("arl+ce on logits {shape:?}, f32, regions of 16³ voxels, median of {REPEATS}");
    for (name, fused) in [("fused", true), ("plain", false)] {
        let forward = median(|| {
            std::hint::black_box(loss(logits.clone(), fused).into_data());
        });
        let both = median(|| {
            let logits = logits.clone().autodiff().require_grad();
            let gradients = loss(logits.clone(), fused).backward();
            std::hint::black_box(logits.grad(&gradients));
        });
        println!("{name}  forward {forward:8.1} ms   forward + backward {both:8.1} ms");
    }
}
