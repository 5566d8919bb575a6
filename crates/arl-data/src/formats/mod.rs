//! Volumes in files: NIfTI, NRRD and MetaImage in, NIfTI-1 out, geometry kept.
//!
//! A file is recognised by its first bytes, so that a wrong ending does no harm; what cannot be recognised is named after
//! its ending. Whatever the format, memory grows with the voxels that were seen and never by what a header claims, a
//! compressed stream is read to its checksum, and every error is one line that names the file and the cure.
//!
//! The world is RAS+ in mm as in NIfTI: the LPS of NRRD and MetaImage is turned, and metres and micrometres of NIfTI
//! become mm. A file of several volumes (a fourth axis, vectors) becomes channels.

mod element;
mod gzip;
mod header;
mod huge_pages;
mod metaimage;
pub mod nifti;
mod nrrd;
mod source;
mod text;
mod voxels;
mod world;

use std::path::{Path, PathBuf};

pub(crate) use nifti::write_hounsfield;
pub use nifti::{write_image, write_labels};
pub use source::{Disk, Files, Input, Memory};

use crate::error::{DataError, Result};
use crate::volume::{Geometry, Volume};
use source::Source;

/// Endings of the volumes that can be read, longest first. Those of detached voxels (`.img`, `.raw`) are not among them:
/// their header names them.
pub const ENDINGS: [&str; 8] = [
    ".nii.gz", ".hdr.gz", ".nrrd", ".nhdr", ".nii", ".hdr", ".mha", ".mhd",
];

/// Endings of the volumes that can be written, longest first.
pub const WRITTEN_ENDINGS: [&str; 2] = [".nii.gz", ".nii"];

/// The ending of a volume's file name, or `None` for any other file.
pub fn ending_of(path: &Path) -> Option<&'static str> {
    ending_among(&ENDINGS, path)
}

fn ending_among(endings: &[&'static str], path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    endings
        .iter()
        .copied()
        .find(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// What a file's header says of its voxels.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeHeader {
    /// The grid of every channel.
    pub geometry: Geometry,
    /// Number of volumes in the file: the length of its fourth axis or of its vectors, else 1.
    pub channels: usize,
}

/// Reads shape, place and number of channels of a file without its voxels.
///
/// # Errors
/// When the file is missing, is in none of the formats, or cannot hold what its header declares.
pub fn read_header(path: &Path) -> Result<VolumeHeader> {
    read_header_from(&Disk, path)
}

/// Reads shape and place of a volume without its voxels.
///
/// # Errors
/// As [`read_header`], and when the file holds several channels.
pub fn read_geometry(path: &Path) -> Result<Geometry> {
    let header = read_header(path)?;
    one_channel(path, header.channels)?;
    Ok(header.geometry)
}

/// Reads every channel of a file as real values, scaling applied. Values that are not finite are kept.
///
/// # Errors
/// When the file is missing, is in none of the formats, holds other than integers and floats up to 64 bits, or is
/// truncated or damaged.
pub fn read_channels(path: &Path) -> Result<Vec<Volume<f32>>> {
    read_channels_from(&Disk, path)
}

/// Reads an image of one channel as real values, scaling applied. Values that are not finite are kept.
///
/// # Errors
/// As [`read_channels`], and when the file holds several channels.
pub fn read_image(path: &Path) -> Result<Volume<f32>> {
    let source = Source::open(&Disk, path)?;
    one_channel(path, source.header.channels)?;
    only(path, voxels::read(source)?)
}

/// Reads a label map of any voxel type that holds whole numbers from 0 to 65535.
///
/// # Errors
/// As [`read_image`], and when a value is not finite, negative, too large or not a whole number.
pub fn read_labels(path: &Path) -> Result<Volume<u16>> {
    read_labels_from(&Disk, path)
}

/// As [`read_header`], from any place that holds files.
///
/// # Errors
/// As [`read_header`].
pub fn read_header_from(files: &dyn Files, path: &Path) -> Result<VolumeHeader> {
    let header = Source::open(files, path)?.header;
    Ok(VolumeHeader {
        geometry: header.geometry,
        channels: header.channels,
    })
}

/// As [`read_channels`], from any place that holds files:
///
/// ```
/// use arl_data::formats::{Memory, read_channels_from};
///
/// let text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 1 1\nencoding: ascii\n\n7 -8\n";
/// let files: Memory = [("scan.nrrd".into(), text.into())].into();
/// let channels = read_channels_from(&files, "scan.nrrd".as_ref())?;
/// assert_eq!(channels[0].data.as_slice(), Some(&[7.0, -8.0][..]));
/// # Ok::<(), arl_data::DataError>(())
/// ```
///
/// # Errors
/// As [`read_channels`].
pub fn read_channels_from(files: &dyn Files, path: &Path) -> Result<Vec<Volume<f32>>> {
    voxels::read(Source::open(files, path)?)
}

/// As [`read_labels`], from any place that holds files.
///
/// # Errors
/// As [`read_labels`].
pub fn read_labels_from(files: &dyn Files, path: &Path) -> Result<Volume<u16>> {
    let source = Source::open(files, path)?;
    one_channel(path, source.header.channels)?;
    only(path, voxels::read(source)?)
}

/// The files that a volume lies in: its own, and the one of its voxels where they lie apart (`.img`, `.raw`).
///
/// # Errors
/// As [`read_header`].
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(Source::open(&Disk, path)?.files)
}

fn one_channel(path: &Path, channels: usize) -> Result<()> {
    if channels == 1 {
        return Ok(());
    }
    Err(DataError::invalid(
        path,
        format!("holds {channels} channels where one volume is expected"),
        "split it into one file per channel or time point (CASE_0000.nii.gz, CASE_0001.nii.gz, ...)",
    ))
}

fn only<T>(path: &Path, mut channels: Vec<Volume<T>>) -> Result<Volume<T>> {
    one_channel(path, channels.len())?;
    Ok(channels.swap_remove(0))
}
