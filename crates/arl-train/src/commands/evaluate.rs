//! `arl evaluate`.

mod structures;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use arl_data::dataset::{check_placement, find_images};
use arl_data::formats::read_labels;
use arl_data::metrics::{CaseScores, Metric, Scores, Structure, Summary, score, summarise};
use arl_data::{LabelRemap, Volume};

use super::CaseProgress;
use crate::cli::EvaluateArguments;
use crate::config::{read_json, write_json};
use structures::Structures;
pub use structures::Tolerances;

/// Scores a folder of predictions.
pub fn run(arguments: &EvaluateArguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        arguments.remap_labels != Some(LabelRemap::Auto),
        "--remap-labels auto numbers the values of a dataset; give the pairs that the run's config.json holds"
    );
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| arguments.predictions.join("summary.json"));
    anyhow::ensure!(
        arguments.force || !out.exists() || is_summary(&out),
        "{}: exists and was not written by arl evaluate; choose another --out, or --force to overwrite",
        out.display()
    );
    let mut structures = Structures::declared(
        &arguments.reference,
        arguments.remap_labels.as_ref(),
        arguments.tolerance.clone(),
    )?;
    let summary = evaluate(arguments, &mut structures)?;
    write_json(&out, &summary)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        table::print(&summary, &structures, &arguments.metrics);
        println!("scores: {}", out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a file holds scores of ours; nnU-Net's files of this name have no tolerance.
fn is_summary(file: &Path) -> bool {
    let json = read_json::<serde_json::Value>(file);
    json.is_ok_and(|json| json.get("tolerance_mm").is_some())
}

/// A prediction and its reference.
struct Pair {
    prediction: PathBuf,
    reference: PathBuf,
}

fn evaluate(arguments: &EvaluateArguments, structures: &mut Structures) -> anyhow::Result<Summary> {
    let pairs = pairs(arguments)?;
    let progress = CaseProgress::new("scoring cases");
    let mut cases = Vec::new();
    // The next case is read while this one is scored, so that two cases at a time are in memory.
    let mut next = pairs.first().map(|pair| read(pair, arguments));
    for index in 0..pairs.len() {
        let Some(volumes) = next.take() else { break };
        let (prediction, reference) = volumes?;
        structures.add_labels_of(&prediction.data);
        structures.add_labels_of(&reference.data);
        let (case, following) = rayon::join(
            || score_case(&prediction, &reference, structures, &arguments.metrics),
            || pairs.get(index + 1).map(|pair| read(pair, arguments)),
        );
        cases.push(case?);
        next = following;
        progress.show(index + 1, pairs.len());
    }
    drop(progress);
    let scored = pairs.into_iter().zip(cases).map(|(pair, case)| CaseScores {
        prediction_file: pair.prediction,
        reference_file: pair.reference,
        metrics: {
            let mut scores = case.complete(structures, &arguments.metrics);
            if arguments.count_absent {
                let counted = |(structure, scores): (Structure, Scores)| {
                    (structure, scores.with_absence_as_agreement())
                };
                scores = scores.into_iter().map(counted).collect();
            }
            scores
        },
    });
    Ok(summarise(scored.collect()))
}

/// The predictions and references of the same name; each reference must have a prediction.
fn pairs(arguments: &EvaluateArguments) -> anyhow::Result<Vec<Pair>> {
    let mut predicted: BTreeMap<String, PathBuf> =
        find_images(&arguments.predictions, 1, ".nii.gz")?
            .into_iter()
            .map(|mut case| (case.id, case.images.remove(0)))
            .collect();
    find_images(&arguments.reference, 1, ".nii.gz")?
        .into_iter()
        .map(|mut case| {
            let prediction = predicted.remove(&case.id).with_context(|| {
                format!(
                    "{}: has no prediction of case {}; predict it first",
                    arguments.predictions.display(),
                    case.id
                )
            })?;
            Ok(Pair {
                prediction,
                reference: case.images.remove(0),
            })
        })
        .collect()
}

fn read(pair: &Pair, arguments: &EvaluateArguments) -> anyhow::Result<(Volume<u16>, Volume<u16>)> {
    let (prediction, reference) = rayon::join(
        || read_labels(&pair.prediction),
        || read_labels(&pair.reference),
    );
    let (prediction, mut reference) = (prediction?, reference?);
    if let Some(remap) = &arguments.remap_labels {
        remap.apply(&mut reference.data);
    }
    let warning = check_placement(
        &pair.prediction,
        &prediction.geometry,
        &pair.reference,
        &reference.geometry,
        arguments.ignore_geometry,
    )?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok((prediction, reference))
}

/// What was scored of one case, and how many voxels it has.
struct Scored {
    scores: Vec<(Structure, Scores)>,
    voxels: u64,
}

fn score_case(
    prediction: &Volume<u16>,
    reference: &Volume<u16>,
    structures: &Structures,
    metrics: &[Metric],
) -> anyhow::Result<Scored> {
    let scores = score(
        &prediction.data,
        &reference.data,
        reference.geometry.spacing(),
        &structures.all,
        metrics,
        structures.ignore,
    )?;
    let ignored = |label: &&u16| Some(**label) == structures.ignore;
    let ignored = reference.data.iter().filter(ignored).count();
    Ok(Scored {
        scores: structures.all.iter().cloned().zip(scores).collect(),
        voxels: (reference.data.len() - ignored) as u64,
    })
}

impl Scored {
    /// Scores of all structures; those that only later cases have are absent from this one.
    fn complete(mut self, structures: &Structures, metrics: &[Metric]) -> Vec<(Structure, Scores)> {
        structures
            .all
            .iter()
            .map(|structure| {
                let known = self.scores.iter().position(|(other, _)| other == structure);
                match known {
                    Some(position) => self.scores.swap_remove(position),
                    None => (structure.clone(), Scores::absent(self.voxels, metrics)),
                }
            })
            .collect()
    }
}
