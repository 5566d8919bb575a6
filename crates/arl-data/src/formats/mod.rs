//! Volumes in files, geometry kept: [`nifti`] in and out.

pub mod nifti;

pub(crate) use nifti::write_hounsfield;
pub(crate) use nifti::{ENDINGS, ending_of};
pub use nifti::{read_geometry, read_image, read_labels, write_image, write_labels};
