//! 3D medical image datasets: reading, checking, planning, caching, patches, augmentation and scores.
//!
//! Arrays are `[D, H, W]` (NIfTI's `[k, j, i]`), spacing is in mm in the same order.
//! The way of a case: [`dataset`] finds its files, [`formats`] reads them, [`fingerprint`] and [`plan`] decide how,
//! [`preprocess`] crops, normalises and resamples, [`cache`] keeps the result on disk, [`sampler`] chooses where to cut,
//! [`augment`] varies what is cut, and [`loader`] makes batches of it. [`metrics`] scores label maps. [`check`] names every
//! fault of a dataset, [`orientation`] and [`resample_to`] bring a volume onto other axes and grids, and [`phantom`]
//! makes a dataset where there is none:
//!
//! ```
//! use arl_data::{Dataset, check::check, phantom::{CohortConfig, write_cohort}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let cohort = CohortConfig { training: 2, test: 0, shape: [16, 24, 24], spacing: [7.5, 4.0, 4.0], ..Default::default() };
//! write_cohort(folder.path(), &cohort, &|_, _| {})?;
//!
//! let dataset = Dataset::open(folder.path())?;
//! assert_eq!(check(&dataset, &|_, _| {}).errors(), 0);
//! let (images, labels) = dataset.read_case(&dataset.training[0])?;
//! assert_eq!(images[0].data.dim(), (16, 24, 24));
//! images[0].geometry.matches(&labels.geometry)?;
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

mod affine;
pub mod augment;
pub mod cache;
pub mod check;
pub mod dataset;
pub mod distance_transform;
pub mod error;
pub mod files;
pub mod fingerprint;
pub mod formats;
mod in_parallel;
pub mod loader;
mod memory_budget;
pub mod metrics;
pub mod orientation;
pub mod phantom;
pub mod plan;
pub mod preprocess;
pub mod resample;
pub mod resample_to;
pub mod sampler;
pub mod split;
mod statistics;
#[cfg(feature = "burn")]
pub mod tensor;
pub mod volume;

pub use dataset::{Case, Dataset, LabelClass, LabelRemap, Layout, ReadOptions, Region};
pub use error::{DataError, Result};
pub use volume::{Geometry, Volume};
