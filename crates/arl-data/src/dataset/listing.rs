//! Files of a folder, and the cases they form by their names.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Case;
use super::faults::Faults;
use crate::error::{DataError, Result};
use crate::formats::{self, read_header};

/// The ending of a volume's name; `None` for other files and those that start with a dot (`._*` of macOS archives,
/// unfinished files).
pub(super) fn is_volume(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with('.') {
        return None;
    }
    formats::ending_of(path)
}

/// All volumes of a folder, sorted by name. What is named as a volume and cannot be one is a fault.
pub(super) fn volumes(folder: &Path, faults: &mut Faults) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let before = faults.errors.len();
    for entry in fs::read_dir(folder).map_err(|e| DataError::io(folder, e))? {
        let path = entry.map_err(|e| DataError::io(folder, e))?.path();
        if let Some(fault) = fault_of_name(&path) {
            faults.errors.push(fault);
        } else if is_volume(&path).is_some() {
            match fault_of_path(&path) {
                Some(fault) => faults.errors.push(fault),
                None => files.push(path),
            }
        }
    }
    files.sort();
    // Directories are listed in any order.
    faults.errors[before..].sort_by_key(|fault| fault.path().map(Path::to_owned));
    Ok(files)
}

/// Refuses volumes whose name is no text, because the name is the case's identifier.
fn fault_of_name(path: &Path) -> Option<DataError> {
    let name = path.file_name()?;
    let shown = name.to_string_lossy();
    let is_volume = formats::ending_of(Path::new(&*shown)).is_some() && !shown.starts_with('.');
    (is_volume && name.to_str().is_none()).then(|| {
        DataError::invalid(
            path,
            "has a name that is not valid UTF-8",
            "rename it with plain letters and digits",
        )
    })
}

/// Why a path that should be a file is none: absent, a link to nowhere, a directory, a pipe.
pub(super) fn fault_of_path(path: &Path) -> Option<DataError> {
    let problem = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return None,
        Ok(metadata) if metadata.is_dir() => "is a directory, not a file".to_owned(),
        // Reading a pipe would wait for ever.
        Ok(_) => "is a pipe or a device, not a file".to_owned(),
        Err(error) => match fs::read_link(path) {
            Ok(target) if error.kind() == io::ErrorKind::NotFound => format!(
                "is a symbolic link to {}, which does not exist",
                target.display()
            ),
            Ok(target) => format!("is a symbolic link to {} ({error})", target.display()),
            Err(_) if error.kind() == io::ErrorKind::NotFound => {
                return Some(DataError::invalid(
                    path,
                    "there is no such file or directory",
                    "check the path",
                ));
            }
            Err(_) => return Some(DataError::io(path, error)),
        },
    };
    Some(DataError::invalid(
        path,
        problem,
        "put the file there, or remove the entry",
    ))
}

/// The ending that most files have, if any is a volume.
pub(super) fn common_ending<'a>(
    files: impl Iterator<Item = &'a Path> + Clone,
) -> Option<&'static str> {
    let count = |ending: &str| {
        let endings = files.clone().filter_map(is_volume);
        endings.filter(|other| *other == ending).count()
    };
    let mut endings = formats::ENDINGS.into_iter().filter(|e| count(e) > 0);
    let first = endings.next()?;
    Some(endings.fold(first, |a, b| if count(b) > count(a) { b } else { a }))
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

/// One channel more than the highest channel number; `None` where a name carries none, or there is no file.
pub(super) fn channels_by_number(files: &[PathBuf], ending: &str) -> Option<usize> {
    let numbers: Option<Vec<usize>> = files
        .iter()
        .map(|path| channel_of(id_of(path, ending)).1)
        .collect();
    Some(numbers?.into_iter().max()? + 1)
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

/// Groups image files into cases of `channels` files each, or of one 4D file that holds them all. Cases with missing,
/// surplus or doubled channels are faults.
pub(super) fn group_by_case(
    folder: &Path,
    files: Vec<PathBuf>,
    channels: usize,
    file_ending: &str,
    naming: Naming,
    faults: &mut Faults,
) -> Vec<Case> {
    let faults = &mut faults.errors;
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
            (_, None) if channels == 1 || holds_all(&path, channels) => (stem, 0),
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
        let in_one_file =
            channels > 1 && group.len() == 1 && group.values().all(|f| holds_all(f, channels));
        let missing = (0..channels).find(|channel| !group.contains_key(channel) && !in_one_file);
        if let Some((channel, path)) = group.iter().find(|&(&channel, _)| channel >= channels) {
            faults.push(DataError::invalid(
                path,
                format!(
                    "is channel {channel}, but the dataset declares {channels} (counted from 0)"
                ),
                "declare the channel in dataset.json or remove the file",
            ));
        } else if let Some(channel) = missing {
            let missing = folder.join(format!("{id}_{channel:04}{file_ending}"));
            faults.push(missing_channel(&missing, channels));
        } else {
            cases.push(Case {
                id,
                images: group.into_values().collect(),
                label: None,
            });
        }
    }
    cases
}

/// Whether a file is 4D with that many channels.
pub(super) fn holds_all(path: &Path, channels: usize) -> bool {
    read_header(path).is_ok_and(|header| header.channels == channels)
}

/// Gives each case its label map out of `folder`. Cases without one, and label maps of no case, are faults.
pub(super) fn attach_labels(
    cases: &mut Vec<Case>,
    folder: &Path,
    file_ending: &str,
    faults: &mut Faults,
) -> Result<()> {
    let mut labels: BTreeMap<String, PathBuf> = BTreeMap::new();
    let files = volumes(folder, faults)?;
    let faults = &mut faults.errors;
    for path in files {
        if is_volume(&path) != Some(file_ending) {
            faults.push(wrong_ending(&path, file_ending));
            continue;
        }
        labels.insert(id_of(&path, file_ending).to_owned(), path);
    }
    // A file that is at fault itself has been named, and so has a case that lacks a channel.
    let named: Vec<PathBuf> = faults
        .iter()
        .filter_map(|fault| fault.path().map(Path::to_owned))
        .collect();
    cases.retain_mut(|case| {
        case.label = labels.remove(&case.id);
        let expected = folder.join(format!("{}{file_ending}", case.id));
        if case.label.is_none() && !named.contains(&expected) {
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
        let is_image = |file: &PathBuf| {
            let stem = id_of(file, file_ending);
            file.parent() != Some(folder) && (stem == id || channel_of(stem).0 == id)
        };
        if !named.iter().any(is_image) {
            faults.push(DataError::invalid(
                &path,
                format!("is a label map, but there is no complete image of case {id}"),
                "add the image or remove the label map",
            ));
        }
    }
    Ok(())
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
        let mut faults = Faults::default();
        let folder = Path::new("x");
        let naming = Naming::Numbered;
        let cases = group_by_case(folder, files, 1, ".nii.gz", naming, &mut faults);
        let ids: Vec<_> = cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        let faults: Vec<String> = faults.errors.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("belongs to case a as a.nii.gz does"));
        assert!(faults[1].contains("d.nii: does not end in .nii.gz"));
        assert!(faults[2].contains("is channel 1"));
    }
}
