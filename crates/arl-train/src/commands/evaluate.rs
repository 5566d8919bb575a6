//! `arl evaluate`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use arl_data::LabelRemap;
use arl_data::dataset::{check_placement, find_images};
use arl_data::formats::read_labels;
use arl_data::metrics::{CaseMetrics, Summary, overlap, summarise};
use comfy_table::Table;

use super::CaseProgress;
use crate::cli::EvaluateArguments;
use crate::config::write_json;

/// Scores a folder of predictions.
pub fn run(arguments: &EvaluateArguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        arguments.remap_labels != Some(LabelRemap::Auto),
        "--remap-labels auto numbers the values of a dataset; give the pairs that the run's config.json holds"
    );
    let summary = evaluate(arguments)?;
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| arguments.predictions.join("summary.json"));
    write_json(&out, &summary)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print(&summary, &class_names(&arguments.reference));
        println!("scores: {}", out.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn evaluate(arguments: &EvaluateArguments) -> anyhow::Result<Summary> {
    let (predictions, reference) = (&arguments.predictions, &arguments.reference);
    let references = find_images(reference, 1, ".nii.gz")?;
    let predicted: BTreeMap<String, PathBuf> = find_images(predictions, 1, ".nii.gz")?
        .into_iter()
        .map(|mut case| (case.id, case.images.remove(0)))
        .collect();
    let progress = CaseProgress::new("scoring cases");
    let mut volumes = Vec::new();
    for (index, case) in references.iter().enumerate() {
        let prediction = predicted.get(&case.id).with_context(|| {
            format!(
                "{}: has no prediction of case {}; predict it first",
                predictions.display(),
                case.id
            )
        })?;
        let found = read_labels(prediction)?;
        let mut truth = read_labels(&case.images[0])?;
        if let Some(remap) = &arguments.remap_labels {
            remap.apply(&mut truth.data);
        }
        let (place, truth_place) = (&found.geometry, &truth.geometry);
        let ignore = arguments.ignore_geometry;
        check_placement(prediction, place, &case.images[0], truth_place, ignore)?;
        volumes.push((
            prediction.clone(),
            case.images[0].clone(),
            found.data,
            truth.data,
        ));
        progress.show(index + 1, references.len());
    }
    let highest = volumes
        .iter()
        .flat_map(|(_, _, found, truth)| found.iter().chain(truth))
        .max()
        .copied()
        .unwrap_or(0);
    let ignore = dataset_json(reference)
        .and_then(|json| json["labels"].get("ignore")?.as_u64())
        .and_then(|label| u16::try_from(label).ok());
    let classes: Vec<u16> = (1..=highest)
        .filter(|label| Some(*label) != ignore)
        .collect();
    let cases = volumes
        .into_iter()
        .map(|(prediction_file, reference_file, found, truth)| {
            let metrics = overlap(&found, &truth, &classes, ignore)?;
            Ok(CaseMetrics {
                prediction_file,
                reference_file,
                metrics,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(summarise(cases))
}

fn dataset_json(reference: &Path) -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(reference.parent()?.join("dataset.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// Names of the classes, where a dataset.json lies beside the reference folder.
fn class_names(reference: &Path) -> BTreeMap<u16, String> {
    let Some(json) = dataset_json(reference) else {
        return BTreeMap::new();
    };
    let Some(labels) = json["labels"].as_object() else {
        return BTreeMap::new();
    };
    labels
        .iter()
        .filter_map(|(name, value)| Some((u16::try_from(value.as_u64()?).ok()?, name.clone())))
        .collect()
}

fn print(summary: &Summary, names: &BTreeMap<u16, String>) {
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    let mut cases = Table::new();
    cases.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    cases.set_header(["case", "mean Dice"]);
    for case in &summary.metric_per_case {
        let name = case
            .prediction_file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        cases.add_row([name.into_owned(), number(case.mean_dice())]);
    }
    println!("{cases}");
    let mut classes = Table::new();
    classes.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    classes.set_header(["label", "class", "Dice", "IoU"]);
    for (label, mean) in &summary.mean {
        let name = names.get(label).cloned().unwrap_or_default();
        classes.add_row([label.to_string(), name, number(mean.dice), number(mean.iou)]);
    }
    let mean = &summary.foreground_mean;
    classes.add_row([
        "".into(),
        "foreground mean".into(),
        number(mean.dice),
        number(mean.iou),
    ]);
    println!("{classes}");
}
