//! The images to predict.

use std::path::{Path, PathBuf};

use super::Case;
use super::faults::Faults;
use super::listing::{
    Naming, channel_of, common_ending, fault_of_path, group_by_case, holds_all, id_of, is_volume,
    missing_channel, volumes,
};
use crate::error::{DataError, Result};

/// Finds the images to predict: one file, or all cases of a folder such as `imagesTs`, sorted by id.
///
/// `CASE_0000.nii.gz`, `CASE_0001.nii.gz`, ... form case `CASE` with a file per channel; with one channel, names without
/// a channel number are accepted too; a 4D file holds all channels. A single file stands for channel 0, the other channels
/// are looked for beside it. In a folder without any `file_ending`, the ending that most volumes have counts.
///
/// # Errors
/// When `input` is missing or holds no image, or when a case lacks a channel.
pub fn find_images(input: &Path, channels: usize, file_ending: &str) -> Result<Vec<Case>> {
    if input.is_dir() {
        let mut faults = Faults::default();
        let files = volumes(input, &mut faults)?;
        let has_ending = files.iter().any(|f| is_volume(f) == Some(file_ending));
        let common = common_ending(files.iter().map(PathBuf::as_path));
        let file_ending = common.filter(|_| !has_ending).unwrap_or(file_ending);
        let naming = if channels == 1 {
            Naming::of_single_channel(&files, file_ending)
        } else if files.iter().all(|file| holds_all(file, channels)) {
            // 4D files: what looks like a channel number is part of the name.
            Naming::Plain
        } else {
            Naming::Numbered
        };
        let cases = group_by_case(input, files, channels, file_ending, naming, &mut faults);
        if let Some(fault) = faults.errors.into_iter().next() {
            return Err(fault);
        }
        if cases.is_empty() {
            return Err(DataError::invalid(
                input,
                format!("holds no {file_ending} file"),
                "give an image file or a folder of images",
            ));
        }
        return Ok(cases);
    }
    if let Some(fault) = fault_of_path(input) {
        return Err(fault);
    }
    // A single file may be stored otherwise than the training data were: both endings are read.
    let ending = is_volume(input).ok_or_else(|| {
        DataError::invalid(
            input,
            "is no volume (.nii.gz, .nrrd, .mha, ...)",
            "convert the image to .nii.gz",
        )
    })?;
    let (id, channel) = channel_of(id_of(input, ending));
    match channel {
        Some(0) if channels > 1 && !holds_all(input, channels) => {
            let folder = input.parent().unwrap_or(Path::new(""));
            let images: Vec<PathBuf> = (0..channels)
                .map(|c| folder.join(format!("{id}_{c:04}{ending}")))
                .collect();
            if let Some(missing) = images.iter().find(|path| !path.exists()) {
                return Err(missing_channel(missing, channels));
            }
            Ok(vec![Case {
                id: id.to_owned(),
                images,
                label: None,
            }])
        }
        _ if channels == 1 || holds_all(input, channels) => {
            // Only channel 0 carries a number; anything else belongs to the name.
            let id = if channel == Some(0) {
                id
            } else {
                id_of(input, ending)
            };
            Ok(vec![Case {
                id: id.to_owned(),
                images: vec![input.to_owned()],
                label: None,
            }])
        }
        _ => Err(DataError::invalid(
            input,
            format!("the model reads {channels} channels, and this is one file"),
            "give channel 0, named CASE_0000 with the other channels CASE_0001, ... beside it, or a 4D file",
        )),
    }
}
