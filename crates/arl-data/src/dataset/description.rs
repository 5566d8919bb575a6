//! The JSON file that describes a dataset, and which layout it speaks of.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::listing::fault_of_path;
use crate::error::{DataError, Result};

/// The name that descriptions usually have.
pub(super) const FILE_NAME: &str = "dataset.json";

/// The keys that mean something here, of all layouts; programs and people add others.
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    pub name: Option<String>,
    pub channel_names: Option<Entries>,
    /// What nnU-Net's first version and the Medical Segmentation Decathlon call the channel names.
    pub modality: Option<Modality>,
    pub labels: Option<Entries>,
    pub regions_class_order: Option<Vec<Value>>,
    #[serde(rename = "numTraining")]
    pub num_training: Option<Value>,
    pub file_ending: Option<String>,
    /// nnU-Net: files listed one by one instead of found in folders.
    pub dataset: Option<Entries>,
    /// Medical Segmentation Decathlon and MONAI: lists of cases.
    pub training: Option<Vec<Value>>,
    pub validation: Option<Vec<Value>>,
    pub test: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Modality {
    ByChannel(Entries),
    Other(Value),
}

/// The entries of a JSON object in the order in which they were written, which decides how regions are painted; and with
/// the keys that were written twice.
#[derive(Debug)]
pub(super) struct Entries(pub Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map {...}")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// How a dataset is organised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// nnU-Net v2 raw: `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`, `imagesTs/`.
    NnUnetRaw,
    /// Medical Segmentation Decathlon: `dataset.json` with a list `training` and names of the labels.
    Decathlon,
    /// MONAI datalist: a JSON file with a list `training`, whose items may carry a `fold`, and no names of labels.
    MonaiDatalist,
    /// No description file: an `images*/` folder and a `labels*/` folder, paired by file name.
    Folders,
}

/// A dataset whose layout is known.
pub(super) struct Found {
    pub layout: Layout,
    /// The folder that paths of the description start from.
    pub root: PathBuf,
    /// The description and the file it was read from; none for plain folders.
    pub description: Option<(PathBuf, Description)>,
}

/// Tells by what lies at `path`, a directory or a description file, how the dataset is organised.
pub(super) fn recognise(path: &Path) -> Result<Found> {
    if path.to_str().is_none() {
        let problem = "has a path that is not valid UTF-8";
        return Err(DataError::invalid(path, problem, "rename the directory"));
    }
    if !path.is_dir() {
        return described_by(path);
    }
    let usual = path.join(FILE_NAME);
    // A broken link counts: what it was meant to describe must not be guessed at.
    if usual.symlink_metadata().is_ok() {
        return described_by(&usual);
    }
    let mut lists = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| DataError::io(path, e))? {
        let file = entry.map_err(|e| DataError::io(path, e))?.path();
        let is_list = |file: &Path| {
            let text = fs::read_to_string(file).ok();
            let json = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            json.is_some_and(|json| json["training"].is_array())
        };
        if is_json(&file) && file.is_file() && is_list(&file) {
            lists.push(file);
        }
    }
    lists.sort();
    match &lists[..] {
        [] => Ok(Found {
            layout: Layout::Folders,
            root: path.to_owned(),
            description: None,
        }),
        [only] => described_by(only),
        [first, second, ..] => Err(DataError::invalid(
            path,
            format!(
                "holds several lists of cases, {} and {}",
                name_of(first),
                name_of(second)
            ),
            "give the one to use instead of the directory",
        )),
    }
}

pub(super) fn described_by(file: &Path) -> Result<Found> {
    if let Some(fault) = fault_of_path(file) {
        return Err(fault);
    }
    if !is_json(file) {
        let problem = "is a file, not a dataset directory or a JSON list of cases";
        return Err(DataError::invalid(file, problem, "check the dataset path"));
    }
    let text = fs::read_to_string(file).map_err(|e| DataError::io(file, e))?;
    // Some programs put a byte order mark before the text.
    let text = text.trim_start_matches('\u{feff}');
    let description: Description = serde_json::from_str(text).map_err(|e| {
        let problem = format!("is not a dataset description: {e}");
        DataError::invalid(file, problem, "repair the JSON")
    })?;
    let lists_cases = description.training.is_some() || description.validation.is_some();
    let layout = if lists_cases && description.file_ending.is_none() {
        match description.labels {
            Some(_) => Layout::Decathlon,
            None => Layout::MonaiDatalist,
        }
    } else {
        Layout::NnUnetRaw
    };
    let root = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok(Found {
        layout,
        root,
        description: Some((file.to_owned(), description)),
    })
}

fn is_json(path: &Path) -> bool {
    let name = name_of(path);
    name.ends_with(".json") && !name.starts_with('.')
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
