//! Writing: into a temporary file beside the target, renamed when complete, so that no reader sees half a volume.

use std::io;
use std::path::Path;

use nifti::NiftiError;
use nifti::writer::WriterOptions;

use super::ending_of;
use super::header::header_for;
use crate::error::{DataError, Result};
use crate::files;
use crate::volume::{Geometry, Volume};

/// Writes an image as float32.
///
/// The affine, its transform codes are those of the file that the geometry was read from. The ending of
/// `path` decides on compression. A file already at `path` is replaced as a whole.
///
/// # Errors
/// When `path` ends in neither `.nii` nor `.nii.gz`, an axis is longer than NIfTI-1 can count, or writing fails.
pub fn write_image(path: &Path, volume: &Volume<f32>) -> Result<()> {
    write(path, &volume.geometry, |writer| {
        writer.write_nifti(&volume.data.t())
    })
}

/// Writes CT values as int16, the type scanners use; the demonstration cohort is made of them.
pub(crate) fn write_hounsfield(path: &Path, volume: &Volume<i16>) -> Result<()> {
    write(path, &volume.geometry, |writer| {
        writer.write_nifti(&volume.data.t())
    })
}

/// Writes a label map as uint8 where its values allow, else as uint16. Otherwise as [`write_image`].
///
/// # Errors
/// As [`write_image`].
pub fn write_labels(path: &Path, volume: &Volume<u16>) -> Result<()> {
    let labels = &volume.data;
    write(path, &volume.geometry, |writer| {
        if labels.iter().all(|&label| label < 256) {
            let bytes = labels.mapv(|label| label as u8);
            writer.write_nifti(&bytes.t())
        } else {
            writer.write_nifti(&labels.t())
        }
    })
}

fn write(
    path: &Path,
    geometry: &Geometry,
    voxels: impl FnOnce(WriterOptions) -> nifti::Result<()>,
) -> Result<()> {
    let Some(ending) = ending_of(path) else {
        return Err(DataError::invalid(
            path,
            "volumes are written as .nii or .nii.gz",
            "choose one of these endings",
        ));
    };
    if let Some(axis) = geometry
        .shape
        .iter()
        .find(|&&n| n == 0 || n > i16::MAX as usize)
    {
        return Err(DataError::invalid(
            path,
            format!("an axis of {axis} voxels cannot be stored in NIfTI-1 (1 to 32767)"),
            "crop or resample the volume",
        ));
    }
    let header = header_for(geometry);
    files::replace(path, ending, |temporary| {
        voxels(WriterOptions::new(temporary).reference_header(&header)).map_err(|error| match error
        {
            NiftiError::Io(error) => error,
            other => io::Error::other(other.to_string()),
        })
    })
}
