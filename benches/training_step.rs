//! Seconds of a training step on the CPU, against PyTorch's on the same machine in the same run: forward, ARL + CE on
//! every head, backward, AdamW; and of the forward pass alone, without gradients.
//!
//! `cargo bench --profile dev --workspace --bench training_step`
//!
//! PyTorch is timed by `benches/training_step.py`, which builds the same network (the numbers of parameters are printed
//! to show it), where the Python of the environment variable `PYTHON` (else `python3`) has torch. Both take the published mean
//! over regions.
//! The allocator is that of the command `arl`, which keeps freed memory; with the system's the kernel clears each page of a
//! large tensor anew.

use std::process::Command;
use std::time::Instant;

use arl::loss::{DeepSupervision, LossConfig, LossKind, RegionGrid, RegionReduction};
use arl::models::{SegmentationModel, StageConfig, UNetConfig};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use mimalloc::MiMalloc;

/// The allocator of the command `arl`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

const CLASSES: usize = 23;
const STEPS: usize = 3;

struct Case {
    name: &'static str,
    features: &'static [usize],
    patch: usize,
    batch: usize,
}

const CASES: [Case; 2] = [
    Case {
        name: "4 levels from 16 channels",
        features: &[16, 32, 64, 128],
        patch: 64,
        batch: 2,
    },
    Case {
        name: "nnU-Net, 6 stages",
        features: &[32, 64, 128, 256, 320, 320],
        patch: 64,
        batch: 2,
    },
];

/// What was measured of a network: seconds, the shortest of `STEPS` after one that warms up.
struct Measured {
    parameters: usize,
    forward: f64,
    step: f64,
}

fn ours(case: &Case) -> Measured {
    let device = Device::flex().autodiff();
    let stages = case.features.iter().enumerate();
    let stages = stages
        .map(|(i, &features)| StageConfig::new(features, [3; 3], [if i == 0 { 1 } else { 2 }; 3]))
        .collect();
    let mut network = UNetConfig::new(1, CLASSES, stages)
        .init_seeded(&device, 0)
        .expect("a valid network");
    let parameters = network.num_params();
    let loss = LossConfig::of(LossKind::ArlCe)
        .with_regions(RegionGrid::size([16; 3]))
        .with_region_reduction(RegionReduction::Mean);
    let loss = DeepSupervision::new(&loss);
    let Case { patch, batch, .. } = *case;
    let shape = [batch, 1, patch, patch, patch];
    let images = Tensor::<5>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let labels = Distribution::Uniform(0.0, CLASSES as f64);
    let labels = Tensor::<4>::random([batch, patch, patch, patch], labels, &device).int();
    let mut optimizer = AdamWConfig::new().init();
    let mut shortest = f64::INFINITY;
    for step in 0..=STEPS {
        let start = Instant::now();
        let value = loss.forward(network.forward(images.clone()), labels.clone());
        let gradients = GradientsParams::from_grads(value.backward(), &network);
        network = optimizer.step(1e-3, network, gradients);
        if step > 0 {
            shortest = shortest.min(start.elapsed().as_secs_f64());
        }
    }
    let network = network.valid();
    let images = images.inner();
    let mut forward = f64::INFINITY;
    for step in 0..=STEPS {
        let start = Instant::now();
        let logits = network.forward(images.clone());
        drop(logits);
        if step > 0 {
            forward = forward.min(start.elapsed().as_secs_f64());
        }
    }
    Measured {
        parameters,
        forward,
        step: shortest,
    }
}

/// The same of PyTorch, or why there is no figure.
fn pytorch(case: &Case) -> Result<Measured, String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let features: Vec<String> = case.features.iter().map(usize::to_string).collect();
    let output = Command::new(&python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/training_step.py"
        ))
        .args([
            features.join(","),
            case.patch.to_string(),
            case.batch.to_string(),
            CLASSES.to_string(),
            STEPS.to_string(),
        ])
        .output()
        .map_err(|error| format!("{python}: {error}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| message.lines().last().unwrap_or("no answer").to_string())?;
    let number = |key: &str| answer[key].as_f64().ok_or(format!("no {key} in {answer}"));
    Ok(Measured {
        parameters: number("parameters")? as usize,
        forward: number("forward")?,
        step: number("seconds")?,
    })
}

fn main() {
    // SAFETY: sets an integer option of the allocator that is in use; −1 means never.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    for case in &CASES {
        let Case {
            name, patch, batch, ..
        } = case;
        let ours = ours(case);
        let parameters = ours.parameters;
        println!("{name}, {parameters} parameters, {batch} patches of {patch}³, {CLASSES} classes");
        println!(
            "  ours     step {:7.3} s, forward {:7.3} s",
            ours.step, ours.forward
        );
        match pytorch(case) {
            Ok(theirs) => println!(
                "  PyTorch  step {:7.3} s, forward {:7.3} s, {} parameters: ours is {:.2} and {:.2} times as fast",
                theirs.step,
                theirs.forward,
                theirs.parameters,
                theirs.step / ours.step,
                theirs.forward / ours.forward
            ),
            Err(reason) => println!("  PyTorch  not timed: {reason}"),
        }
    }
}
