//! `arl demo`.

use std::path::Path;
use std::process::ExitCode;

use arl_data::dataset::find_images;
use arl_data::formats::{read_image, read_labels};
use arl_data::phantom::{CohortConfig, write_cohort};
use clap::Parser;

use super::{CaseProgress, evaluate, predict, train};
use crate::cli::{Cli, Command, DemoArguments};
use crate::overlay;
use crate::run::claim;

/// Steps of the smallest demo.
const QUICK_STEPS: &str = "4";

/// Makes a cohort, trains, predicts and evaluates, with the same verbs that a user has.
pub fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    claim(&arguments.out, arguments.force, "")?;
    let (dataset, run) = (arguments.out.join("dataset"), arguments.out.join("run"));
    let predictions = arguments.out.join("predictions");
    let config = CohortConfig {
        seed: arguments.seed,
        ..CohortConfig::default()
    };
    let config = if arguments.quick {
        CohortConfig {
            training: 2,
            test: 1,
            ..config
        }
    } else {
        config
    };
    let progress = CaseProgress::new("drawing the cohort");
    write_cohort(&dataset, &config, &|done, total| progress.show(done, total))?;
    drop(progress);

    let seed = arguments.seed.to_string();
    let minutes = arguments.minutes.to_string();
    let device = arguments.device.to_string();
    let length: &[&str] = if arguments.quick {
        &["--epochs", "1", "--steps-per-epoch", QUICK_STEPS]
    } else {
        &["--minutes", &minutes]
    };
    let images = dataset.join("imagesTs");
    let labels = dataset.join("labelsTs");
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut words = vec!["train".into(), text(&dataset), "--out".into(), text(&run)];
    words.extend(["--seed", &seed, "--device", &device].map(String::from));
    words.extend(length.iter().map(|word| word.to_string()));
    call(words)?;
    call([
        "predict",
        &text(&run),
        &text(&images),
        "--out",
        &text(&predictions),
        "--device",
        &device,
    ])?;
    call(["evaluate", &text(&predictions), &text(&labels)])?;
    let picture = arguments.out.join("overlay.png");
    let case = find_images(&labels, 1, ".nii.gz")?.swap_remove(0);
    let reference = read_labels(&case.images[0])?;
    let prediction = read_labels(&predictions.join(format!("{}.nii.gz", case.id)))?;
    let image = read_image(&images.join(format!("{}_0000.nii.gz", case.id)))?;
    overlay::write(&picture, &image, &[&reference, &prediction])?;
    println!();
    println!("dataset      {}", dataset.display());
    println!(
        "run          {} (config, plan, log.jsonl, checkpoints)",
        run.display()
    );
    println!("predictions  {}", predictions.display());
    println!(
        "picture      {} (image, reference, prediction)",
        picture.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Runs a verb as if its words had been typed.
fn call<S: Into<String>>(words: impl IntoIterator<Item = S>) -> anyhow::Result<()> {
    let words: Vec<String> = words.into_iter().map(Into::into).collect();
    println!("\n$ arl {}", words.join(" "));
    let cli = Cli::try_parse_from(std::iter::once("arl".to_string()).chain(words))?;
    match &cli.command {
        Command::Train(arguments) => train::run(arguments)?,
        Command::Predict(arguments) => predict::run(arguments)?,
        Command::Evaluate(arguments) => evaluate::run(arguments)?,
        _ => anyhow::bail!("the demo only trains, predicts and evaluates"),
    };
    Ok(())
}
