//! `arl predict`.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use arl_data::dataset::find_images;
use arl_data::formats::write_labels;
use arl_data::preprocess::preprocess_images;

use super::CaseProgress;
use crate::allocator;
use crate::cli::PredictArguments;
use crate::network::Segmenter;
use crate::run::Run;
use crate::{device, sliding_window};

/// Segments one image or a folder of images.
pub fn run(arguments: &PredictArguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        (0.0..1.0).contains(&arguments.overlap),
        "--overlap {} is not in [0, 1)",
        arguments.overlap
    );
    let run = Run::open(&arguments.run)?;
    let (config, plan) = run.load()?;
    let cases = find_images(&arguments.input, plan.channel_names.len(), ".nii.gz")?;
    let target = |id: &str| arguments.out.join(format!("{id}.nii.gz"));
    if let Some(case) = cases
        .iter()
        .find(|case| target(&case.id).exists() && !arguments.force)
    {
        anyhow::bail!(
            "{}: exists; choose another --out, or --force to overwrite",
            target(&case.id).display()
        );
    }
    let (device, _) = device::open(arguments.device)?;
    let segmenter = Segmenter::load(&run, &config, &plan, &device)?;
    if arguments.mirror && plan.mirror_axes.is_empty() {
        tracing::warn!("the plan names no axis that may be mirrored, so --mirror changes nothing");
    }
    let mirror_axes = match arguments.mirror {
        true => &plan.mirror_axes[..],
        false => &[],
    };

    let mut reading = config.reading();
    reading.ignore_geometry |= arguments.ignore_geometry;
    let progress = CaseProgress::new("windows");
    let mut written = Vec::new();
    for case in &cases {
        let started = Instant::now();
        let prepared = preprocess_images(case, &plan, &reading)?;
        let kept = allocator::keep_memory();
        let scores = sliding_window::predict(
            &segmenter.network,
            &prepared.image,
            plan.patch_size,
            arguments.overlap,
            mirror_axes,
            &device,
            &|done, total| progress.show(done, total),
        )
        .with_context(|| format!("case {}", case.id))?;
        drop(kept);
        let labels = match plan.regions.is_empty() {
            true => prepared.grid.restore(&scores),
            false => prepared.grid.restore_regions(&scores, &plan.regions),
        };
        let path = target(&case.id);
        std::fs::create_dir_all(&arguments.out)
            .with_context(|| arguments.out.display().to_string())?;
        write_labels(&path, &labels)?;
        let seconds = started.elapsed().as_secs_f64();
        if !arguments.json {
            println!("{}  {seconds:.1} s", path.display());
        }
        written.push(serde_json::json!({ "case": case.id, "file": path, "seconds": seconds }));
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&written)?);
    }
    Ok(ExitCode::SUCCESS)
}
