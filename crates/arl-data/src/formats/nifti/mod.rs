//! NIfTI-1 and NIfTI-2 volumes: single files (`.nii`, `.nii.gz`) and pairs (`.hdr`, `.img`) in, NIfTI-1 out.
//!
//! Follows nibabel where the standard leaves room: the affine comes from the sform if its code is set, else from the
//! qform, else from the voxel sizes alone; `scl_slope` and `scl_inter` are applied unless the slope is 0 or not a
//! number. Every integer and float type up to 64 bits is read, in both byte orders. Beyond nibabel, a header in metres
//! or micrometres is turned into mm (as ITK does), and an axis of several voxels without a size is refused.

mod fields;
mod header;
mod transforms;
mod write;

pub(super) use fields::is_header;
pub(super) use header::parse;
pub(crate) use write::write_hounsfield;
pub use write::{write_image, write_labels};
