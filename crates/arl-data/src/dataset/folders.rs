//! Plain folders: `images*/` beside `labels*/`, paired by file name, classes found by looking at the label maps.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::description::Layout;
use super::faults::Faults;
use super::listing::{
    Naming, attach_labels, channels_by_number, common_ending, group_by_case, id_of, volumes,
};
use super::{Dataset, ReadOptions, scan};
use crate::error::{DataError, Result};

/// Folder names in order of preference; the second of each pair holds the label maps.
const TRAINING: [(&str, &str); 3] = [
    ("imagesTr", "labelsTr"),
    ("images", "labels"),
    ("images_train", "labels_train"),
];
const TEST: [(&str, &str); 2] = [("imagesTs", "labelsTs"), ("images_test", "labels_test")];

pub(super) fn survey(root: PathBuf, options: &ReadOptions) -> Result<(Dataset, Faults)> {
    let mut faults = Faults::default();
    let (images, labels) = training_folders(&root)?;
    let files = volumes(&images, &mut faults)?;
    let Some(ending) = common_ending(files.iter().map(PathBuf::as_path)) else {
        return Err(faults.errors.into_iter().next().unwrap_or_else(|| {
            DataError::invalid(
                &images,
                "holds no volume (.nii.gz, .nrrd, .mha, ...)",
                "put the training images there",
            )
        }));
    };
    let label_files = volumes(&labels, &mut Faults::default())?;
    let (channels, naming) = channels(&files, &label_files, ending);
    let mut training = group_by_case(&images, files, channels, ending, naming, &mut faults);
    attach_labels(&mut training, &labels, ending, &mut faults)?;
    // Nothing says what the images are: normalised per volume, as unknown modalities are.
    let channel_names = scan::unnamed_channels(&training, channels);
    let channels = channel_names.len();

    let mut test = Vec::new();
    for (images, labels) in TEST {
        let (images, labels) = (root.join(images), root.join(labels));
        if images.is_dir() {
            let files = volumes(&images, &mut faults)?;
            test = group_by_case(&images, files, channels, ending, naming, &mut faults);
            if labels.is_dir() {
                attach_labels(&mut test, &labels, ending, &mut faults)?;
            }
            break;
        }
    }

    let mut options = options.clone();
    let table = scan::classes_of(&labels, &training, &mut options, &mut faults);
    let dataset = Dataset {
        name: super::directory_name(&root),
        root,
        layout: Layout::Folders,
        channel_names,
        classes: table.classes,
        regions: table.regions,
        ignore_label: table.ignore_label,
        file_ending: ending.to_owned(),
        training,
        test,
        folds: Vec::new(),
        held_out: Vec::new(),
        options,
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

/// Number of channels, and whether the names count them.
///
/// They do not where an image has a label map of exactly its name. Else there is one channel more than the highest number.
fn channels(images: &[PathBuf], labels: &[PathBuf], file_ending: &str) -> (usize, Naming) {
    let labels: BTreeSet<&str> = labels.iter().map(|path| id_of(path, file_ending)).collect();
    let stems = || images.iter().map(|path| id_of(path, file_ending));
    if stems().any(|stem| labels.contains(stem)) {
        return (1, Naming::Plain);
    }
    match channels_by_number(images, file_ending) {
        Some(channels) => (channels, Naming::Numbered),
        None => (1, Naming::Plain),
    }
}
