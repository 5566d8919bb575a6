//! Files of a folder, and the cases they form by their names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Case;
use crate::error::{DataError, Result};
use crate::formats;

/// The ending of a volume's name; `None` for other files and those that start with a dot (`._*` of macOS archives,
/// unfinished files).
pub(super) fn is_volume(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with('.') {
        return None;
    }
    formats::ending_of(path)
}

/// All volumes of a folder, sorted by name.
pub(super) fn volumes(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| DataError::io(folder, e))? {
        let path = entry.map_err(|e| DataError::io(folder, e))?.path();
        if is_volume(&path).is_some() && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The file name without `ending`, or all of it where it ends otherwise.
pub(super) fn id_of<'a>(path: &'a Path, ending: &str) -> &'a str {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    name.strip_suffix(ending).unwrap_or(name)
}

/// Splits `CASE_0001` into `CASE` and 1; `None` where the name carries no four-digit channel number.
pub(super) fn channel_of(stem: &str) -> (&str, Option<usize>) {
    match stem.rsplit_once('_') {
        Some((id, digits))
            if !id.is_empty()
                && digits.len() == 4
                && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            (id, digits.parse().ok())
        }
        _ => (stem, None),
    }
}

/// Whether the last four digits of image names count channels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// `CASE_0000`, `CASE_0001`, ... are the channels of `CASE`.
    Numbered,
    /// The whole name is the case's.
    Plain,
}

impl Naming {
    /// How files of one channel each are named: numbered only where all of them are number 0, because `scan_0017` is
    /// more often the seventeenth scan than a channel.
    pub fn of_single_channel(files: &[PathBuf], file_ending: &str) -> Self {
        let numbered = |path: &PathBuf| channel_of(id_of(path, file_ending)).1 == Some(0);
        if files.iter().all(numbered) {
            Naming::Numbered
        } else {
            Naming::Plain
        }
    }
}

/// Groups image files into cases of `channels` files each. Cases with missing, surplus or doubled channels are faults.
pub(super) fn group_by_case(
    folder: &Path,
    files: Vec<PathBuf>,
    channels: usize,
    file_ending: &str,
    naming: Naming,
) -> (Vec<Case>, Vec<DataError>) {
    let mut faults = Vec::new();
    let mut groups: BTreeMap<String, BTreeMap<usize, PathBuf>> = BTreeMap::new();
    for path in files {
        if is_volume(&path) != Some(file_ending) {
            faults.push(wrong_ending(&path, file_ending));
            continue;
        }
        let stem = id_of(&path, file_ending);
        let (id, channel) = match channel_of(stem) {
            _ if naming == Naming::Plain => (stem, 0),
            (id, Some(channel)) => (id, channel),
            (_, None) if channels == 1 => (stem, 0),
            (_, None) => {
                faults.push(DataError::invalid(
                    &path,
                    format!("has no channel number, but the dataset has {channels} channels"),
                    "name it CASE_0000, CASE_0001, ... by channel",
                ));
                continue;
            }
        };
        let group = groups.entry(id.to_owned()).or_default();
        if let Some(other) = group.get(&channel) {
            faults.push(doubled(&path, other, id));
        } else {
            group.insert(channel, path);
        }
    }
    let mut cases = Vec::new();
    for (id, group) in groups {
        if let Some((channel, path)) = group.iter().find(|&(&channel, _)| channel >= channels) {
            faults.push(DataError::invalid(
                path,
                format!(
                    "is channel {channel}, but the dataset declares {channels} (counted from 0)"
                ),
                "declare the channel in dataset.json or remove the file",
            ));
        } else if let Some(channel) = (0..channels).find(|channel| !group.contains_key(channel)) {
            let missing = folder.join(format!("{id}_{channel:04}{file_ending}"));
            faults.push(missing_channel(&missing, channels));
        } else {
            let images = group.into_values().collect();
            cases.push(Case {
                id,
                images,
                label: None,
            });
        }
    }
    (cases, faults)
}

/// Gives each case its label map out of `folder`. Cases without one, and label maps of no case, are faults.
pub(super) fn attach_labels(
    cases: &mut Vec<Case>,
    folder: &Path,
    file_ending: &str,
) -> Result<Vec<DataError>> {
    let mut faults = Vec::new();
    let mut labels: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in volumes(folder)? {
        if is_volume(&path) != Some(file_ending) {
            faults.push(wrong_ending(&path, file_ending));
            continue;
        }
        labels.insert(id_of(&path, file_ending).to_owned(), path);
    }
    cases.retain_mut(|case| {
        case.label = labels.remove(&case.id);
        if case.label.is_none() {
            let expected = folder.join(format!("{}{file_ending}", case.id));
            faults.push(DataError::invalid(
                &case.images[0],
                format!("has no label map {}", expected.display()),
                "add the label map or move the image out of the training folder",
            ));
        }
        case.label.is_some()
    });
    for path in labels.into_values() {
        let id = id_of(&path, file_ending);
        // An image that was at fault itself is named there already.
        faults.push(DataError::invalid(
            &path,
            format!("is a label map, but there is no complete image of case {id}"),
            "add the image or remove the label map",
        ));
    }
    Ok(faults)
}

pub(super) fn missing_channel(path: &Path, channels: usize) -> DataError {
    DataError::invalid(
        path,
        format!("is missing: each case needs {channels} channels"),
        "add the file or remove the case",
    )
}

fn wrong_ending(path: &Path, file_ending: &str) -> DataError {
    DataError::invalid(
        path,
        format!("does not end in {file_ending} as the dataset's other volumes do"),
        "convert it, move it elsewhere or change file_ending",
    )
}

fn doubled(path: &Path, other: &Path, id: &str) -> DataError {
    let other = other.file_name().unwrap_or_default().to_string_lossy();
    DataError::invalid(
        path,
        format!("belongs to case {id} as {other} does"),
        "keep one of the two files or rename one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_numbers_have_four_digits_and_a_case_before_them() {
        assert_eq!(channel_of("liver_12_0001"), ("liver_12", Some(1)));
        assert_eq!(channel_of("liver_12"), ("liver_12", None));
        assert_eq!(channel_of("liver_00001"), ("liver_00001", None));
        assert_eq!(channel_of("_0000"), ("_0000", None));
    }

    #[test]
    fn a_case_named_with_and_without_channel_number_is_a_fault() {
        let files = [
            "a.nii.gz",
            "a_0000.nii.gz",
            "b_0000.nii.gz",
            "c_0001.nii.gz",
            "d.nii",
        ];
        let files = files.map(|f| Path::new("x").join(f)).to_vec();
        let (cases, faults) = group_by_case(Path::new("x"), files, 1, ".nii.gz", Naming::Numbered);
        let ids: Vec<_> = cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("belongs to case a as a.nii.gz does"));
        assert!(faults[1].contains("d.nii: does not end in .nii.gz"));
        assert!(faults[2].contains("is channel 1"));
    }
}
