//! Plain folders: `images*/` beside `labels*/`, paired by file name, classes found by looking at the label maps.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::listing::{Naming, attach_labels, channel_of, group_by_case, id_of, is_volume, volumes};
use super::{Dataset, LabelClass, Layout};
use crate::error::{DataError, Result};
use crate::formats;

/// Folder names in order of preference; the second of each pair holds the label maps.
const TRAINING: [(&str, &str); 3] = [
    ("imagesTr", "labelsTr"),
    ("images", "labels"),
    ("images_train", "labels_train"),
];
const TEST: [(&str, &str); 2] = [("imagesTs", "labelsTs"), ("images_test", "labels_test")];

pub(super) fn survey(root: &Path) -> Result<(Dataset, Vec<DataError>)> {
    let (images, labels) = training_folders(root)?;
    let files = volumes(&images)?;
    let file_ending = file_ending(&images, &files)?;
    let (channels, naming) = channels(&files, &volumes(&labels)?, file_ending);
    let (mut training, mut faults) = group_by_case(&images, files, channels, file_ending, naming);
    faults.extend(attach_labels(&mut training, &labels, file_ending)?);

    let mut test = Vec::new();
    for (images, labels) in TEST {
        let (images, labels) = (root.join(images), root.join(labels));
        if images.is_dir() {
            let (mut cases, more) =
                group_by_case(&images, volumes(&images)?, channels, file_ending, naming);
            faults.extend(more);
            if labels.is_dir() {
                faults.extend(attach_labels(&mut cases, &labels, file_ending)?);
            }
            test = cases;
            break;
        }
    }

    let found: Vec<Result<BTreeSet<u16>>> = training
        .par_iter()
        .filter_map(|case| case.label.as_deref())
        .map(|label| Ok(formats::read_labels(label)?.data.iter().copied().collect()))
        .collect();
    let mut values = BTreeSet::from([0]);
    for result in found {
        match result {
            Ok(more) => values.extend(more),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() && usize::from(*values.last().unwrap_or(&0)) >= values.len() {
        let values: Vec<String> = values.iter().map(u16::to_string).collect();
        faults.push(DataError::invalid(
            &labels,
            format!(
                "its label maps hold the values {}, but values must run from 0 without gap",
                values.join(", ")
            ),
            "renumber them to 0, 1, 2, ...",
        ));
    }
    if faults.is_empty() && values.len() < 2 {
        faults.push(DataError::invalid(
            &labels,
            "its label maps hold nothing but background",
            "mark the structures to be segmented as 1, 2, ...",
        ));
    }
    let classes = values
        .into_iter()
        .map(|value| LabelClass {
            name: if value == 0 {
                "background".to_owned()
            } else {
                format!("label_{value}")
            },
            value,
        })
        .collect();
    let dataset = Dataset {
        root: root.to_owned(),
        name: super::directory_name(root),
        layout: Layout::Folders,
        // Nothing says what the images are: normalised per volume, as unknown modalities are.
        channel_names: (0..channels)
            .map(|channel| format!("channel_{channel}"))
            .collect(),
        classes,
        ignore_label: None,
        file_ending: file_ending.to_owned(),
        training,
        test,
    };
    Ok((dataset, faults))
}

/// The known pairs first, else the only pair whose names differ in `images` and `labels` alone.
fn training_folders(root: &Path) -> Result<(PathBuf, PathBuf)> {
    let known = TRAINING.map(|(images, labels)| (root.join(images), root.join(labels)));
    for (images, labels) in known {
        match (images.is_dir(), labels.is_dir()) {
            (true, true) => return Ok((images, labels)),
            (true, false) => {
                return Err(DataError::invalid(
                    &images,
                    format!("has no folder of label maps {} beside it", labels.display()),
                    "add one label map per image, named as the image",
                ));
            }
            _ => {}
        }
    }
    let mut pairs = Vec::new();
    for entry in fs::read_dir(root).map_err(|e| DataError::io(root, e))? {
        let images = entry.map_err(|e| DataError::io(root, e))?.path();
        let name = images.file_name().and_then(|name| name.to_str());
        let Some(set) = name.and_then(|name| name.strip_prefix("images")) else {
            continue;
        };
        let labels = root.join(format!("labels{set}"));
        let is_test = TEST.iter().any(|(test, _)| Some(*test) == name);
        if images.is_dir() && labels.is_dir() && !is_test {
            pairs.push((images, labels));
        }
    }
    match pairs.len() {
        1 => Ok(pairs.remove(0)),
        0 => Err(DataError::invalid(
            root,
            "is no dataset: it has neither a dataset.json nor an images/ and a labels/ folder",
            "see `arl check --help` for the layouts that are read",
        )),
        _ => Err(DataError::invalid(
            root,
            "has several pairs of images*/ and labels*/ folders",
            "name the one to train on imagesTr/ and labelsTr/",
        )),
    }
}

/// The ending that most images have.
fn file_ending(folder: &Path, files: &[PathBuf]) -> Result<&'static str> {
    let count = |ending: &str| {
        files
            .iter()
            .filter(|path| is_volume(path) == Some(ending))
            .count()
    };
    formats::ENDINGS
        .into_iter()
        .max_by_key(|ending| count(ending))
        .filter(|ending| count(ending) > 0)
        .ok_or_else(|| {
            DataError::invalid(
                folder,
                "holds no volume (.nii.gz, .nrrd, .mha, ...)",
                "put the training images there",
            )
        })
}

/// Number of channels, and whether the names count them.
///
/// They do not where an image has a label map of exactly its name. Else there is one channel more than the highest number.
fn channels(images: &[PathBuf], labels: &[PathBuf], file_ending: &str) -> (usize, Naming) {
    let labels: BTreeSet<&str> = labels.iter().map(|path| id_of(path, file_ending)).collect();
    let stems = || images.iter().map(|path| id_of(path, file_ending));
    if stems().any(|stem| labels.contains(stem)) {
        return (1, Naming::Plain);
    }
    let numbers: Option<Vec<usize>> = stems().map(|stem| channel_of(stem).1).collect();
    match numbers {
        Some(numbers) => (
            numbers.into_iter().max().map_or(1, |n| n + 1),
            Naming::Numbered,
        ),
        None => (1, Naming::Plain),
    }
}
