//! Preprocessed cases on disk, read through memory maps.
//!
//! Each case is one file, `<id>.arlcache`. A file is used again as long as the source files (size and time of last
//! change) and what the plan says about preprocessing are the same; otherwise it is made anew.

mod case;
mod file;
mod locations;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

pub use case::CachedCase;

use crate::dataset::{Case, Dataset};
use crate::plan::Plan;
use crate::preprocess::preprocess_case;
use crate::{DataError, Result};
use file::{Origin, Stamp};

/// Cases preprocessed at the same time. Each holds its volume several times over in memory.
const CASES_AT_ONCE: usize = 4;

/// The preprocessed training cases of a dataset.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    cases: Vec<CachedCase>,
}

impl Cache {
    /// Opens the cache of the training cases in `directory`, preprocessing those that are missing, outdated or damaged.
    ///
    /// Every file is read once to check it. `on_case(done, total)` is called from several threads, once per case.
    ///
    /// # Errors
    /// A case without label, a source file that cannot be read, a directory that cannot be written.
    pub fn open_or_build(
        directory: &Path,
        dataset: &Dataset,
        plan: &Plan,
        on_case: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|error| DataError::io(directory, error))?;
        let plan_text = preprocessing_text(dataset, plan);
        let total = dataset.training.len();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (next, done, failed) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicBool::new(false),
        );
        // Threads of our own rather than rayon's: a rayon worker that waits inside of one case may begin another,
        // and then more cases than meant are in memory at once.
        let work = || {
            let mut finished = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = dataset.training.get(index) else {
                    break;
                };
                let cached = open_or_build_case(directory, case, dataset, plan, &plan_text)
                    .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                finished.push((index, cached));
                on_case(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            }
            Ok(finished)
        };
        let results: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads.min(CASES_AT_ONCE).min(total))
                .map(|_| scope.spawn(work))
                .collect();
            handles
                .into_iter()
                .map(|handle| {
                    handle
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        let mut cases = Vec::with_capacity(total);
        for finished in results {
            cases.extend(finished?);
        }
        cases.sort_by_key(|&(index, _)| index);
        let cases = cases.into_iter().map(|(_, case)| case).collect();
        Ok(Self {
            directory: directory.to_owned(),
            cases,
        })
    }

    /// The cases, in the order of [`Dataset::training`].
    pub fn cases(&self) -> &[CachedCase] {
        &self.cases
    }

    /// Where the files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn open_or_build_case(
    directory: &Path,
    case: &Case,
    dataset: &Dataset,
    plan: &Plan,
    plan_text: &str,
) -> Result<CachedCase> {
    let path = directory.join(format!("{}.arlcache", case.id));
    // Taken before the files are read: a change during the reading then makes the cached case outdated.
    let origin = Origin {
        id: case.id.clone(),
        sources: case
            .images
            .iter()
            .chain(&case.label)
            .map(|source| stamp(source))
            .collect::<Result<_>>()?,
        plan: plan_text.to_owned(),
    };
    match file::open(&path, &origin) {
        Ok(Some(cached)) => return Ok(cached),
        Ok(None) => {}
        Err(damage) => tracing::warn!("{}: {damage}; preprocessing the case again", path.display()),
    }
    let preprocessed = preprocess_case(case, dataset, plan)?;
    let Some(labels) = preprocessed.labels else {
        let source = case.images.first().unwrap_or(&path);
        return Err(DataError::invalid(
            source,
            "the case has no label map",
            "training needs one: add it, or move the image to the test cases",
        ));
    };
    let groups = sampled_labels(plan);
    let seed = u64::from(crc32fast::hash(case.id.as_bytes()));
    let locations = locations::draw(&labels, &groups, locations::VOXELS_PER_CLASS, seed);
    file::write(
        &path,
        origin.clone(),
        &preprocessed.image,
        &labels,
        &locations,
    )?;
    match file::open(&path, &origin) {
        Ok(Some(cached)) => Ok(cached),
        Ok(None) => Err("another process has replaced it".to_owned()),
        Err(damage) => Err(damage),
    }
    .map_err(|problem| {
        DataError::invalid(
            &path,
            format!("the file just written cannot be used: {problem}"),
            "check the disk, and let only one process use this cache at a time",
        )
    })
}

fn stamp(source: &Path) -> Result<Stamp> {
    let failed = |error| DataError::io(source, error);
    let metadata = std::fs::metadata(source).map_err(failed)?;
    let modified = metadata.modified().map_err(failed)?;
    Ok(Stamp {
        name: source
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        bytes: metadata.len(),
        modified_ns: modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_nanos() as u64),
    })
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
        "classes": plan.classes,
        "regions": plan.regions,
        "remap_labels": dataset.options.remap_labels,
        "ignore_label": plan.ignore_label,
    })
    .to_string()
}
