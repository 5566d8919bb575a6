//! Everything in a header is checked here before it is believed.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::element::Element;
use super::super::header::{Encoding, Header, Place, Skip};
use super::super::source::{broken, damaged};
use super::fields::{Fields, HEADER_BYTES, HEADER_BYTES_2, length_and_order};
use crate::error::{DataError, Result};
use crate::volume::{Geometry, TransformCodes};

/// Bytes after a header that announce extensions.
const EXTENSION_BYTES: usize = 4;

/// Reads and checks the header of the file at `path`, and says how many bytes it took.
pub(in super::super) fn parse(path: &Path, stream: &mut impl Read) -> Result<(Header, u64)> {
    let inside = |e| broken(path, e, "inside the header");
    let mut bytes = [0; HEADER_BYTES_2];
    stream
        .read_exact(&mut bytes[..HEADER_BYTES])
        .map_err(inside)?;
    let not_nifti = || {
        DataError::invalid(
            path,
            "not a NIfTI file (its header carries no NIfTI mark, as in ANALYZE 7.5)",
            "export it as NIfTI-1",
        )
    };
    let start = [bytes[0], bytes[1], bytes[2], bytes[3]];
    let (length, _) = length_and_order(start).ok_or_else(not_nifti)?;
    stream
        .read_exact(&mut bytes[HEADER_BYTES..length])
        .map_err(inside)?;
    let fields = Fields::read(&bytes[..length]).ok_or_else(not_nifti)?;

    let Axes { shape, channels } = axes(path, &fields.dim)?;
    let element = element(path, fields.datatype)?;
    let first_voxel = first_voxel(path, &fields, length)?;
    let header = Header {
        geometry: geometry(path, &fields, shape)?,
        channels,
        // Checked together with the size of the file.
        run: shape
            .iter()
            .fold(1, |product, &n| product.saturating_mul(n)),
        element,
        big_endian: fields.big_endian,
        scaling: scaling(path, fields.scl_slope, fields.scl_inter)?,
        encoding: Encoding::Raw,
        place: if fields.single_file {
            Place::Here
        } else {
            Place::Detached(image_files(path)?)
        },
        skipped_lines: 0,
        skip: Skip::Bytes(if fields.single_file {
            first_voxel - length as u64
        } else {
            first_voxel
        }),
    };
    Ok((header, length as u64))
}

struct Axes {
    /// `[D, H, W]`.
    shape: [usize; 3],
    channels: usize,
}

/// The axes of `dim`: one beyond the third may have a length other than 1, and counts channels.
fn axes(path: &Path, dim: &[i64; 8]) -> Result<Axes> {
    let bad = |problem: String| DataError::invalid(path, problem, "export the volume again");
    let axes = dim[0];
    if !(1..=7).contains(&axes) {
        return Err(bad(format!("its header declares {axes} dimensions")));
    }
    let lengths = &dim[1..=axes as usize];
    if let Some(length) = lengths.iter().find(|&&n| n < 1) {
        return Err(bad(format!(
            "its header declares an axis of {length} voxels"
        )));
    }
    let length = |axis: usize| match lengths.get(axis) {
        Some(&n) => usize::try_from(n).map_err(|e| bad(e.to_string())),
        None => Ok(1),
    };
    let mut channels = 1;
    for axis in 3..lengths.len() {
        if length(axis)? != 1 && channels != 1 {
            return Err(DataError::invalid(
                path,
                format!("has {axes} dimensions {lengths:?}, but channels are counted by one"),
                "split it into one file per channel or time point (CASE_0000.nii.gz, CASE_0001.nii.gz, ...)",
            ));
        }
        channels *= length(axis)?;
    }
    Ok(Axes {
        shape: [length(2)?, length(1)?, length(0)?],
        channels,
    })
}

fn geometry(path: &Path, fields: &Fields, shape: [usize; 3]) -> Result<Geometry> {
    let mut transforms = fields.transforms.clone();
    for axis in 0..3 {
        // The size along an axis that does not exist is 1, whatever is stored there.
        let absent = axis as i64 >= fields.dim[0];
        let unused = shape[2 - axis] == 1 && transforms.pixdim[1 + axis] == 0.0;
        if unused || absent && (transforms.qform_code, transforms.sform_code) == (0, 0) {
            transforms.pixdim[1 + axis] = 1.0;
        }
    }
    let bad = |problem| {
        DataError::invalid(
            path,
            problem,
            "repair its orientation (sform or qform) or export it again",
        )
    };
    let mut affine = transforms.affine(shape).map_err(bad)?;
    let millimetres = match fields.xyzt_units & 7 {
        1 => 1e3,
        3 => 1e-3,
        _ => 1.0,
    };
    for row in &mut affine[..3] {
        *row = row.map(|v| v * millimetres);
    }
    Ok(Geometry {
        shape,
        affine,
        codes: TransformCodes {
            qform: transforms.qform_code,
            sform: transforms.sform_code,
        },
    })
}

fn element(path: &Path, datatype: i16) -> Result<Element> {
    let (name, cure) = match datatype {
        2 => return Ok(Element::U8),
        4 => return Ok(Element::I16),
        8 => return Ok(Element::I32),
        16 => return Ok(Element::F32),
        64 => return Ok(Element::F64),
        256 => return Ok(Element::I8),
        512 => return Ok(Element::U16),
        768 => return Ok(Element::U32),
        1024 => return Ok(Element::I64),
        1280 => return Ok(Element::U64),
        32 | 1792 | 2048 => ("complex numbers", "save magnitude (and phase) as float32"),
        128 | 2304 => ("colours", "save one channel per colour or a grey image"),
        1536 => ("floats of 128 bits", "save them as float32"),
        1 => ("single bits", "save them as uint8"),
        _ => (
            "no integer or float up to 64 bits",
            "convert the volume to int16 or float32",
        ),
    };
    Err(DataError::invalid(
        path,
        format!("its voxels are {name} (voxel type code {datatype})"),
        cure,
    ))
}

fn first_voxel(path: &Path, fields: &Fields, length: usize) -> Result<u64> {
    let offset = fields.vox_offset;
    let least = match fields.single_file {
        true => (length + EXTENSION_BYTES) as u64,
        false => 0,
    };
    if offset == 0.0 {
        return Ok(least);
    }
    // NaN fails the comparison too.
    if !(offset >= least as f64 && offset.is_finite()) {
        return Err(DataError::invalid(
            path,
            format!("its header places the voxels at byte {offset}, inside the header"),
            "export the volume again",
        ));
    }
    Ok(offset as u64)
}

fn scaling(path: &Path, slope: f64, intercept: f64) -> Result<Option<(f64, f64)>> {
    if slope == 0.0 || !slope.is_finite() {
        return Ok(None);
    }
    if !intercept.is_finite() {
        return Err(DataError::invalid(
            path,
            format!("its header scales by {slope} but adds {intercept}"),
            "set scl_inter to 0 or export the volume again",
        ));
    }
    Ok((slope != 1.0 || intercept != 0.0).then_some((slope, intercept)))
}

/// Where the voxels of a header may lie: beside it, with the ending of images.
fn image_files(path: &Path) -> Result<Vec<PathBuf>> {
    let stem = path
        .to_str()
        .and_then(|path| path.strip_suffix(".hdr").or(path.strip_suffix(".hdr.gz")));
    match stem {
        Some(stem) => Ok([".img", ".img.gz"]
            .map(|ending| PathBuf::from(format!("{stem}{ending}")))
            .to_vec()),
        None => Err(damaged(
            path,
            "its header is that of a .hdr/.img pair, but it is not named .hdr",
        )),
    }
}
