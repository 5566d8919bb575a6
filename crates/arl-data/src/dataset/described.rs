//! What a `dataset.json` of nnU-Net says of channels and labels, without the dataset.

use std::path::Path;

use super::description::{Modality, described_by};
use super::faults::Faults;
use super::labels::Declared;
use super::nnunet::channel_names;
use super::{LabelClass, Region};
use crate::error::{DataError, Result};

/// Channels and labels of a dataset that need not be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Channel names, in order.
    pub channel_names: Vec<String>,
    /// Classes sorted by value, background first.
    pub classes: Vec<LabelClass>,
    /// Regions in the order of painting, where labels are declared as such.
    pub regions: Vec<Region>,
    /// Voxels with this label count nowhere.
    pub ignore_label: Option<u16>,
}

/// Reads channels and labels of a `dataset.json` of nnU-Net.
///
/// # Errors
/// The first fault of the file.
pub fn describe(file: &Path) -> Result<Described> {
    let missing = |name: &str| {
        let cure = "give the dataset.json that the network was trained with";
        DataError::invalid(file, format!("has no \"{name}\""), cure)
    };
    let Some((_, description)) = described_by(file)?.description else {
        return Err(missing("channel_names"));
    };
    let names = match (&description.channel_names, &description.modality) {
        (Some(names), _) | (None, Some(Modality::ByChannel(names))) => names,
        _ => return Err(missing("channel_names")),
    };
    let labels = description
        .labels
        .as_ref()
        .ok_or_else(|| missing("labels"))?;
    let mut faults = Faults::default();
    let order = description.regions_class_order.as_deref();
    let table = Declared::by_name(file, labels, &mut faults)
        .and_then(|declared| declared.table(file, order, None, &mut faults));
    match (table, faults.errors.into_iter().next()) {
        (Some(table), None) => Ok(Described {
            channel_names: channel_names(file, names)?,
            classes: table.classes,
            regions: table.regions,
            ignore_label: table.ignore_label,
        }),
        (_, Some(fault)) => Err(fault),
        (None, None) => Err(missing("labels")),
    }
}
