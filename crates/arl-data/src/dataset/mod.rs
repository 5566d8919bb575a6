//! Dataset layouts: which files form a case, what the channels are and which classes there are.
//!
//! Two layouts are told apart by what lies in the directory: nnU-Net raw (a `dataset.json`) and plain folders
//! (`images*/` beside `labels*/`). Files whose names start with a dot are ignored everywhere.

mod folders;
mod listing;
mod nnunet;
pub(crate) mod read;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use listing::{Naming, channel_of, group_by_case, id_of, is_volume, volumes};

/// One subject: an image file per channel and, for training and scoring, a label map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Name of the case: the file name without channel number and ending.
    pub id: String,
    /// One file per channel, in channel order.
    pub images: Vec<PathBuf>,
    /// The label map, if there is one.
    pub label: Option<PathBuf>,
}

/// A class to be segmented and the value that stands for it in the label maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelClass {
    /// Name as declared in the dataset.
    pub name: String,
    /// Voxel value in the label maps.
    pub value: u16,
}

/// How a dataset directory is organised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// nnU-Net v2 raw: `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`, `imagesTs/`.
    NnUnetRaw,
    /// No description file: an `images*/` folder and a `labels*/` folder, paired by file name.
    Folders,
}

/// A dataset directory whose files are known; their voxels are checked by [`check`](crate::check::check) or on reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The directory.
    pub root: PathBuf,
    /// Declared name, else the directory's.
    pub name: String,
    /// How it is organised.
    pub layout: Layout,
    /// Name of each channel; the name decides how the channel is normalised.
    pub channel_names: Vec<String>,
    /// Classes sorted by value, background (0) first.
    pub classes: Vec<LabelClass>,
    /// Voxels with this value count nowhere.
    pub ignore_label: Option<u16>,
    /// Ending of all volumes, with its dots (`.nii.gz`).
    pub file_ending: String,
    /// Cases to train on, sorted by id; each has a label.
    pub training: Vec<Case>,
    /// Cases to predict, sorted by id, with labels where a `labelsTs` folder has them.
    pub test: Vec<Case>,
}

impl Dataset {
    /// Finds the cases and classes of the dataset at `root`.
    ///
    /// Voxels are not read, except that plain folders are scanned for the label values that occur.
    ///
    /// # Errors
    /// When the directory is missing or of no known layout, or the files do not form complete cases. The first fault is
    /// returned; [`check_directory`](crate::check::check_directory) lists all of them.
    pub fn open(root: &Path) -> Result<Self> {
        let (dataset, faults) = Self::survey(root)?;
        match faults.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(dataset),
        }
    }

    /// As [`open`](Self::open), but faults of single cases are collected and the cases left out.
    pub(crate) fn survey(root: &Path) -> Result<(Self, Vec<DataError>)> {
        if !root.is_dir() {
            let message = if root.exists() {
                "is a file, not a dataset directory"
            } else {
                "there is no such directory"
            };
            return Err(DataError::invalid(root, message, "check the dataset path"));
        }
        if root.join(nnunet::DESCRIPTION).exists() {
            nnunet::survey(root)
        } else {
            folders::survey(root)
        }
    }

    /// Number of classes, background included: the number of output channels of a network.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// The values that a label map may hold: all classes, and the ignore label.
    pub(crate) fn declares(&self, value: u16) -> bool {
        self.ignore_label == Some(value) || self.classes.iter().any(|c| c.value == value)
    }
}

/// Finds the images to predict: one file, or all cases of a folder such as `imagesTs`, sorted by id.
///
/// `CASE_0000.nii.gz`, `CASE_0001.nii.gz`, ... form case `CASE` with a file per channel; with one channel, names without
/// a channel number are accepted too. A single file stands for channel 0, the other channels are looked for beside it.
///
/// # Errors
/// When `input` is missing or holds no image with `file_ending`, or when a case lacks a channel.
pub fn find_images(input: &Path, channels: usize, file_ending: &str) -> Result<Vec<Case>> {
    if input.is_dir() {
        let files = volumes(input)?;
        let naming = if channels == 1 {
            Naming::of_single_channel(&files, file_ending)
        } else {
            Naming::Numbered
        };
        let (cases, faults) = group_by_case(input, files, channels, file_ending, naming);
        if let Some(fault) = faults.into_iter().next() {
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
    if !input.exists() {
        return Err(DataError::invalid(
            input,
            "there is no such file or directory",
            "check the path",
        ));
    }
    // A single file may be stored otherwise than the training data were: both endings are read.
    let ending = is_volume(input).ok_or_else(|| {
        DataError::invalid(
            input,
            "is no .nii or .nii.gz file",
            "convert the image to .nii.gz",
        )
    })?;
    let (id, channel) = channel_of(id_of(input, ending));
    match channel {
        Some(0) if channels > 1 => {
            let folder = input.parent().unwrap_or(Path::new(""));
            let images: Vec<PathBuf> = (0..channels)
                .map(|c| folder.join(format!("{id}_{c:04}{ending}")))
                .collect();
            if let Some(missing) = images.iter().find(|path| !path.exists()) {
                return Err(listing::missing_channel(missing, channels));
            }
            Ok(vec![Case {
                id: id.to_owned(),
                images,
                label: None,
            }])
        }
        _ if channels == 1 => {
            // Only channel 0 of one channel carries a number; anything else belongs to the name.
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
            "give channel 0, named CASE_0000 with the other channels CASE_0001, ... beside it",
        )),
    }
}

/// The directory's own name, for datasets that declare none.
fn directory_name(root: &Path) -> String {
    root.canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "dataset".to_owned())
}
