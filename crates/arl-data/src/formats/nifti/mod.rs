//! NIfTI-1 volumes (`.nii`, `.nii.gz`) in and out, geometry kept.
//!
//! Follows nibabel where the standard leaves room: the affine comes from the sform if its code is set, else from the
//! qform, else from the voxel sizes alone; `scl_slope` and `scl_inter` are applied unless the slope is 0 or not a
//! number. Every integer and float type up to 64 bits is read, in both byte orders. Nothing is allocated that the
//! file could not fill, a gzip stream is read to its checksum, and every error names its file.

mod header;
mod read;
mod transforms;
mod write;

pub use read::{read_geometry, read_image, read_labels};
pub(crate) use write::write_hounsfield;
pub use write::{write_image, write_labels};

use std::path::Path;

/// Endings of the volumes that can be read and written, longest first.
pub(crate) const ENDINGS: [&str; 2] = [".nii.gz", ".nii"];

/// The ending of a volume's file name, or `None` for any other file.
pub(crate) fn ending_of(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    ENDINGS
        .into_iter()
        .find(|ending| name.len() > ending.len() && name.ends_with(ending))
}
