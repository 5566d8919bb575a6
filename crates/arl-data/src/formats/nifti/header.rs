//! The 348-byte header: parsed by the `nifti` crate, then everything in it checked before it is believed.

use std::path::Path;

use nifti::{Endianness, NiftiError, NiftiHeader, NiftiType};

use super::transforms::HeaderTransforms;
use crate::error::{DataError, Result};
use crate::volume::{Geometry, TransformCodes};

/// Length of a NIfTI-1 header in bytes, and the value of its first field.
pub(super) const HEADER_BYTES: usize = 348;
/// First byte after the header and the four bytes that announce extensions.
const FIRST_VOXEL: u64 = 352;
/// Unit code "mm" of `xyzt_units`.
const MILLIMETRES: u8 = 2;

/// What a reader needs to know of a file before its voxels.
pub(super) struct Header {
    pub geometry: Geometry,
    pub voxel_type: NiftiType,
    pub endianness: Endianness,
    /// Offset of the first voxel from the start of the (uncompressed) file.
    pub first_voxel: u64,
    /// Stored value to real value: `slope · v + intercept`; `None` where the header asks for no scaling.
    pub scaling: Option<(f64, f64)>,
}

impl Header {
    /// Bytes of all voxels, or `None` when the header declares more than can be counted.
    pub fn voxel_bytes(&self) -> Option<u64> {
        let voxels = self
            .geometry
            .shape
            .iter()
            .try_fold(1u64, |product, &n| product.checked_mul(n as u64))?;
        voxels.checked_mul(self.voxel_type.size_of() as u64)
    }

    /// Parses and checks the header of the file at `path` (which is only named in errors).
    pub fn parse(path: &Path, bytes: &[u8; HEADER_BYTES]) -> Result<Header> {
        let not_nifti = || {
            DataError::invalid(
                path,
                "not a NIfTI-1 file (its header carries no NIfTI mark)",
                "export it as NIfTI-1",
            )
        };
        let size = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let size = [i32::from_le_bytes(size), i32::from_be_bytes(size)];
        if size.contains(&540) {
            return Err(DataError::invalid(
                path,
                "a NIfTI-2 file, which is not read",
                "convert it to NIfTI-1",
            ));
        }
        if !size.contains(&(HEADER_BYTES as i32)) {
            return Err(not_nifti());
        }
        let raw = NiftiHeader::from_reader(&bytes[..]).map_err(|error| match error {
            NiftiError::InvalidFormat => not_nifti(),
            other => DataError::invalid(path, other.to_string(), "export it as NIfTI-1"),
        })?;
        if raw.sizeof_hdr != HEADER_BYTES as i32 {
            return Err(not_nifti());
        }
        if &raw.magic == nifti::header::MAGIC_CODE_NI1 {
            return Err(DataError::invalid(
                path,
                "the header of a .hdr/.img pair, which is not read",
                "convert the pair to one .nii.gz",
            ));
        }

        let shape = shape(path, &raw.dim)?;
        let mut transforms = HeaderTransforms::from_header(&raw);
        if raw.dim[0] < 3 && (transforms.qform_code, transforms.sform_code) == (0, 0) {
            // The size along an axis that does not exist is 1, whatever is stored there.
            transforms.pixdim[1 + usize::from(raw.dim[0])..].fill(1.0);
        }
        let affine = transforms.affine(shape).map_err(|problem| {
            DataError::invalid(
                path,
                problem,
                "repair its orientation (sform or qform) or export it again",
            )
        })?;
        let voxel_type = raw.data_type().ok().filter(is_real).ok_or_else(|| {
            DataError::invalid(
                path,
                format!(
                    "voxel type code {} is no integer or float up to 64 bits",
                    raw.datatype
                ),
                "convert the volume to int16 or float32",
            )
        })?;
        Ok(Header {
            geometry: Geometry {
                shape,
                affine,
                codes: TransformCodes {
                    qform: raw.qform_code,
                    sform: raw.sform_code,
                },
            },
            voxel_type,
            endianness: raw.endianness,
            first_voxel: first_voxel(path, raw.vox_offset)?,
            scaling: scaling(path, raw.scl_slope, raw.scl_inter)?,
        })
    }
}

/// The header that places `geometry`; the writer fills in shape and voxel type.
pub(super) fn header_for(geometry: &Geometry) -> NiftiHeader {
    let transforms = HeaderTransforms::describe(geometry);
    let [qfac, x, y, z] = transforms.pixdim;
    NiftiHeader {
        pixdim: [qfac, x, y, z, 1.0, 1.0, 1.0, 1.0],
        qform_code: transforms.qform_code,
        sform_code: transforms.sform_code,
        quatern_b: transforms.quaternion[0],
        quatern_c: transforms.quaternion[1],
        quatern_d: transforms.quaternion[2],
        quatern_x: transforms.offset[0],
        quatern_y: transforms.offset[1],
        quatern_z: transforms.offset[2],
        srow_x: transforms.srow[0],
        srow_y: transforms.srow[1],
        srow_z: transforms.srow[2],
        xyzt_units: MILLIMETRES,
        endianness: Endianness::Little,
        ..NiftiHeader::default()
    }
}

impl HeaderTransforms {
    fn from_header(raw: &NiftiHeader) -> Self {
        HeaderTransforms {
            qform_code: raw.qform_code,
            sform_code: raw.sform_code,
            pixdim: [raw.pixdim[0], raw.pixdim[1], raw.pixdim[2], raw.pixdim[3]],
            quaternion: [raw.quatern_b, raw.quatern_c, raw.quatern_d],
            offset: [raw.quatern_x, raw.quatern_y, raw.quatern_z],
            srow: [raw.srow_x, raw.srow_y, raw.srow_z],
        }
    }
}

/// `[D, H, W]` from the header's `dim`; axes beyond the third may only have length 1.
fn shape(path: &Path, dim: &[u16; 8]) -> Result<[usize; 3]> {
    let bad = |problem: String| DataError::invalid(path, problem, "export the volume again");
    let axes = dim[0] as usize;
    if !(1..=7).contains(&axes) {
        return Err(bad(format!("its header declares {axes} dimensions")));
    }
    let lengths = &dim[1..=axes];
    // The standard stores signed numbers; what looks like 32768 or more is negative.
    if let Some(&length) = lengths.iter().find(|&&n| n == 0 || n > i16::MAX as u16) {
        return Err(bad(format!(
            "its header declares an axis of {} voxels",
            length as i16
        )));
    }
    if lengths.iter().skip(3).any(|&n| n != 1) {
        return Err(DataError::invalid(
            path,
            format!("has {axes} dimensions {lengths:?}, but a volume has three"),
            "split it into one file per channel or time point (CASE_0000.nii.gz, CASE_0001.nii.gz, ...)",
        ));
    }
    let length = |axis: usize| lengths.get(axis).map_or(1, |&n| n as usize);
    Ok([length(2), length(1), length(0)])
}

fn is_real(voxel_type: &NiftiType) -> bool {
    use NiftiType::*;
    matches!(
        voxel_type,
        Uint8 | Int8 | Uint16 | Int16 | Uint32 | Int32 | Uint64 | Int64 | Float32 | Float64
    )
}

fn first_voxel(path: &Path, offset: f32) -> Result<u64> {
    if offset == 0.0 {
        return Ok(FIRST_VOXEL);
    }
    // NaN fails the comparison too.
    if !(offset >= FIRST_VOXEL as f32 && offset.is_finite()) {
        return Err(DataError::invalid(
            path,
            format!("its header places the voxels at byte {offset}, inside the header"),
            "export the volume again",
        ));
    }
    Ok(offset as u64)
}

fn scaling(path: &Path, slope: f32, intercept: f32) -> Result<Option<(f64, f64)>> {
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
    Ok((slope != 1.0 || intercept != 0.0).then_some((slope as f64, intercept as f64)))
}
