//! A JSON file that lists the cases: the Medical Segmentation Decathlon's `dataset.json`, and MONAI's datalists.
//!
//! Both list `{"image": .., "label": ..}` under `training`, with paths from the folder of the file. The Decathlon names the
//! labels by their values. MONAI's items may carry a `fold`, and cases under `validation` are held out of training.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::description::{Description, Layout, Modality};
use super::faults::Faults;
use super::labels::Declared;
use super::listing::{channel_of, common_ending, id_of, is_volume};
use super::nnunet::{channel_names, check_count, fault_of_listed};
use super::{Case, Dataset, ReadOptions, scan};
use crate::error::{DataError, Result};
use crate::split::Split;

/// An item of a list.
struct Item {
    images: Vec<PathBuf>,
    label: Option<PathBuf>,
    fold: Option<usize>,
}

pub(super) fn survey(
    root: PathBuf,
    path: &Path,
    layout: Layout,
    description: Description,
    options: &ReadOptions,
) -> Result<(Dataset, Faults)> {
    let mut faults = Faults::default();
    let names = match &description.channel_names {
        Some(names) => Some(names),
        None => match &description.modality {
            Some(Modality::ByChannel(names)) => Some(names),
            _ => None,
        },
    };
    let names = names.and_then(|names| faults.note(channel_names(path, names)));
    let declared = description.labels.as_ref().map(|labels| {
        let by_value = labels.0.iter().all(|(_, name)| name.is_string());
        match by_value {
            true => Declared::by_value(path, labels, &mut faults),
            false => Declared::by_name(path, labels, &mut faults),
        }
    });

    let channels = names.as_ref().map(Vec::len);
    let mut items_of = |key: &str, list: &Option<Vec<Value>>| -> Vec<Item> {
        let list = list.as_deref().unwrap_or_default();
        let read = |value| item(&root, path, (key, list.len()), value, channels, &mut faults);
        list.iter().filter_map(read).collect()
    };
    let training = items_of("training", &description.training);
    let held_out = items_of("validation", &description.validation);
    let test = items_of("test", &description.test);

    let items = training.iter().chain(&held_out).chain(&test);
    let images = items.map(|item| item.images[0].as_path()).collect();
    let mut ids = identifiers(&root, images).into_iter();
    let mut cases_of = |items: &[Item]| -> Vec<(Case, Option<usize>)> {
        items
            .iter()
            .zip(&mut ids)
            .map(|(item, id)| {
                let case = Case {
                    id,
                    images: item.images.clone(),
                    label: item.label.clone(),
                };
                (case, item.fold)
            })
            .collect()
    };
    let [training, held_out, test] = [&training, &held_out, &test].map(|items| cases_of(items));
    let all = training.iter().chain(&held_out).chain(&test);
    refuse_doubles(path, all.map(|(case, _)| case), &mut faults);

    let folds = folds(&training, &held_out);
    let held_out_ids = held_out.iter().map(|(case, _)| case.id.clone()).collect();
    let listed = description.training.as_ref().map_or(0, Vec::len);
    if layout == Layout::Decathlon {
        check_count(path, description.num_training.as_ref(), listed, &mut faults);
    }
    let sorted = |cases: Vec<(Case, Option<usize>)>| {
        let mut cases: Vec<Case> = cases.into_iter().map(|(case, _)| case).collect();
        cases.sort_by(|a, b| a.id.cmp(&b.id));
        cases
    };
    let training = sorted([training, held_out].concat());
    let test = sorted(test);
    if training.is_empty() && faults.errors.is_empty() {
        let problem = "lists no training case";
        let cure = r#"write "training": [{"image": "...", "label": "..."}, ...]"#;
        faults.errors.push(DataError::invalid(path, problem, cure));
    }

    let channel_names = names.unwrap_or_else(|| {
        let mut names = scan::unnamed_channels(&training, 1);
        // One word for what the images are, as some lists have it; it decides how they are normalised.
        if let Some(Modality::Other(Value::String(modality))) = &description.modality {
            names.fill(modality.clone());
        }
        names
    });
    let mut options = options.clone();
    let table = match declared {
        Some(declared) => declared.and_then(|declared| {
            scan::resolve_remap(path, &mut options, &training, &declared, &mut faults);
            let order = description.regions_class_order.as_deref();
            declared.table(path, order, options.remap_labels.as_ref(), &mut faults)
        }),
        None => Some(scan::classes_of(path, &training, &mut options, &mut faults)),
    };
    let table = table.unwrap_or_default();
    let images = training.iter().flat_map(|case| &case.images);
    let ending = common_ending(images.map(PathBuf::as_path)).unwrap_or(".nii.gz");
    let dataset = Dataset {
        name: description
            .name
            .unwrap_or_else(|| super::directory_name(&root)),
        root,
        layout,
        channel_names,
        classes: table.classes,
        regions: table.regions,
        ignore_label: table.ignore_label,
        file_ending: ending.to_owned(),
        training,
        test,
        folds,
        held_out: held_out_ids,
        options,
    };
    Ok((dataset, faults))
}

/// Reads an item of the list with this key and length; what is wrong with it is a fault.
fn item(
    root: &Path,
    path: &Path,
    (key, length): (&str, usize),
    value: &Value,
    channels: Option<usize>,
    faults: &mut Faults,
) -> Option<Item> {
    let files = |value: &Value| -> Option<Vec<PathBuf>> {
        let join = |value: &Value| Some(root.join(value.as_str()?));
        match value {
            Value::Array(values) if !values.is_empty() => values.iter().map(join).collect(),
            value => Some(vec![join(value)?]),
        }
    };
    let is_test = key == "test";
    let (images, label) = match value {
        Value::String(_) if is_test => (files(value), None),
        value => (files(&value["image"]), value.get("label").and_then(files)),
    };
    let fold = &value["fold"];
    let fold_is_number = fold.is_null() || fold.as_u64().is_some_and(|k| k < length as u64);
    let label_is_file = label.as_ref().is_some_and(|files| files.len() == 1) || is_test;
    let Some(images) = images.filter(|_| label_is_file && fold_is_number) else {
        let cure = match is_test {
            true => r#"write "image.nii.gz" or {"image": "image.nii.gz"}"#,
            false => {
                r#"write {"image": "...", "label": "..."}, and "fold": 0, 1, ... where you want folds"#
            }
        };
        let problem = format!("lists a {key} case as {value}");
        faults.errors.push(DataError::invalid(path, problem, cure));
        return None;
    };
    let label = label.and_then(|files| files.into_iter().next());
    // Archives made on macOS hold a file `._name` beside each one, and lists made of such a folder name them.
    if images.iter().any(|image| is_hidden(image)) {
        return None;
    }
    let images = channels.map_or(images.clone(), |n| numbered(&images, n).unwrap_or(images));
    let fault = images.iter().chain(&label).find_map(|file| {
        let unreadable = || {
            is_volume(file).is_none().then(|| {
                let problem = "is no volume (.nii.gz, .nrrd, .mha, ...)";
                DataError::invalid(file, problem, "convert it to .nii.gz")
            })
        };
        fault_of_listed(file, path).or_else(unreadable)
    });
    if let Some(fault) = fault {
        faults.errors.push(fault);
        return None;
    }
    Some(Item {
        images,
        label,
        fold: fold.as_u64().and_then(|fold| usize::try_from(fold).ok()),
    })
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with('.')
}

/// The files `CASE_0000`, `CASE_0001`, ... where the list names a `CASE` that is no file, as that of nnU-Net's first version
/// does.
fn numbered(images: &[PathBuf], channels: usize) -> Option<Vec<PathBuf>> {
    let [image] = images else {
        return None;
    };
    let ending = is_volume(image)?;
    if image.exists() {
        return None;
    }
    let files = (0..channels).map(|c| {
        let name = format!("{}_{c:04}{ending}", id_of(image, ending));
        Some(image.with_file_name(name)).filter(|file| file.exists())
    });
    files.collect()
}

/// An identifier for the case of each first image: its name, or where two are the same its path, without ending. The channel
/// number 0 is left out where all have it.
fn identifiers(root: &Path, images: Vec<&Path>) -> Vec<String> {
    let stem = |image: &Path| id_of(image, is_volume(image).unwrap_or("")).to_owned();
    let numbered = images
        .iter()
        .all(|image| channel_of(&stem(image)).1 == Some(0));
    let name = |image: &Path| match stem(image) {
        stem if numbered => channel_of(&stem).0.to_owned(),
        stem => stem,
    };
    let mut images_of: BTreeMap<String, BTreeSet<&Path>> = BTreeMap::new();
    for image in &images {
        images_of.entry(name(image)).or_default().insert(image);
    }
    let identifier = |image: &Path| {
        let name = name(image);
        if images_of[&name].len() == 1 {
            return name;
        }
        let folder = image.parent().unwrap_or(Path::new(""));
        let folder = folder.strip_prefix(root).unwrap_or(folder);
        let parts = folder.components().filter_map(|part| match part {
            std::path::Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
            _ => None,
        });
        parts.chain([name]).collect::<Vec<_>>().join("_")
    };
    images.iter().map(|image| identifier(image)).collect()
}

/// A case that is listed twice would be trained on and validated on, or weigh double.
fn refuse_doubles<'a>(path: &Path, cases: impl Iterator<Item = &'a Case>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for case in cases {
        if !seen.insert(&case.id) {
            faults.errors.push(DataError::invalid(
                path,
                format!(
                    "lists case {} twice ({})",
                    case.id,
                    case.images[0].display()
                ),
                "list each case once, in one of the lists",
            ));
        }
    }
}

/// The parts that the items' `fold` numbers make. Cases without a number train in every part, and those held out validate
/// in every part.
fn folds(training: &[(Case, Option<usize>)], held_out: &[(Case, Option<usize>)]) -> Vec<Split> {
    let numbers: BTreeSet<usize> = training.iter().filter_map(|(_, fold)| *fold).collect();
    let ids = |keep: &dyn Fn(Option<usize>) -> bool| -> Vec<String> {
        let cases = training.iter().filter(|(_, fold)| keep(*fold));
        cases.map(|(case, _)| case.id.clone()).collect()
    };
    let held_out: Vec<String> = held_out.iter().map(|(case, _)| case.id.clone()).collect();
    let part = |train: Vec<String>, mut validation: Vec<String>| {
        validation.extend(held_out.iter().cloned());
        Split { train, validation }
    };
    match numbers.last() {
        Some(&last) => (0..=last)
            .map(|k| part(ids(&|fold| fold != Some(k)), ids(&|fold| fold == Some(k))))
            .collect(),
        None if !held_out.is_empty() => vec![part(ids(&|_| true), Vec::new())],
        None => Vec::new(),
    }
}
