//! `arl export`.

use std::process::ExitCode;

use anyhow::Context;
use arl_data::files;
use arl_models::Weights;

use crate::cli::ExportArguments;
use crate::device;
use crate::network::Segmenter;
use crate::nnunet;
use crate::run::Run;

/// Writes the weights of a run as safetensors.
pub fn run(arguments: &ExportArguments) -> anyhow::Result<ExitCode> {
    let out = &arguments.out;
    anyhow::ensure!(
        !out.exists() || arguments.force,
        "{}: exists; choose another --out, or --force to overwrite",
        out.display()
    );
    let run = Run::open(&arguments.run)?;
    let (config, plan) = run.load()?;
    let segmenter = Segmenter::load(&run, &config, &plan, &device::for_files()?)?;
    let described = segmenter.network.config();
    let weights = Weights::of(&segmenter.network);
    let weights = match arguments.every_name {
        true => weights.with_every_name(&described),
        false => weights,
    };
    // As nnU-Net had them.
    let order = nnunet::axis_order(&config.transpose_forward.unwrap_or([0, 1, 2]))
        .with_context(|| run.config().display().to_string())?;
    let weights = weights.with_axes(order);
    let notes = [
        ("format".to_owned(), "pt".to_owned()),
        ("arl".to_owned(), config.version.clone()),
        ("network".to_owned(), serde_json::to_string(&described)?),
        ("plan".to_owned(), serde_json::to_string(&plan)?),
        ("transpose_forward".to_owned(), format!("{order:?}")),
    ];
    files::replace(out, ".safetensors", |temporary| {
        weights
            .write(temporary, notes)
            .map_err(std::io::Error::other)
    })?;
    eprintln!("{}: {} tensors", out.display(), weights.names().count());
    Ok(ExitCode::SUCCESS)
}
