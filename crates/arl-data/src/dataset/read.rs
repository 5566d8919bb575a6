//! Reading a case whole, with every rule checked, so that no later step meets a fault.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::Array3;

use super::placement::check_placement;
use super::{Case, Dataset, ReadOptions};
use crate::error::{DataError, Result};
use crate::formats::{self, read_channels};
use crate::volume::Volume;

impl Case {
    /// Reads all channels: on one grid, and every value a number. A 4D file holds several channels.
    ///
    /// # Errors
    /// When a file cannot be read, a value is NaN or infinite, or the channels lie on different grids.
    pub fn read_images(&self, options: &ReadOptions) -> Result<Vec<Volume<f32>>> {
        let mut channels: Vec<Volume<f32>> = Vec::with_capacity(self.images.len());
        for path in &self.images {
            for volume in read_channels(path)? {
                check_finite(path, &volume.data)?;
                if let Some(first) = channels.first() {
                    let (geometry, first) = (&volume.geometry, &first.geometry);
                    let ignore = options.ignore_geometry;
                    check_placement(path, geometry, &self.images[0], first, ignore)?;
                }
                channels.push(volume);
            }
        }
        if channels.is_empty() {
            return Err(DataError::invalid(
                &self.id,
                "this case has no image",
                "give at least one channel",
            ));
        }
        Ok(channels)
    }
}

impl Dataset {
    /// Reads a training case: all channels and the label map, on one grid and with declared values only.
    ///
    /// # Errors
    /// As [`Case::read_images`], and when there are more or fewer channels than declared, there is no label map, or it
    /// cannot be read, lies on another grid or holds a value that the dataset does not declare.
    pub fn read_case(&self, case: &Case) -> Result<(Vec<Volume<f32>>, Volume<u16>)> {
        let images = case.read_images(&self.options)?;
        check_channels(case, images.len(), self.channel_names.len())?;
        let path = case.label.as_ref().ok_or_else(|| {
            DataError::invalid(
                &case.images[0],
                "has no label map",
                "add the label map or move the image out of the training folder",
            )
        })?;
        let labels = self.read_labels(path)?;
        let (geometry, first) = (&labels.geometry, &images[0].geometry);
        let ignore = self.options.ignore_geometry;
        check_placement(path, geometry, &case.images[0], first, ignore)?;
        self.check_declared(path, &labels.data)?;
        Ok((images, labels))
    }

    /// Reads a label map, with its values remapped where [`ReadOptions::remap_labels`] says so.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else than whole numbers from 0 to 65535.
    pub fn read_labels(&self, path: &Path) -> Result<Volume<u16>> {
        let mut labels = formats::read_labels(path)?;
        if let Some(remap) = &self.options.remap_labels {
            remap.apply(&mut labels.data);
        }
        Ok(labels)
    }

    /// Refuses label values that stand for no class, listing them.
    pub(crate) fn check_declared(&self, path: &Path, labels: &Array3<u16>) -> Result<()> {
        let foreign: Vec<u16> = count_values(labels)
            .into_keys()
            .filter(|&value| !self.declares(value))
            .collect();
        if foreign.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = foreign.iter().take(10).map(u16::to_string).collect();
        let more = if foreign.len() > 10 { ", ..." } else { "" };
        let declared = self
            .classes
            .iter()
            .map(|class| class.value)
            .chain(self.ignore_label);
        let declared: Vec<String> = declared.map(|value| value.to_string()).collect();
        Err(DataError::invalid(
            path,
            format!(
                "holds undeclared label values {}{more} (declared: {})",
                shown.join(", "),
                declared.join(", ")
            ),
            "declare them, correct the label map, or have them read as others with --remap-labels",
        ))
    }
}

/// Refuses a case with more or fewer channels than the dataset or the model has.
pub(crate) fn check_channels(case: &Case, found: usize, wanted: usize) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    let file = case.images.first().map_or(Path::new(&case.id), |p| p);
    Err(DataError::invalid(
        file,
        format!(
            "case {} has {found} channels where {wanted} are wanted",
            case.id
        ),
        "give every case the same channels, as files of one each or in one 4D file",
    ))
}

/// The values that occur, in ascending order, and how often each does.
pub(crate) fn count_values(labels: &Array3<u16>) -> BTreeMap<u16, u64> {
    let mut counts = vec![0; 1 << 16];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    (0..=u16::MAX)
        .zip(counts)
        .filter(|&(_, count)| count > 0)
        .collect()
}

/// Refuses NaN and infinite values, counting them.
pub(crate) fn check_finite(path: &Path, data: &Array3<f32>) -> Result<()> {
    let bad = data.iter().filter(|value| !value.is_finite()).count();
    if bad == 0 {
        return Ok(());
    }
    Err(DataError::invalid(
        path,
        format!(
            "holds {bad} voxels of {} that are NaN or infinite",
            data.len()
        ),
        "replace them with the value of the background and save again",
    ))
}
