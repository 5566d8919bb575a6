//! Dataset layouts: which files form a case, what the channels are and which classes there are.
//!
//! Layouts are told apart by what lies in the directory ([`Layout`]), and nothing else is asked for: no environment
//! variable, no number of the dataset. Files whose names start with a dot are ignored everywhere.

mod datalist;
mod described;
mod description;
pub(crate) mod faults;
mod folders;
mod inputs;
mod labels;
mod listing;
mod nnunet;
mod placement;
pub(crate) mod read;
mod remap;
mod scan;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::split::Split;
pub use described::{Described, describe};
pub use description::Layout;
use faults::Faults;
pub use inputs::find_images;
pub use labels::{DeclaredLabels, declared_labels};
pub use placement::check_placement;
pub use remap::LabelRemap;

/// One subject: an image file per channel and, for training and scoring, a label map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Name of the case: the file name without channel number and ending.
    pub id: String,
    /// One file per channel, in channel order, or one 4D file that holds all.
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

/// Labels that are learned as one, and may share voxels with other regions, such as the whole tumour and its core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Name as declared in the dataset.
    pub name: String,
    /// The values of its voxels in the label maps, ascending.
    pub values: Vec<u16>,
    /// The value with which it is painted into a predicted label map, over the regions before it.
    pub paint: u16,
}

/// How the files of a dataset are to be read, where a person wants something else than what they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Label values that are read as others.
    pub remap_labels: Option<LabelRemap>,
    /// Accept files of one case that lie in different places; their voxels are paired by index.
    pub ignore_geometry: bool,
}

/// A dataset directory whose files are known; their voxels are checked by [`check`](crate::check::check) or on reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The directory, or that of the description file.
    pub root: PathBuf,
    /// Declared name, else the directory's.
    pub name: String,
    /// How it is organised.
    pub layout: Layout,
    /// Name of each channel; the name decides how the channel is normalised.
    pub channel_names: Vec<String>,
    /// Classes sorted by value, background (0) first.
    pub classes: Vec<LabelClass>,
    /// What is learned instead of the classes, in the order of painting; empty where each voxel is of one class.
    pub regions: Vec<Region>,
    /// Voxels with this value count nowhere.
    pub ignore_label: Option<u16>,
    /// Ending of all volumes, with its dots (`.nii.gz`).
    pub file_ending: String,
    /// Cases to train on, sorted by id; each has a label.
    pub training: Vec<Case>,
    /// Cases to predict, sorted by id, with labels where a `labelsTs` folder has them.
    pub test: Vec<Case>,
    /// The parts of a cross validation that the dataset itself declares; empty where it does not.
    pub folds: Vec<Split>,
    /// Cases of `training` that the dataset holds out for validation whatever the fold.
    pub held_out: Vec<String>,
    /// How its files are read. Remapped labels are in pairs here, even if `auto` was asked for.
    pub options: ReadOptions,
}

impl Dataset {
    /// Finds the cases and classes of the dataset at `path`: a directory, or the JSON file that lists its cases.
    ///
    /// Voxels are not read, except that label maps are scanned for the values that occur where nothing declares them.
    ///
    /// # Errors
    /// When nothing is there or of no known layout, or the files do not form complete cases. The first fault is
    /// returned; [`check_dataset`](crate::check::check_dataset) lists all of them.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &ReadOptions::default())
    }

    /// As [`open`](Self::open), reading the files as `options` say.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, options: &ReadOptions) -> Result<Self> {
        let (dataset, faults) = Self::survey(path, options)?;
        match faults.errors.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(dataset),
        }
    }

    /// As [`open_with`](Self::open_with), but all faults are collected, and what can be found in spite of them is.
    pub(crate) fn survey(path: &Path, options: &ReadOptions) -> Result<(Self, Faults)> {
        let found = description::recognise(path)?;
        match found.description {
            None => folders::survey(found.root, options),
            Some((file, description)) if found.layout == Layout::NnUnetRaw => {
                nnunet::survey(found.root, &file, description, options)
            }
            Some((file, description)) => {
                datalist::survey(found.root, &file, found.layout, description, options)
            }
        }
    }

    /// Number of classes, background included.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// The values that a label map may hold: all classes, and the ignore label.
    pub(crate) fn declares(&self, value: u16) -> bool {
        self.ignore_label == Some(value) || self.classes.iter().any(|c| c.value == value)
    }
}

/// The directory's own name, for datasets that declare none.
fn directory_name(root: &Path) -> String {
    root.canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "dataset".to_owned())
}
