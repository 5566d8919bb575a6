//! Reading a case whole, with every rule checked, so that no later step meets a fault.

use std::path::Path;

use ndarray::Array3;

use super::{Case, Dataset};
use crate::error::{DataError, Result};
use crate::formats::{read_image, read_labels};
use crate::volume::{Geometry, Volume};

impl Case {
    /// Reads all channels: on one grid, and every value a number.
    ///
    /// # Errors
    /// When a file cannot be read, a value is NaN or infinite, or the channels lie on different grids.
    pub fn read_images(&self) -> Result<Vec<Volume<f32>>> {
        let mut channels: Vec<Volume<f32>> = Vec::with_capacity(self.images.len());
        for path in &self.images {
            let volume = read_image(path)?;
            check_finite(path, &volume.data)?;
            if let Some(first) = channels.first() {
                check_same_size(path, &volume.geometry, &self.images[0], &first.geometry)?;
            }
            channels.push(volume);
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
    /// As [`Case::read_images`], and when there is no label map, or it cannot be read, lies on another grid or holds a
    /// value that the dataset does not declare.
    pub fn read_case(&self, case: &Case) -> Result<(Vec<Volume<f32>>, Volume<u16>)> {
        let images = case.read_images()?;
        let path = case.label.as_ref().ok_or_else(|| {
            DataError::invalid(
                &case.images[0],
                "has no label map",
                "add the label map or move the image out of the training folder",
            )
        })?;
        let labels = read_labels(path)?;
        check_same_size(path, &labels.geometry, &case.images[0], &images[0].geometry)?;
        self.check_declared(path, &labels.data)?;
        Ok((images, labels))
    }

    /// Refuses label values that stand for no class, listing them.
    pub(crate) fn check_declared(&self, path: &Path, labels: &Array3<u16>) -> Result<()> {
        let foreign: Vec<u16> = values(labels)
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
            "declare them in dataset.json or correct the label map",
        ))
    }
}

/// The values that occur, in ascending order.
pub(crate) fn values(labels: &Array3<u16>) -> impl Iterator<Item = u16> {
    let mut seen = vec![false; 1 << 16];
    for &label in labels {
        seen[usize::from(label)] = true;
    }
    (0..=u16::MAX).filter(move |&value| seen[usize::from(value)])
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

/// Refuses another shape or spacing than that of the case's first image.
pub(crate) fn check_same_size(
    path: &Path,
    geometry: &Geometry,
    first_path: &Path,
    first: &Geometry,
) -> Result<()> {
    geometry.same_size(first).map_err(|difference| {
        DataError::invalid(
            path,
            format!("{difference} of {}", first_path.display()),
            "resample it onto the image's grid",
        )
    })
}
