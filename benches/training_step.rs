//! Seconds of a training step against PyTorch's, on the same machine in the same run: forward, ARL + CE on every head,
//! backward, AdamW; and of the forward pass alone, without gradients. On GPUs also the memory that each takes.
//!
//! ```text
//! cargo bench --profile dev --workspace --bench training_step
//! cargo bench --profile dev --workspace --bench training_step --features arl/cuda,arl-train/cuda -- --device cuda
//! ```
//!
//! Options behind the `--`: `--device cpu|wgpu|cuda` (`cpu`), `--patch VOXELS` (64, on GPUs 128), `--precision f32|bf16` (both
//! on GPUs that have both), `--network 0|1`, `--without-pytorch`, `--gradient-checkpointing` (for ours); with `--dice` it prints what
//! a short training ends with instead, in each precision.
//!
//! PyTorch is timed by `benches/training_step.py`, which builds the same network (the numbers of parameters are printed
//! to show it), where the Python of the environment variable `PYTHON` (else `python3`) has torch. Both take the published mean
//! over regions. On GPUs PyTorch runs in each of its ways: eager and compiled, channels first and last, f32 (whose
//! convolutions are TF32 by its default) and automatic mixed precision in bf16, with cuDNN's benchmark on.
//!
//! Where the binary runs on another machine than built it, the environment variable `ARL_TRAINING_STEP_PY` names that file.
//!
//! Each is measured in a process of its own, so that no one finds the memory of another. On the CPU the allocator is that of
//! the command `arl`, which keeps freed memory; with the system's the kernel clears each page of a large tensor anew. PyTorch is
//! timed as it comes, and once more where glibc is told to keep freed memory too (`kept-memory`).

#[path = "../tests/common/short_training.rs"]
mod short_training;

use std::process::{Command, Stdio};
use std::time::Instant;

use arl::loss::{DeepSupervision, LossConfig, LossKind, RegionGrid, RegionReduction};
use arl::models::{Precision, StageConfig, UNetConfig, use_matrix_units};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, FloatDType, Tensor};
use mimalloc::MiMalloc;
use serde_json::{Value, json};

/// The allocator of the command `arl`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

const CLASSES: usize = 23;
const BATCH: usize = 2;

/// Instead of times, the Dice that a short training ends with, in each precision.
const DICE: &str = "--dice";
/// The option by which the bench calls itself to measure one case.
const MEASURE: &str = "--measure";
/// The way of PyTorch in which glibc keeps freed memory, and what tells it to.
const KEPT_MEMORY: &str = "eager,kept-memory";
const KEEP_MEMORY: [(&str, &str); 3] = [
    ("MALLOC_MMAP_MAX_", "0"),
    ("MALLOC_TRIM_THRESHOLD_", "1000000000000"),
    ("MALLOC_TOP_PAD_", "1000000000"),
];
/// Whether ours computes its stages again in the backward pass.
const CHECKPOINTING: &str = "--gradient-checkpointing";

struct Network {
    name: &'static str,
    features: &'static [usize],
}

const NETWORKS: [Network; 2] = [
    Network {
        name: "4 levels from 16 channels",
        features: &[16, 32, 64, 128],
    },
    Network {
        name: "nnU-Net, 6 stages",
        features: &[32, 64, 128, 256, 320, 320],
    },
];

/// How long each measurement goes on.
struct Effort {
    /// Steps that are not timed: memory is taken, and on GPUs kernels are compiled and chosen.
    warm_up: usize,
    /// The shortest of so many counts.
    rounds: usize,
    /// Steps that are timed together; a GPU works on them without waiting for us.
    steps: usize,
}

impl Effort {
    fn on(device: &str) -> Self {
        match device {
            "cpu" => Self {
                warm_up: 1,
                rounds: 3,
                steps: 1,
            },
            _ => Self {
                warm_up: 3,
                rounds: 3,
                steps: 5,
            },
        }
    }
}

fn open(device: &str) -> Device {
    match device {
        "cpu" => Device::flex(),
        "wgpu" => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(0),
        other => panic!("no device {other} in this build: cpu, wgpu, or cuda with its feature"),
    }
}

/// The seconds of each of `effort.steps` calls, in the fastest round.
fn seconds(effort: &Effort, device: &Device, what: &str, mut step: impl FnMut()) -> f64 {
    let wait = || device.sync().expect("the device works");
    for i in 0..effort.warm_up {
        let start = Instant::now();
        step();
        wait();
        eprintln!(
            "    {what}, warming up {i}: {:.3} s",
            start.elapsed().as_secs_f64()
        );
    }
    let mut shortest = f64::INFINITY;
    for _ in 0..effort.rounds {
        let start = Instant::now();
        (0..effort.steps).for_each(|_| step());
        wait();
        shortest = shortest.min(start.elapsed().as_secs_f64() / effort.steps as f64);
    }
    shortest
}

/// Measures ours in this process, for the process that called it.
fn measure(
    device_name: &str,
    network: &Network,
    patch: usize,
    precision: Precision,
    checkpointing: bool,
) -> Value {
    let effort = Effort::on(device_name);
    let plain = open(device_name);
    eprintln!("    {:?}", use_matrix_units(&plain));
    let device = match checkpointing {
        true => plain.clone().autodiff().gradient_checkpointing(),
        false => plain.clone().autodiff(),
    };
    let stages = network.features.iter().enumerate();
    let stages = stages
        .map(|(i, &features)| StageConfig::new(features, [3; 3], [if i == 0 { 1 } else { 2 }; 3]))
        .collect();
    let network = UNetConfig::new(1, CLASSES, stages)
        .init_seeded(&device, 0)
        .expect("a valid network");
    let parameters = network.num_params();
    let loss = LossConfig::of(LossKind::ArlCe)
        .with_regions(RegionGrid::size([16; 3]))
        .with_region_reduction(RegionReduction::Mean);
    let loss = DeepSupervision::new(&loss);
    let shape = [BATCH, 1, patch, patch, patch];
    let images = Tensor::<5>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let labels = Distribution::Uniform(0.0, CLASSES as f64);
    let labels = Tensor::<4>::random([BATCH, patch, patch, patch], labels, &device).int();
    let mut optimizer = AdamWConfig::new().init();
    let mut trained = Some(network);
    let step = seconds(&effort, &plain, "step", || {
        let network = trained.take().expect("it is put back");
        let logits = precision.forward(&network, images.clone());
        let value = loss.forward(logits, labels.clone());
        let gradients = GradientsParams::from_grads(value.backward(), &network);
        trained = Some(optimizer.step(1e-3, network, gradients));
    });
    let training_bytes = plain.memory_pool_usage().map(|usage| usage.bytes_reserved);
    let network = trained.expect("it is put back").valid();
    let images = images.inner();
    let forward = seconds(&effort, &plain, "forward", || {
        drop(precision.forward(&network, images.clone()));
    });
    json!({"parameters": parameters, "seconds": step, "forward": forward, "bytes": training_bytes})
}

/// What a process printed as its last line, or why there is none.
fn answer(command: &mut Command) -> Result<Value, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    // Its progress and its complaints are for whoever reads along.
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| format!("{name} ended without an answer"))
}

/// One line of the table; `ours` is what to compare with.
fn report(name: &str, measured: Result<Value, String>, ours: Option<&Value>) -> Option<Value> {
    let measured = match measured {
        Ok(measured) => measured,
        Err(reason) => {
            println!("  {name:34} not timed: {reason}");
            return None;
        }
    };
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap_or(f64::NAN);
    let (step, forward) = (number(&measured, "seconds"), number(&measured, "forward"));
    let memory = match measured["bytes"].as_f64() {
        Some(bytes) => format!(", {:6.2} GB", bytes / 1e9),
        None => String::new(),
    };
    let ratio = match ours {
        Some(ours) => format!(
            ": ours is {:.2} and {:.2} times as fast",
            step / number(ours, "seconds"),
            forward / number(ours, "forward")
        ),
        None => String::new(),
    };
    let parameters = &measured["parameters"];
    println!(
        "  {name:34} step {step:8.4} s, forward {forward:8.4} s{memory}, {parameters} parameters{ratio}"
    );
    Some(measured)
}

/// The words behind an option.
fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}

fn main() {
    // SAFETY: sets an integer option of the allocator that is in use; −1 means never.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    let arguments: Vec<String> = std::env::args().collect();
    let device = option(&arguments, "--device").unwrap_or("cpu");
    let patch = match option(&arguments, "--patch") {
        Some(text) => text.parse().expect("--patch takes a number of voxels"),
        None if device == "cpu" => 64,
        None => 128,
    };
    let precisions = match option(&arguments, "--precision") {
        Some(text) => vec![text.parse().expect("--precision takes f32 or bf16")],
        None if device != "cpu" && open(device).supports_dtype(FloatDType::BF16) => {
            vec![Precision::F32, Precision::Bf16]
        }
        None => vec![Precision::F32],
    };
    let asked_for = |name: &str| arguments.iter().any(|argument| argument == name);
    let checkpointing = asked_for(CHECKPOINTING);
    let only = option(&arguments, "--network").map(|text| {
        let index: usize = text.parse().expect("--network takes 0 or 1");
        assert!(index < NETWORKS.len(), "--network takes 0 or 1");
        index
    });
    if asked_for(MEASURE) {
        let network = &NETWORKS[only.expect("a network to measure")];
        let measured = measure(device, network, patch, precisions[0], checkpointing);
        println!("{measured}");
        return;
    }
    if asked_for(DICE) {
        for precision in precisions {
            let opened = open(device);
            use_matrix_units(&opened);
            let dice = short_training::train(&opened, precision);
            println!("Dice after a short training on {device} in {precision}: {dice:.3}");
        }
        return;
    }
    let ourselves = std::env::current_exe().expect("a program has a file");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/training_step.py");
    let peer = std::env::var("ARL_TRAINING_STEP_PY").unwrap_or_else(|_| peer.into());
    for (index, network) in NETWORKS.iter().enumerate() {
        if only.is_some_and(|only| only != index) {
            continue;
        }
        println!(
            "{}, {BATCH} patches of {patch}³, {CLASSES} classes, {device}",
            network.name
        );
        for &precision in &precisions {
            let mut ours = Command::new(&ourselves);
            ours.args([
                MEASURE,
                "--device",
                device,
                "--network",
                &index.to_string(),
                "--patch",
                &patch.to_string(),
                "--precision",
                &precision.to_string(),
            ]);
            let mut name = format!("ours, {precision}");
            if checkpointing {
                ours.arg(CHECKPOINTING);
                name += ", checkpointing";
            }
            let ours = report(&name, answer(&mut ours), None);
            if asked_for("--without-pytorch") {
                continue;
            }
            let ways: &[&str] = match (device, precision) {
                ("cpu", _) => &["eager", KEPT_MEMORY],
                (_, Precision::F32) => &[
                    "eager",
                    "channels-last",
                    "compiled",
                    "compiled,channels-last",
                ],
                (_, Precision::Bf16) => &[
                    "amp",
                    "amp,channels-last",
                    "amp,compiled",
                    "amp,compiled,channels-last",
                ],
            };
            for way in ways {
                let features: Vec<String> = network.features.iter().map(usize::to_string).collect();
                let effort = Effort::on(device);
                let mut theirs = Command::new(&python);
                if *way == KEPT_MEMORY {
                    theirs.envs(KEEP_MEMORY);
                }
                let theirs = answer(theirs.arg(&peer).args([
                    features.join(","),
                    patch.to_string(),
                    BATCH.to_string(),
                    CLASSES.to_string(),
                    format!("{},{},{}", effort.warm_up, effort.rounds, effort.steps),
                    if device == "cpu" { "cpu" } else { "cuda" }.to_string(),
                    way.to_string(),
                ]));
                report(&format!("PyTorch, {way}"), theirs, ours.as_ref());
            }
        }
    }
}
