//! nnU-Net v2 raw: `dataset.json` beside `imagesTr`, `labelsTr` and perhaps `imagesTs`, `labelsTs`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::description::{Description, Entries, Layout, Modality};
use super::faults::Faults;
use super::labels::Declared;
use super::listing::{
    Naming, attach_labels, channels_by_number, common_ending, fault_of_path, group_by_case,
    is_volume, volumes,
};
use super::{Case, Dataset, ReadOptions, scan};
use crate::error::{DataError, Result};
use crate::formats;

/// Surveys as far as it can: what one wrong key spoils, the others do not.
pub(super) fn survey(
    root: PathBuf,
    path: &Path,
    description: Description,
    options: &ReadOptions,
) -> Result<(Dataset, Faults)> {
    let mut faults = Faults::default();
    let missing = |name: &str, example: &str| {
        let cure = format!("add e.g. {example}");
        DataError::invalid(path, format!("has no \"{name}\""), cure)
    };
    let names = match (&description.channel_names, &description.modality) {
        (Some(names), _) | (None, Some(Modality::ByChannel(names))) => channel_names(path, names),
        _ => Err(missing("channel_names", r#""channel_names": {"0": "CT"}"#)),
    };
    let names = faults.note(names);
    let declared = match &description.labels {
        Some(labels) => Declared::by_name(path, labels, &mut faults),
        None => {
            let example = r#""labels": {"background": 0, "liver": 1}"#;
            faults.errors.push(missing("labels", example));
            None
        }
    };
    let ending = match description.file_ending {
        None => Err(missing("file_ending", r#""file_ending": ".nii.gz""#)),
        Some(ending) if formats::ENDINGS.contains(&ending.as_str()) => Ok(ending),
        Some(ending) => Err(DataError::invalid(
            path,
            format!("declares file_ending {ending:?}, which is not read"),
            "convert the volumes to .nii.gz",
        )),
    };
    let ending = faults.note(ending);

    let (images, labels) = (root.join("imagesTr"), root.join("labelsTr"));
    let files = match images.is_dir() {
        true => volumes(&images, &mut faults)?,
        false => Vec::new(),
    };
    // What the description fails to say is taken from the files, to find the faults of those too.
    let common = common_ending(files.iter().map(PathBuf::as_path));
    let ending = match (ending, common) {
        (Some(ending), Some(common))
            if !files.iter().any(|file| is_volume(file) == Some(&ending)) =>
        {
            faults.errors.push(DataError::invalid(
                path,
                format!("declares file_ending {ending:?}, but the volumes end in {common}"),
                format!(r#"write "file_ending": "{common}", or convert the volumes"#),
            ));
            common.to_owned()
        }
        (ending, common) => ending.unwrap_or_else(|| common.unwrap_or(".nii.gz").to_owned()),
    };
    let channel_names = names.unwrap_or_else(|| {
        let channels = channels_by_number(&files, &ending).unwrap_or(1);
        (0..channels).map(|c| format!("channel_{c}")).collect()
    });
    let channels = channel_names.len();

    let training = match &description.dataset {
        Some(listed) => listed_cases(&root, path, listed, channels, &mut faults),
        None => {
            for folder in [&images, &labels] {
                if !folder.is_dir() {
                    let problem = "there is no such folder";
                    let cure =
                        "put the training images into imagesTr and their label maps into labelsTr";
                    faults
                        .errors
                        .push(DataError::invalid(folder, problem, cure));
                }
            }
            let naming = Naming::Numbered;
            let mut cases = group_by_case(&images, files, channels, &ending, naming, &mut faults);
            match images.is_dir() && labels.is_dir() {
                true => attach_labels(&mut cases, &labels, &ending, &mut faults)?,
                false => cases.clear(),
            }
            cases
        }
    };
    if training.is_empty() && faults.errors.is_empty() {
        faults.errors.push(DataError::invalid(
            path,
            "describes a dataset without a training case",
            "add images to imagesTr and label maps to labelsTr",
        ));
    }
    check_count(
        path,
        description.num_training.as_ref(),
        training.len(),
        &mut faults,
    );

    let images = root.join("imagesTs");
    let mut test = Vec::new();
    if images.is_dir() {
        let files = volumes(&images, &mut faults)?;
        let naming = Naming::Numbered;
        test = group_by_case(&images, files, channels, &ending, naming, &mut faults);
        let labels = root.join("labelsTs");
        if labels.is_dir() {
            attach_labels(&mut test, &labels, &ending, &mut faults)?;
        }
    }

    let mut options = options.clone();
    let table = declared.and_then(|declared| {
        scan::resolve_remap(path, &mut options, &training, &declared, &mut faults);
        let order = description.regions_class_order.as_deref();
        declared.table(path, order, options.remap_labels.as_ref(), &mut faults)
    });
    let table = table.unwrap_or_default();
    let dataset = Dataset {
        name: description
            .name
            .unwrap_or_else(|| super::directory_name(&root)),
        root,
        layout: Layout::NnUnetRaw,
        channel_names,
        classes: table.classes,
        regions: table.regions,
        ignore_label: table.ignore_label,
        file_ending: ending,
        training,
        test,
        folds: Vec::new(),
        held_out: Vec::new(),
        options,
    };
    Ok((dataset, faults))
}

/// Compares the declared number of training cases with those found. Counted only where all are whole: the files that are
/// missing have been named.
pub(super) fn check_count(
    path: &Path,
    declared: Option<&Value>,
    found: usize,
    faults: &mut Faults,
) {
    let Some(declared) = declared else {
        faults.warnings.push(DataError::invalid(
            path,
            "has no \"numTraining\", so that missing cases are not noticed, and nnU-Net refuses it",
            format!("add \"numTraining\": {found}"),
        ));
        return;
    };
    if faults.errors.is_empty() && declared.as_u64() != Some(found as u64) {
        faults.errors.push(DataError::invalid(
            path,
            format!("declares numTraining {declared}, but there are {found} training cases"),
            "correct the number or restore the missing cases",
        ));
    }
}

/// `{"0": "CT", "1": "PET"}` as a list; the numbers must run from 0 without a gap.
pub(super) fn channel_names(path: &Path, entries: &Entries) -> Result<Vec<String>> {
    let wrong = |problem: String| {
        DataError::invalid(path, problem, r#"write e.g. "channel_names": {"0": "CT"}"#)
    };
    if entries.0.is_empty() {
        return Err(wrong("declares no channel".to_owned()));
    }
    (0..entries.0.len())
        .map(|channel| {
            let key = channel.to_string();
            match entries.0.iter().find(|(number, _)| *number == key) {
                Some((_, Value::String(name))) => Ok(name.clone()),
                Some((_, other)) => Err(wrong(format!(
                    "names channel {channel} {other}, which is no text"
                ))),
                None => Err(wrong(format!(
                    "has {} channel_names but none with the key \"{channel}\"",
                    entries.0.len()
                ))),
            }
        })
        .collect()
}

/// Cases of the `dataset` key: `{case: {"images": [...], "label": ...}}`, paths relative to the dataset.
fn listed_cases(
    root: &Path,
    path: &Path,
    listed: &Entries,
    channels: usize,
    faults: &mut Faults,
) -> Vec<Case> {
    #[derive(Deserialize)]
    struct Files {
        images: Vec<String>,
        label: String,
    }
    let mut cases: Vec<Case> = Vec::new();
    for (id, value) in &listed.0 {
        let mut wrong = |problem: String, cure: &str| {
            faults.errors.push(DataError::invalid(path, problem, cure));
        };
        let files = match Files::deserialize(value) {
            Ok(files) => files,
            Err(error) => {
                let cure = r#"write {"images": ["..."], "label": "..."}"#;
                wrong(format!("lists case {id:?} wrongly: {error}"), cure);
                continue;
            }
        };
        if cases.iter().any(|case| case.id == *id) {
            wrong(
                format!("lists case {id:?} twice"),
                "give each case a name of its own",
            );
            continue;
        }
        if Path::new(id).file_name() != Some(id.as_ref()) || id.starts_with('.') {
            wrong(
                format!("names a case {id:?}, which can be no file name"),
                "name it with letters and digits: files are named by it",
            );
            continue;
        }
        let listed = || files.images.iter().chain([&files.label]);
        if let Some(file) = listed().find(|file| file.contains('$')) {
            wrong(
                format!("names {file:?} for case {id:?}, with an environment variable"),
                "write the path out, absolute or relative to the dataset: no environment variable is read",
            );
            continue;
        }
        let images: Vec<PathBuf> = files.images.iter().map(|image| root.join(image)).collect();
        let label = root.join(&files.label);
        if let Some(fault) = images
            .iter()
            .chain([&label])
            .find_map(|f| fault_of_listed(f, path))
        {
            faults.errors.push(fault);
            continue;
        }
        // One file may hold all channels.
        if images.len() != channels && images.len() != 1 {
            wrong(
                format!(
                    "lists {} images for case {id:?}, but declares {channels} channels",
                    images.len()
                ),
                "list one image per channel, or one 4D image",
            );
            continue;
        }
        cases.push(Case {
            id: id.clone(),
            images,
            label: Some(label),
        });
    }
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    cases
}

/// Why a file that a description lists is none.
pub(super) fn fault_of_listed(file: &Path, description: &Path) -> Option<DataError> {
    let description = description
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    fault_of_path(file).map(|fault| match file.symlink_metadata() {
        Ok(_) => fault,
        Err(_) => DataError::invalid(
            file,
            format!("there is no such file, but {description} lists it"),
            "add the file or remove the case from the list",
        ),
    })
}
