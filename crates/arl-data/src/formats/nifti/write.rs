//! Writing: into a temporary file beside the target, renamed when complete, so that no reader sees half a volume.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use ndarray::Array3;

use super::fields::HEADER_BYTES;
use super::transforms::HeaderTransforms;
use crate::error::{DataError, Result};
use crate::files;
use crate::formats::{WRITTEN_ENDINGS, ending_among};
use crate::volume::{Geometry, Volume};

/// First byte after the header and the four bytes that announce extensions.
const FIRST_VOXEL: usize = 352;
/// Unit code "mm" of `xyzt_units`.
const MILLIMETRES: u8 = 2;
/// Voxels written at a time.
const PIECE_VOXELS: usize = 1 << 16;

/// Writes an image as float32.
///
/// The affine, its transform codes are those of the file that the geometry was read from. The ending of
/// `path` decides on compression. A file already at `path` is replaced as a whole.
///
/// # Errors
/// When `path` ends in neither `.nii` nor `.nii.gz`, an axis is longer than NIfTI-1 can count, or writing fails.
pub fn write_image(path: &Path, volume: &Volume<f32>) -> Result<()> {
    write(path, &volume.geometry, &volume.data, 16, f32::to_le_bytes)
}

/// Writes CT values as int16, the type scanners use; the demonstration cohort is made of them.
pub(crate) fn write_hounsfield(path: &Path, volume: &Volume<i16>) -> Result<()> {
    write(path, &volume.geometry, &volume.data, 4, i16::to_le_bytes)
}

/// Writes a label map as uint8 where its values allow, else as uint16. Otherwise as [`write_image`].
///
/// # Errors
/// As [`write_image`].
pub fn write_labels(path: &Path, volume: &Volume<u16>) -> Result<()> {
    let Volume { data, geometry } = volume;
    if data.iter().all(|&label| label < 256) {
        write(path, geometry, data, 2, |label| [label as u8])
    } else {
        write(path, geometry, data, 512, u16::to_le_bytes)
    }
}

fn write<T: Copy, const SIZE: usize>(
    path: &Path,
    geometry: &Geometry,
    data: &Array3<T>,
    datatype: i16,
    to_le_bytes: impl Fn(T) -> [u8; SIZE],
) -> Result<()> {
    let Some(ending) = ending_among(&WRITTEN_ENDINGS, path) else {
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
    let header = header_bytes(geometry, datatype, SIZE);
    let data = data.as_standard_layout();
    let voxels = |out: &mut dyn Write| -> io::Result<()> {
        out.write_all(&header)?;
        let mut bytes = Vec::with_capacity(SIZE * PIECE_VOXELS.min(data.len()));
        for piece in data.as_slice().unwrap_or_default().chunks(PIECE_VOXELS) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|&voxel| to_le_bytes(voxel)));
            out.write_all(&bytes)?;
        }
        Ok(())
    };
    files::replace(path, ending, |temporary| {
        let mut file = BufWriter::new(File::create(temporary)?);
        if ending.ends_with(".gz") {
            let mut compressed = GzEncoder::new(&mut file, Compression::fast());
            voxels(&mut compressed)?;
            compressed.finish()?;
        } else {
            voxels(&mut file)?;
        }
        file.flush()
    })
}

/// A little-endian header and the four bytes that announce no extension.
fn header_bytes(geometry: &Geometry, datatype: i16, voxel_bytes: usize) -> [u8; FIRST_VOXEL] {
    let transforms = HeaderTransforms::describe(geometry);
    let mut bytes = [0; FIRST_VOXEL];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let [d, h, w] = geometry.shape.map(|n| n as i16);
    put(0, &(HEADER_BYTES as i32).to_le_bytes());
    for (axis, length) in [3, w, h, d, 1, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * axis, &length.to_le_bytes());
    }
    put(70, &datatype.to_le_bytes());
    put(72, &(8 * voxel_bytes as i16).to_le_bytes());
    let mut put_real = |at: usize, value: f64| put(at, &(value as f32).to_le_bytes());
    let [qfac, x, y, z] = transforms.pixdim;
    for (axis, size) in [qfac, x, y, z, 1.0, 1.0, 1.0, 1.0].into_iter().enumerate() {
        put_real(76 + 4 * axis, size);
    }
    put_real(108, FIRST_VOXEL as f64);
    // Slope 1: a stored value is the value itself.
    put_real(112, 1.0);
    let quaternion_and_offset = transforms.quaternion.iter().chain(&transforms.offset);
    let rows = transforms.srow.iter().flatten();
    for (index, &value) in quaternion_and_offset.chain(rows).enumerate() {
        put_real(256 + 4 * index, value);
    }
    put(123, &[MILLIMETRES]);
    put(252, &transforms.qform_code.to_le_bytes());
    put(254, &transforms.sform_code.to_le_bytes());
    put(344, b"n+1\0");
    bytes
}
