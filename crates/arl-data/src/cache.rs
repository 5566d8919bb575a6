//! Preprocessed cases on disk, in compressed chunks with checksums, from which patches are read.
//!
//! Each case is one file, `<id>.arlcache`. A file is used again as long as the source files (size and time of last
//! change), what the plan says about preprocessing and the number format are the same; otherwise it is made anew. A file is
//! whole or absent: a run that was killed leaves only a temporary file, which the next one removes.
//!
//! Patches are read with ordinary reads into the caller's memory, so the memory of a training does not grow with its
//! dataset; what the operating system keeps of the files, it takes back when it needs to. Measured beside a memory map of
//! plain f32 (numpy) and blosc2 files as nnU-Net v2 writes them (`benches/data/patches.rs`, a busy machine of two cores, one
//! thread, random patches of 128³ from a resampled CT of 256 × 384 × 384 voxels, best of two runs):
//!
//! | | MB on disk | patches per second, cold | warm |
//! |---|---|---|---|
//! | this, f32 | 59 | 32 | 56 |
//! | this, f16 | 29 | 51 | 80 |
//! | blosc2 | 54 | 17 | 58 |
//! | memory map | 226 | 7 | 45 |

mod build;
mod case;
mod chunk;
mod dtype;
mod file;
mod locations;
mod lock;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

pub use case::CachedCase;
pub use dtype::CacheDtype;

use crate::dataset::Dataset;
use crate::in_parallel::in_parallel;
use crate::memory_budget::{DEFAULT_MEMORY, MemoryBudget};
use crate::plan::Plan;
use crate::{DataError, Result};
use build::Target;
use lock::DirectoryLock;

/// How a cache is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// The number format of intensities.
    pub dtype: CacheDtype,
    /// Bytes of memory that the cases preprocessed at the same time share. A case that needs more is preprocessed alone.
    pub memory: u64,
}

impl Default for CacheOptions {
    /// f32, and 4 GiB.
    fn default() -> Self {
        Self {
            dtype: CacheDtype::default(),
            memory: DEFAULT_MEMORY,
        }
    }
}

/// The preprocessed training cases of a dataset.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    cases: Vec<CachedCase>,
}

impl Cache {
    /// Opens the cache of the training cases in `directory`, preprocessing those that are missing, outdated or damaged.
    ///
    /// A case that is there is opened without reading its voxels. `on_case(done, total)` is called from several threads,
    /// once for what is there and once per case that is made.
    ///
    /// # Errors
    /// A case without label, a source file that cannot be read, a directory that cannot be written. The cases that were
    /// finished before stay.
    pub fn open_or_build(
        directory: &Path,
        dataset: &Dataset,
        plan: &Plan,
        options: &CacheOptions,
        on_case: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|error| DataError::io(directory, error))?;
        let plan_text = preprocessing_text(dataset, plan);
        let targets: Vec<Target<'_>> = dataset
            .training
            .iter()
            .map(|case| Target::new(directory, case, &plan_text, options.dtype))
            .collect::<Result<_>>()?;
        let mut cases: Vec<_> = targets.par_iter().map(Target::open).collect();
        if cases.iter().any(Option::is_none) {
            let lock = DirectoryLock::take(directory)?;
            lock.remove_leftovers(directory)?;
            build_missing(&targets, &mut cases, dataset, plan, options, on_case)?;
        } else if !cases.is_empty() {
            on_case(cases.len(), cases.len());
        }
        Ok(Self {
            directory: directory.to_owned(),
            cases: cases.into_iter().flatten().collect(),
        })
    }

    /// The cases, in the order of [`Dataset::training`].
    pub fn cases(&self) -> &[CachedCase] {
        &self.cases
    }

    /// Bytes of the files.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn bytes(&self) -> Result<u64> {
        let length = |case: &CachedCase| {
            let metadata = std::fs::metadata(case.path());
            Ok(metadata
                .map_err(|error| DataError::io(case.path(), error))?
                .len())
        };
        self.cases.iter().map(length).sum()
    }

    /// Where the files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Preprocesses what is `None`, in parallel.
fn build_missing(
    targets: &[Target<'_>],
    cases: &mut [Option<CachedCase>],
    dataset: &Dataset,
    plan: &Plan,
    options: &CacheOptions,
    on_case: &(dyn Fn(usize, usize) + Sync),
) -> Result<()> {
    let total = cases.len();
    let missing: Vec<usize> = (0..total).filter(|&i| cases[i].is_none()).collect();
    let present = total - missing.len();
    if present > 0 {
        on_case(present, total);
    }
    let budget = MemoryBudget::new(options.memory);
    let done = AtomicUsize::new(present);
    let built = in_parallel(missing.len(), |at| {
        let target = &targets[missing[at]];
        // Another process may have made it while this one waited for the lock.
        let cached = match target.open_again() {
            Some(cached) => cached,
            None => target.build(dataset, plan, options, &budget)?,
        };
        on_case(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(cached)
    })?;
    for (index, case) in missing.into_iter().zip(built) {
        cases[index] = Some(case);
    }
    Ok(())
}

/// The labels of each class that patches are centred on: the background, then the regions, or the classes without them.
fn sampled_labels(plan: &Plan) -> Vec<Vec<u16>> {
    if plan.regions.is_empty() {
        return plan.classes.iter().map(|class| vec![class.value]).collect();
    }
    let regions = plan.regions.iter().map(|region| region.values.clone());
    std::iter::once(vec![0]).chain(regions).collect()
}

/// What preprocessing takes from the plan and from how the dataset is read, as text: the same text gives the same cache.
fn preprocessing_text(dataset: &Dataset, plan: &Plan) -> String {
    serde_json::json!({
        "target_spacing": plan.target_spacing,
        "normalization": plan.normalization,
        "use_mask_for_norm": plan.use_mask_for_norm,
        "classes": plan.classes,
        "regions": plan.regions,
        "remap_labels": dataset.options.remap_labels,
        "ignore_label": plan.ignore_label,
    })
    .to_string()
}
