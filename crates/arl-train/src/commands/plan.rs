//! `arl plan`.

use std::process::ExitCode;

use arl_data::Dataset;
use arl_data::fingerprint::Fingerprint;
use arl_data::plan::Plan;

use super::CaseProgress;
use crate::cli::PlanArguments;
use crate::{config, device};

/// Prints what the data suggests.
pub fn run(arguments: &PlanArguments) -> anyhow::Result<ExitCode> {
    let dataset = Dataset::open_with(&arguments.dataset, &arguments.reading.options())?;
    let found = device::list_for(arguments.device);
    let cpu = device::choose(arguments.device, &found)?.kind == "cpu";
    let plan = make(&dataset, &fingerprint(&dataset)?, cpu)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
        return Ok(ExitCode::SUCCESS);
    }
    describe(&plan);
    Ok(ExitCode::SUCCESS)
}

/// Reads every case of a dataset, with progress.
pub fn fingerprint(dataset: &Dataset) -> anyhow::Result<Fingerprint> {
    let progress = CaseProgress::new("reading cases");
    Ok(Fingerprint::extract(dataset, &|done, total| {
        progress.show(done, total)
    })?)
}

/// Plans for a kind of device.
pub fn make(dataset: &Dataset, fingerprint: &Fingerprint, cpu: bool) -> anyhow::Result<Plan> {
    Ok(Plan::new(dataset, fingerprint, &config::plan_options(cpu))?)
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
    println!("network          stem stride {:?}", plan.stem_stride);
    for (i, stage) in plan.stages.iter().enumerate() {
        println!(
            "  stage {i}        {} features, kernel {:?}, stride {:?}",
            stage.features, stage.kernel, stage.stride
        );
    }
    println!();
    for reason in &plan.reasons {
        println!("- {reason}");
    }
}
