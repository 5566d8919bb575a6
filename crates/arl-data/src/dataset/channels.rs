//! A file's channels: a 4D volume holds several.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{DataError, Result};
use crate::nifti::read_image;
use crate::volume::Volume;

const HEADER_BYTES: usize = 348;
const FIRST_VOXEL: usize = 352;

/// Reads a volume of three dimensions as one channel, and of four as one channel per index of the last.
///
/// # Errors
/// As [`read_image`].
pub(crate) fn read_channels(path: &Path) -> Result<Vec<Volume<f32>>> {
    let failed = |error| DataError::io(path, error);
    match four_dimensional(path) {
        Some((header, voxels, channels)) => split(path, &header, &voxels, channels)
            .map_err(failed)?
            .iter()
            .map(|file| {
                read_image(file.path()).map_err(|error| match error {
                    DataError::Invalid { message, cure, .. } => {
                        DataError::invalid(path, message, cure)
                    }
                    other => other,
                })
            })
            .collect(),
        None => Ok(vec![read_image(path)?]),
    }
}

/// Header, voxels and number of channels of a 4D NIfTI-1 file; `None` for anything else, which `read_image` judges.
fn four_dimensional(path: &Path) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let mut start = [0; 2];
    File::open(path).ok()?.read_exact(&mut start).ok()?;
    let file = File::open(path).ok()?;
    let mut stream: Box<dyn Read> = if start == [0x1f, 0x8b] {
        Box::new(MultiGzDecoder::new(io::BufReader::new(file)))
    } else {
        Box::new(io::BufReader::new(file))
    };
    let mut header = vec![0; HEADER_BYTES];
    stream.read_exact(&mut header).ok()?;
    let little = header.starts_with(&348i32.to_le_bytes());
    if !little && !header.starts_with(&348i32.to_be_bytes()) {
        return None;
    }
    let number = |header: &[u8], at: usize| {
        let bytes = [header[at], header[at + 1]];
        if little {
            i16::from_le_bytes(bytes)
        } else {
            i16::from_be_bytes(bytes)
        }
    };
    let (dimensions, channels) = (number(&header, 40), number(&header, 48));
    if dimensions != 4 || channels < 2 {
        return None;
    }
    let mut offset = [0; 4];
    offset.copy_from_slice(&header[108..112]);
    let offset = if little {
        f32::from_le_bytes(offset)
    } else {
        f32::from_be_bytes(offset)
    };
    let skip = (offset as u64).saturating_sub(HEADER_BYTES as u64);
    io::copy(&mut stream.by_ref().take(skip), &mut io::sink()).ok()?;
    let mut voxels = Vec::new();
    stream.read_to_end(&mut voxels).ok()?;
    let put = |header: &mut [u8], at: usize, value: i16| {
        let bytes = if little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        };
        header[at..at + 2].copy_from_slice(&bytes);
    };
    put(&mut header, 40, 3);
    put(&mut header, 48, 1);
    let offset = FIRST_VOXEL as f32;
    header[108..112].copy_from_slice(&if little {
        offset.to_le_bytes()
    } else {
        offset.to_be_bytes()
    });
    Some((header, voxels, usize::try_from(channels).ok()?))
}

/// A file of three dimensions for each channel.
fn split(
    path: &Path,
    header: &[u8],
    voxels: &[u8],
    channels: usize,
) -> io::Result<Vec<tempfile::NamedTempFile>> {
    if voxels.is_empty() || !voxels.len().is_multiple_of(channels) {
        return Err(io::Error::other(format!(
            "{} is truncated: its voxels do not divide by its {channels} channels",
            path.display()
        )));
    }
    let parts = voxels.chunks(voxels.len() / channels);
    parts
        .map(|part| {
            let mut file = tempfile::Builder::new().suffix(".nii").tempfile()?;
            file.write_all(header)?;
            file.write_all(&[0; FIRST_VOXEL - HEADER_BYTES])?;
            file.write_all(part)?;
            file.flush()?;
            Ok(file)
        })
        .collect()
}
