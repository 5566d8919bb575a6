//! Reading: header first, then the voxels as a stream, decoded chunk by chunk into the array that is returned.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ndarray::Array3;
use nifti::{Endianness, NiftiType};

use super::header::{HEADER_BYTES, Header};
use crate::error::{DataError, Result};
use crate::volume::{Geometry, Volume};

/// Bytes decoded at a time; a multiple of every voxel size, small enough to stay in cache.
const CHUNK_BYTES: usize = 1 << 18;
/// No deflate stream expands further than this, so a larger volume cannot be in the file.
const LARGEST_EXPANSION: u64 = 1040;
/// How far a label may lie from a whole number: scaled integers (`slope · v`) are rounded to f32 in some headers.
const LABEL_TOLERANCE: f64 = 1e-3;

/// Reads shape and position of a volume without its voxels.
///
/// # Errors
/// When the file is missing or is not a NIfTI-1 volume.
pub fn read_geometry(path: &Path) -> Result<Geometry> {
    Ok(Source::open(path)?.header.geometry)
}

/// Reads an image as real values, `scl_slope` and `scl_inter` applied. Values that are not finite are kept.
///
/// # Errors
/// When the file is missing, is not a NIfTI-1 volume of real numbers, or is truncated or damaged.
pub fn read_image(path: &Path) -> Result<Volume<f32>> {
    Source::open(path)?.volume(|value| Ok(value as f32))
}

/// Reads a label map of any voxel type that holds whole numbers from 0 to 65535.
///
/// # Errors
/// As [`read_image`], and when a value is not finite, negative, too large or not a whole number.
pub fn read_labels(path: &Path) -> Result<Volume<u16>> {
    Source::open(path)?.volume(|value| {
        let whole = value.round();
        if (value - whole).abs() <= LABEL_TOLERANCE && (0.0..=65535.0).contains(&whole) {
            Ok(whole as u16)
        } else {
            Err(DataError::invalid(
                path,
                format!("holds the value {value}, but labels are whole numbers from 0 to 65535"),
                "save the label map as integers (no interpolation, no probabilities)",
            ))
        }
    })
}

/// An opened file whose header has been read and believed.
struct Source<'a> {
    path: &'a Path,
    header: Header,
    stream: Box<dyn Read>,
    compressed: bool,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                DataError::invalid(path, "there is no such file", "check the path")
            }
            _ => DataError::io(path, error),
        })?;
        let length = file.metadata().map_err(|e| DataError::io(path, e))?.len();
        let mut file = BufReader::with_capacity(1 << 16, file);
        let start = file.fill_buf().map_err(|e| DataError::io(path, e))?;
        if start.is_empty() {
            return Err(truncated(path, "the file is empty"));
        }
        let compressed = start.starts_with(&[0x1f, 0x8b]);
        if !compressed && path.extension().is_some_and(|e| e == "gz") {
            let kind = if is_text(start) {
                "a text file"
            } else {
                "not gzip-compressed"
            };
            return Err(DataError::invalid(
                path,
                format!("is named .gz but is {kind}"),
                "export the volume again as .nii.gz (or rename it to .nii if it is uncompressed)",
            ));
        }
        let mut stream: Box<dyn Read> = if compressed {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };

        let mut bytes = [0; HEADER_BYTES];
        stream
            .read_exact(&mut bytes)
            .map_err(|e| broken(path, e, "inside the header"))?;
        let header = Header::parse(path, &bytes)?;

        // Refuse a volume that the file cannot hold before any memory is asked for.
        let room = if compressed {
            length.saturating_mul(LARGEST_EXPANSION)
        } else {
            length
        };
        let needed = header
            .voxel_bytes()
            .and_then(|bytes| bytes.checked_add(header.first_voxel));
        if needed.is_none_or(|needed| needed > room) {
            let [d, h, w] = header.geometry.shape;
            return Err(truncated(
                path,
                &format!(
                    "its header declares {d} × {h} × {w} voxels of {} bytes, the file holds {length} bytes",
                    header.voxel_type.size_of()
                ),
            ));
        }
        Ok(Source {
            path,
            header,
            stream,
            compressed,
        })
    }

    /// Decodes all voxels through `convert`, which receives the scaled value.
    fn volume<T>(mut self, convert: impl Fn(f64) -> Result<T>) -> Result<Volume<T>> {
        let skip = self.header.first_voxel - HEADER_BYTES as u64;
        io::copy(&mut self.stream.by_ref().take(skip), &mut io::sink())
            .map_err(|e| broken(self.path, e, "before the first voxel"))?;

        let geometry = self.header.geometry;
        let mut remaining = geometry.voxels();
        let mut voxels = Vec::new();
        voxels.try_reserve_exact(remaining).map_err(|_| {
            DataError::invalid(
                self.path,
                format!("{remaining} voxels do not fit into memory"),
                "crop the volume or use a machine with more memory",
            )
        })?;
        let size = self.header.voxel_type.size_of();
        let scaled = |value: f64| match self.header.scaling {
            Some((slope, intercept)) => convert(value * slope + intercept),
            None => convert(value),
        };
        let mut buffer = vec![0; CHUNK_BYTES.min(remaining * size)];
        while remaining > 0 {
            let count = remaining.min(CHUNK_BYTES / size);
            let chunk = &mut buffer[..count * size];
            self.stream
                .read_exact(chunk)
                .map_err(|e| broken(self.path, e, &format!("with {remaining} voxels missing")))?;
            decode(
                chunk,
                self.header.voxel_type,
                self.header.endianness,
                &scaled,
                &mut voxels,
            )?;
            remaining -= count;
        }
        if self.compressed {
            // The checksum stands at the end of the stream; damage that still decodes is found only there.
            io::copy(&mut self.stream, &mut io::sink())
                .map_err(|e| broken(self.path, e, "after the last voxel"))?;
        }
        let data = Array3::from_shape_vec(geometry.shape, voxels)
            .map_err(|e| DataError::invalid(self.path, e.to_string(), "export the volume again"))?;
        Ok(Volume { data, geometry })
    }
}

/// Appends the voxels of `bytes` to `out`.
fn decode<T>(
    bytes: &[u8],
    voxel_type: NiftiType,
    endianness: Endianness,
    convert: &impl Fn(f64) -> Result<T>,
    out: &mut Vec<T>,
) -> Result<()> {
    macro_rules! decode_as {
        ($type:ty) => {{
            let big = endianness == Endianness::Big;
            for voxel in bytes.chunks_exact(size_of::<$type>()) {
                let mut raw = [0; size_of::<$type>()];
                raw.copy_from_slice(voxel);
                let value = if big {
                    <$type>::from_be_bytes(raw)
                } else {
                    <$type>::from_le_bytes(raw)
                };
                out.push(convert(value as f64)?);
            }
        }};
    }
    match voxel_type {
        NiftiType::Uint8 => decode_as!(u8),
        NiftiType::Int8 => decode_as!(i8),
        NiftiType::Uint16 => decode_as!(u16),
        NiftiType::Int16 => decode_as!(i16),
        NiftiType::Uint32 => decode_as!(u32),
        NiftiType::Int32 => decode_as!(i32),
        NiftiType::Uint64 => decode_as!(u64),
        NiftiType::Int64 => decode_as!(i64),
        NiftiType::Float32 => decode_as!(f32),
        NiftiType::Float64 => decode_as!(f64),
        other => unreachable!("voxel type {other:?} was refused with the header"),
    }
    Ok(())
}

/// An error of the stream: the operating system's own, or the end of a file that should go on.
fn broken(path: &Path, error: io::Error, place: &str) -> DataError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        UnexpectedEof => truncated(path, &format!("the file ends {place}")),
        InvalidData | InvalidInput => truncated(path, &format!("{error} {place}")),
        _ => DataError::io(path, error),
    }
}

fn truncated(path: &Path, problem: &str) -> DataError {
    DataError::invalid(
        path,
        format!("truncated or damaged: {problem}"),
        "copy or download the file again",
    )
}

/// Whether a file that should be binary is readable by a person.
fn is_text(start: &[u8]) -> bool {
    let start = &start[..start.len().min(512)];
    start
        .iter()
        .all(|&byte| byte >= b' ' || matches!(byte, b'\n' | b'\r' | b'\t'))
}
