//! `arl plan`.

use std::process::ExitCode;

use anyhow::Context;
use arl_data::Dataset;
use arl_data::cache::CacheOptions;
use arl_data::fingerprint::Fingerprint;
use arl_data::plan::{Architecture, Plan};

use super::CaseProgress;
use crate::cli::PlanArguments;
use crate::device;
use crate::memory;

/// Prints what the data suggests.
pub fn run(arguments: &PlanArguments) -> anyhow::Result<ExitCode> {
    let dataset = Dataset::open_with(&arguments.dataset, &arguments.reading.options())?;
    let found = device::list_for(arguments.device);
    let cpu = device::choose(arguments.device, &found)?.kind == "cpu";
    let fingerprint = fingerprint(&dataset, CacheOptions::default().memory)?;
    let planning = &arguments.planning;
    let mut plan = memory::plan(&dataset, &fingerprint, planning, cpu, memory::of_planned)?;
    if arguments.low_resolution {
        plan = plan.at_low_resolution().context(
            "there is no training at a low resolution: a patch sees enough of the median case, or the coarser one would \
             hardly be coarser",
        )?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
        return Ok(ExitCode::SUCCESS);
    }
    describe(&plan);
    Ok(ExitCode::SUCCESS)
}

/// Reads every case of a dataset, with progress.
pub fn fingerprint(dataset: &Dataset, memory: u64) -> anyhow::Result<Fingerprint> {
    let progress = CaseProgress::new("reading cases");
    Ok(Fingerprint::extract_within(
        memory,
        dataset,
        &|done, total| progress.show(done, total),
    )?)
}

fn describe(plan: &Plan) {
    println!(
        "dataset          {} ({} classes)",
        plan.dataset,
        plan.num_classes()
    );
    for region in &plan.regions {
        let (name, values, paint) = (&region.name, &region.values, region.paint);
        println!("region           {name}: labels {values:?}, painted as {paint}");
    }
    println!("target spacing   {:.3?} mm", plan.target_spacing);
    println!("median shape     {:?} voxels", plan.median_shape);
    println!(
        "patch            {:?} voxels, batch of {}",
        plan.patch_size, plan.batch_size
    );
    let (network, blocks) = match plan.architecture {
        Architecture::Plain => ("plain U-Net", "convolutions"),
        Architecture::ResidualEncoder => ("U-Net with residual encoder", "residual blocks"),
    };
    println!(
        "network          {network}, stem stride {:?}, {} convolutions in each stage of the decoder",
        plan.stem_stride, plan.decoder_convolutions
    );
    for (i, stage) in plan.stages.iter().enumerate() {
        println!(
            "  stage {i}        {} features, kernel {:?}, stride {:?}, {} {blocks}",
            stage.features, stage.kernel, stage.stride, stage.blocks
        );
    }
    println!(
        "feature maps     {:.1} million elements for each patch",
        plan.feature_map_elements() as f64 / 1e6
    );
    if let Some(bytes) = memory::of_planned(plan) {
        println!(
            "memory           about {} for a training step",
            memory::gigabytes(bytes)
        );
    }
    if let Some(low) = &plan.low_resolution {
        println!(
            "low resolution   {:.3?} mm, median shape {:?}, patch {:?}, batch of {}",
            low.target_spacing, low.median_shape, low.patch_size, low.batch_size
        );
    }
    println!();
    for reason in &plan.reasons {
        println!("- {reason}");
    }
}
