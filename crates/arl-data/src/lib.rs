//! 3D medical image datasets: reading, checking, planning, caching, patches and augmentation.
//!
//! Arrays are `[D, H, W]` (NIfTI's `[k, j, i]`), spacing is in mm in the same order.
//! The way of a case: [`dataset`] finds its files, [`nifti`] reads them, [`fingerprint`] and [`plan`] decide how,
//! [`preprocess`] crops, normalises and resamples, [`cache`] keeps the result on disk, and [`loader`] draws
//! augmented patches from it.
#![warn(missing_docs)]

pub mod error;
pub mod volume;

pub use error::{DataError, Result};
pub use volume::{Geometry, Volume};
