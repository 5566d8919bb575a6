//! Whether a training fits into the memory of this machine.

use std::cell::Cell;
use std::fs;

use arl_data::Dataset;
use arl_data::fingerprint::Fingerprint;
use arl_data::plan::Plan;
use arl_models::{MemoryEstimate, NetworkConfig, Precision, estimate_memory};

use crate::config::TrainConfig;
use crate::network::{network_config, planned_unet};
use crate::planning::Planning;

/// A new plan. On a CPU its patches are few and small enough for a step of what is trained, of which `takes` says the bytes, to fit into the
/// machine's memory; for a GPU the budget of `planning` bounds it.
///
/// # Errors
/// As [`Plan::new`].
pub fn plan(
    dataset: &Dataset,
    fingerprint: &Fingerprint,
    planning: &Planning,
    cpu: bool,
    takes: impl Fn(&Plan) -> Option<u64>,
) -> anyhow::Result<Plan> {
    let memory = Memory::of_this_machine().filter(|_| cpu);
    let fits = |plan: &Plan| match (&memory, takes(plan)) {
        (Some(memory), Some(bytes)) => bytes <= memory.total,
        _ => true,
    };
    let first = Cell::new(None);
    let plan = Plan::fitting(dataset, fingerprint, &planning.options(cpu), |plan| {
        let step = (plan.batch_size, plan.patch_size);
        first.set(first.get().or(Some(step)));
        fits(plan)
    })?;
    let step = (plan.batch_size, plan.patch_size);
    if let Some((batch, patch)) = first.get().filter(|wanted| *wanted != step) {
        tracing::warn!(
            "a step has {} patches of {:?} voxels instead of {batch} of {patch:?}, for which this machine has too little memory",
            step.0,
            step.1
        );
    }
    Ok(plan)
}

/// Bytes that a training step takes; `None` if the network can't be built.
pub fn of_training(plan: &Plan, config: &TrainConfig) -> Option<u64> {
    estimate(plan, config, config.gradient_checkpointing)
        .ok()
        .map(|estimate| estimate.total())
}

fn estimate(
    plan: &Plan,
    config: &TrainConfig,
    checkpointing: bool,
) -> anyhow::Result<MemoryEstimate> {
    let network = network_config(plan, config)?;
    let estimate = estimate_memory(&network, plan.patch_size, plan.batch_size, checkpointing)?;
    Ok(estimate.in_precision(config.precision))
}

/// Says what a training step takes. On a CPU it warns when that is more than is free, and refuses what can't fit; on a GPU it
/// warns when that is more than the plan was made for.
///
/// # Errors
/// When the machine has less memory in all, swap included, than a step takes.
pub fn check(plan: &Plan, config: &TrainConfig, room: Room) -> anyhow::Result<()> {
    let estimate = estimate(plan, config, config.gradient_checkpointing)?;
    let bytes = estimate.total();
    if config.gradient_checkpointing && self::estimate(plan, config, false)?.total() <= bytes {
        tracing::warn!("--gradient-checkpointing saves no memory with this network");
    }
    tracing::info!(
        "a training step takes about {} (weights {}, optimiser {}, feature maps {})",
        gigabytes(bytes),
        gigabytes(estimate.weights),
        gigabytes(estimate.optimizer),
        gigabytes(estimate.activations)
    );
    let cure = cure(config, room);
    let memory = match room {
        Room::Machine => Memory::of_this_machine(),
        Room::Gpu { budget } => {
            if let Some(budget) = budget.filter(|&budget| bytes > budget) {
                tracing::warn!(
                    "a training step takes about {}, and the plan is made for a GPU of {}; {cure}",
                    gigabytes(bytes),
                    gigabytes(budget)
                );
            }
            None
        }
    };
    let Some(memory) = memory else {
        return Ok(());
    };
    anyhow::ensure!(
        bytes <= memory.total,
        "a training step takes about {}, and this machine has {}; {cure}",
        gigabytes(bytes),
        gigabytes(memory.total)
    );
    if bytes > memory.free {
        tracing::warn!(
            "a training step takes about {}, and {} are free; {cure}",
            gigabytes(bytes),
            gigabytes(memory.free)
        );
    }
    Ok(())
}

/// Bytes that a training step of the plan's own network takes; `None` if it can't be built.
pub fn of_planned(plan: &Plan) -> Option<u64> {
    let network = NetworkConfig::UNet(planned_unet(plan).ok()?);
    let estimate = estimate_memory(&network, plan.patch_size, plan.batch_size, false);
    Some(estimate.ok()?.total())
}

/// Bytes as a person reads them.
pub fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// What takes less memory, in words.
fn cure(config: &TrainConfig, room: Room) -> String {
    let mut ways = vec!["a smaller --patch or --batch"];
    if !config.gradient_checkpointing {
        ways.push("--gradient-checkpointing");
    }
    if matches!(room, Room::Gpu { .. }) && config.precision == Precision::F32 {
        ways.push("--precision bf16");
    }
    format!("{} takes less", ways.join(", or "))
}

/// Where a training takes its memory.
#[derive(Clone, Copy, Debug)]
pub enum Room {
    /// That of the machine.
    Machine,
    /// That of a GPU, for so many bytes of which the plan was made, if that is known.
    Gpu { budget: Option<u64> },
}

/// Main memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Memory {
    /// With swap.
    total: u64,
    /// Without swap.
    free: u64,
}

impl Memory {
    /// What this process may use; `None` where the system does not say it in `/proc/meminfo`.
    fn of_this_machine() -> Option<Self> {
        let machine = Self::of_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        // A container's share, where there is one: the file holds the word `max` otherwise.
        Some(match (number("memory.max"), number("memory.current")) {
            (Some(most), Some(used)) => Self {
                total: machine.total.min(most),
                free: machine.free.min(most.saturating_sub(used)),
            },
            _ => machine,
        })
    }

    fn of_meminfo(text: &str) -> Option<Self> {
        let kibibytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':')
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        };
        Some(Self {
            total: 1024 * (kibibytes("MemTotal")? + kibibytes("SwapTotal").unwrap_or(0)),
            free: 1024 * kibibytes("MemAvailable")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       24644108 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\nSwapTotal:  100 kB\n";
        let expected = Memory {
            total: 1024 * (24_644_108 + 100),
            free: 1024 * 20_000_000,
        };
        assert_eq!(Memory::of_meminfo(text), Some(expected));
        assert_eq!(Memory::of_meminfo("MemTotal: many kB"), None);
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(gigabytes(123_456_789), "123 MB");
        assert_eq!(gigabytes(12_345_678_901), "12.3 GB");
    }
}
