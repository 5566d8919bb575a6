//! Bytes that a training step on the CPU takes at its peak, with and without gradient checkpointing.
//!
//! `cargo bench --profile dev --workspace --bench memory`
//!
//! Every network is measured in a process of its own: bytes in use as the allocator counts them, and the process's largest
//! resident set as the kernel counts it (Linux), which has the program itself and what the allocator keeps in it too.

#[path = "../tests/common/training_memory.rs"]
mod training_memory;

use std::process::Command;

use arl::models::{
    CicekUNetConfig, NetworkConfig, StageConfig, UNetConfig, VNetConfig, estimate_memory,
};
use training_memory::{LiveBytes, measured};

#[global_allocator]
static ALLOCATOR: LiveBytes = LiveBytes;

struct Case {
    name: &'static str,
    network: NetworkConfig,
    patch: [usize; 3],
    batch: usize,
}

fn stages(features: &[usize]) -> Vec<StageConfig> {
    let stage =
        |(i, &features)| StageConfig::new(features, [3; 3], [if i == 0 { 1 } else { 2 }; 3]);
    features.iter().enumerate().map(stage).collect()
}

fn cases() -> Vec<Case> {
    let six = [32, 64, 128, 256, 320, 320];
    let case = |name, network, edge, batch| Case {
        name,
        network,
        patch: [edge; 3],
        batch,
    };
    let unet = |features: &[usize]| UNetConfig::new(1, 23, stages(features));
    let residual = unet(&six)
        .with_residual_blocks(Some(vec![1, 3, 4, 6, 6, 6]))
        .with_convolutions_per_decoder_stage(1);
    let small_residual = unet(&[16, 32, 64])
        .with_residual_blocks(Some(vec![1, 2, 2]))
        .with_convolutions_per_decoder_stage(1);
    vec![
        case(
            "4 levels from 16",
            NetworkConfig::UNet(unet(&[16, 32, 64, 128])),
            32,
            2,
        ),
        case(
            "3 residual stages from 16",
            NetworkConfig::UNet(small_residual),
            32,
            2,
        ),
        case(
            "V-Net, 4 features",
            NetworkConfig::VNet(VNetConfig::new(1, 5).with_features(4)),
            32,
            2,
        ),
        case(
            "Çiçek, 8 features",
            NetworkConfig::CicekUNet(CicekUNetConfig::new(1, 5).with_features(8)),
            32,
            2,
        ),
        case(
            "4 levels from 16",
            NetworkConfig::UNet(unet(&[16, 32, 64, 128])),
            64,
            2,
        ),
        case("nnU-Net, 6 stages", NetworkConfig::UNet(unet(&six)), 64, 2),
        case("nnU-Net, residual M", NetworkConfig::UNet(residual), 64, 2),
        case("V-Net", NetworkConfig::VNet(VNetConfig::new(1, 23)), 64, 1),
        case(
            "Çiçek",
            NetworkConfig::CicekUNet(CicekUNetConfig::new(1, 23)),
            64,
            1,
        ),
    ]
}

/// The largest resident set of this process.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn main() {
    let cases = cases();
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    if let (Some(index), Some(checkpointing)) = (arguments.next(), arguments.next()) {
        let case = &cases[index.parse::<usize>().expect("the number of a case")];
        let checkpointing = checkpointing == "true";
        let peak = measured(&case.network, case.patch, case.batch, checkpointing);
        println!("{peak} {}", resident().unwrap_or(0));
        return;
    }
    let program = std::env::current_exe().expect("the path of this program");
    println!(
        "| network | patch | batch | checkpointing | measured MB | estimated MB | off by | resident MB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (index, case) in cases.iter().enumerate() {
        for checkpointing in [false, true] {
            let output = Command::new(&program)
                .args([index.to_string(), checkpointing.to_string()])
                .output()
                .expect("this program starts again");
            let text = String::from_utf8_lossy(&output.stdout);
            let numbers: Vec<f64> = text
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            let [peak, resident] = numbers[..] else {
                println!(
                    "| {} | not measured: {} |",
                    case.name,
                    String::from_utf8_lossy(&output.stderr)
                        .lines()
                        .last()
                        .unwrap_or("no answer")
                );
                continue;
            };
            let estimate = estimate_memory(&case.network, case.patch, case.batch, checkpointing)
                .expect("the patch fits the network")
                .total() as f64;
            println!(
                "| {} | {:?} | {} | {} | {:.0} | {:.0} | {:+.1} % | {:.0} |",
                case.name,
                case.patch,
                case.batch,
                if checkpointing { "yes" } else { "no" },
                peak / 1e6,
                estimate / 1e6,
                (estimate / peak - 1.0) * 100.0,
                resident / 1e6
            );
        }
    }
}
