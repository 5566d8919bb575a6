//! nnU-Net v2 raw: `dataset.json` beside `imagesTr`, `labelsTr` and perhaps `imagesTs`, `labelsTs`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::listing::{Naming, attach_labels, group_by_case, volumes};
use super::{Case, Dataset, LabelClass, Layout};
use crate::error::{DataError, Result};
use crate::formats;

pub(super) const DESCRIPTION: &str = "dataset.json";

/// The keys of `dataset.json` that mean something here; nnU-Net and people add others.
#[derive(Deserialize)]
struct Description {
    name: Option<String>,
    #[serde(alias = "modality")]
    channel_names: Option<Map<String, Value>>,
    labels: Option<Map<String, Value>>,
    #[serde(rename = "numTraining")]
    num_training: Option<u64>,
    file_ending: Option<String>,
    /// Files listed one by one instead of found in folders.
    dataset: Option<Map<String, Value>>,
    /// Present in descriptions of the Medical Segmentation Decathlon.
    training: Option<Value>,
}

pub(super) fn survey(root: &Path) -> Result<(Dataset, Vec<DataError>)> {
    let path = root.join(DESCRIPTION);
    let wrong = |message: String, cure: &str| DataError::invalid(&path, message, cure);
    let text = fs::read_to_string(&path).map_err(|e| DataError::io(&path, e))?;
    let description: Description = serde_json::from_str(&text).map_err(|e| {
        wrong(
            format!("is not a dataset description: {e}"),
            "repair the JSON",
        )
    })?;
    if description.training.is_some() && description.file_ending.is_none() {
        return Err(wrong(
            "describes a Medical Segmentation Decathlon dataset, which is not read yet".to_owned(),
            "convert it to nnU-Net's layout (channel_names, labels by name, file_ending)",
        ));
    }
    let key = |name: &str, example: &str| {
        wrong(format!("has no \"{name}\""), &format!("add e.g. {example}"))
    };
    let channel_names = description
        .channel_names
        .as_ref()
        .ok_or_else(|| key("channel_names", r#""channel_names": {"0": "CT"}"#))
        .and_then(|map| channel_names(&path, map))?;
    let labels = description
        .labels
        .as_ref()
        .ok_or_else(|| key("labels", r#""labels": {"background": 0, "liver": 1}"#))?;
    let (classes, ignore_label) = classes(&path, labels)?;
    let file_ending = description
        .file_ending
        .ok_or_else(|| key("file_ending", r#""file_ending": ".nii.gz""#))?;
    if !formats::ENDINGS.contains(&file_ending.as_str()) {
        return Err(wrong(
            format!("declares file_ending {file_ending:?}, which is not read"),
            "convert the volumes to .nii.gz",
        ));
    }

    let mut faults = Vec::new();
    let training = match &description.dataset {
        Some(listed) => listed_cases(root, &path, listed, channel_names.len(), &mut faults)?,
        None => {
            let (images, labels) = (root.join("imagesTr"), root.join("labelsTr"));
            for folder in [&images, &labels] {
                if !folder.is_dir() {
                    return Err(DataError::invalid(
                        folder,
                        "there is no such folder",
                        "put the training images into imagesTr and their label maps into labelsTr",
                    ));
                }
            }
            let (mut cases, more) = cases_in(&images, channel_names.len(), &file_ending)?;
            faults.extend(more);
            faults.extend(attach_labels(&mut cases, &labels, &file_ending)?);
            cases
        }
    };
    if training.is_empty() && faults.is_empty() {
        faults.push(wrong(
            "describes a dataset without a training case".to_owned(),
            "add images to imagesTr and label maps to labelsTr",
        ));
    }
    // Counted only where all cases are whole: the files that are missing have been named.
    if let Some(declared) = description.num_training
        && faults.is_empty()
        && declared != training.len() as u64
    {
        faults.push(wrong(
            format!(
                "declares numTraining {declared}, but there are {} training cases",
                training.len()
            ),
            "correct the number or restore the missing cases",
        ));
    }

    let images = root.join("imagesTs");
    let mut test = Vec::new();
    if images.is_dir() {
        let (mut cases, more) = cases_in(&images, channel_names.len(), &file_ending)?;
        faults.extend(more);
        let labels = root.join("labelsTs");
        if labels.is_dir() {
            faults.extend(attach_labels(&mut cases, &labels, &file_ending)?);
        }
        test = cases;
    }

    let name = description
        .name
        .unwrap_or_else(|| super::directory_name(root));
    let dataset = Dataset {
        root: root.to_owned(),
        name,
        layout: Layout::NnUnetRaw,
        channel_names,
        classes,
        ignore_label,
        file_ending,
        training,
        test,
    };
    Ok((dataset, faults))
}

fn cases_in(
    folder: &Path,
    channels: usize,
    file_ending: &str,
) -> Result<(Vec<Case>, Vec<DataError>)> {
    let files = volumes(folder)?;
    Ok(group_by_case(
        folder,
        files,
        channels,
        file_ending,
        Naming::Numbered,
    ))
}

/// `{"0": "CT", "1": "PET"}` as a list; the numbers must run from 0 without a gap.
fn channel_names(path: &Path, map: &Map<String, Value>) -> Result<Vec<String>> {
    let wrong = |message: String| {
        DataError::invalid(path, message, r#"write e.g. "channel_names": {"0": "CT"}"#)
    };
    let names: Result<Vec<String>> = (0..map.len())
        .map(|channel| match map.get(&channel.to_string()) {
            Some(Value::String(name)) => Ok(name.clone()),
            Some(other) => Err(wrong(format!(
                "names channel {channel} {other}, which is no text"
            ))),
            None => Err(wrong(format!(
                "has {} channel_names but none with the key \"{channel}\"",
                map.len()
            ))),
        })
        .collect();
    match names {
        Ok(names) if names.is_empty() => Err(wrong("declares no channel".to_owned())),
        names => names,
    }
}

/// Classes by value, and the ignore label. The rules are nnU-Net's: background is 0, values are consecutive, `ignore` is
/// the highest.
fn classes(path: &Path, labels: &Map<String, Value>) -> Result<(Vec<LabelClass>, Option<u16>)> {
    let wrong = |message: String, cure: &str| DataError::invalid(path, message, cure);
    let mut classes = Vec::new();
    let mut ignore_label = None;
    for (name, value) in labels {
        if value.is_array() {
            return Err(wrong(
                format!(
                    "declares {name:?} as a region of several labels, which is not supported yet"
                ),
                "declare one label value per class",
            ));
        }
        let value = value
            .as_u64()
            .and_then(|v| u16::try_from(v).ok())
            .ok_or_else(|| {
                let cure = if labels.values().all(Value::is_string) {
                    r#"the map goes from name to number: "labels": {"background": 0, "liver": 1}"#
                } else {
                    "give each class a whole number from 0 to 65535"
                };
                wrong(format!("declares label {name:?} as {value}"), cure)
            })?;
        if name == "ignore" {
            ignore_label = Some(value);
        } else {
            classes.push(LabelClass {
                name: name.clone(),
                value,
            });
        }
    }
    classes.sort_by_key(|class| class.value);
    if classes.first().is_none_or(|class| class.value != 0) {
        return Err(wrong(
            "declares no label 0".to_owned(),
            r#"add "background": 0 to the labels"#,
        ));
    }
    if classes.len() < 2 {
        return Err(wrong(
            "declares no class but the background".to_owned(),
            "add the classes to be segmented to the labels",
        ));
    }
    for (expected, class) in classes.iter().enumerate() {
        if usize::from(class.value) != expected {
            return Err(wrong(
                format!(
                    "declares {:?} as {}, but label values must run from 0 without gap or double, and {expected} was next",
                    class.name, class.value
                ),
                "renumber the labels in dataset.json and in the label maps",
            ));
        }
    }
    if let Some(ignore) = ignore_label
        && usize::from(ignore) != classes.len()
    {
        return Err(wrong(
            format!(
                "declares \"ignore\" as {ignore}, but it must be the highest label, {}",
                classes.len()
            ),
            "renumber the ignore label in dataset.json and in the label maps",
        ));
    }
    Ok((classes, ignore_label))
}

/// Cases of the `dataset` key: `{case: {"images": [...], "label": ...}}`, paths relative to the dataset.
fn listed_cases(
    root: &Path,
    path: &Path,
    listed: &Map<String, Value>,
    channels: usize,
    faults: &mut Vec<DataError>,
) -> Result<Vec<Case>> {
    #[derive(Deserialize)]
    struct Listed {
        images: Vec<PathBuf>,
        label: PathBuf,
    }
    let mut cases = Vec::new();
    for (id, value) in listed {
        let files = Listed::deserialize(value).map_err(|e| {
            DataError::invalid(
                path,
                format!("lists case {id:?} wrongly: {e}"),
                r#"write {"images": ["..."], "label": "..."}"#,
            )
        })?;
        if files.images.len() != channels {
            faults.push(DataError::invalid(
                path,
                format!(
                    "lists {} images for case {id:?}, but declares {channels} channels",
                    files.images.len()
                ),
                "list one image per channel",
            ));
            continue;
        }
        let images: Vec<PathBuf> = files.images.iter().map(|image| root.join(image)).collect();
        let label = root.join(files.label);
        let missing = images.iter().chain([&label]).find(|file| !file.is_file());
        if let Some(file) = missing {
            faults.push(DataError::invalid(
                file,
                format!("there is no such file, but dataset.json lists it for case {id:?}"),
                "add the file or remove the case from the list",
            ));
            continue;
        }
        cases.push(Case {
            id: id.clone(),
            images,
            label: Some(label),
        });
    }
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(cases)
}
