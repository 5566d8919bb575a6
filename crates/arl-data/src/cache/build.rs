//! Preprocessing a case into its file.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::case::CachedCase;
use super::file::{self, CaseWriter, ENDING, Header, Origin, Stamp};
use super::locations::{Draw, VOXELS_PER_CLASS};
use super::{CacheOptions, dtype::CacheDtype, sampled_labels};
use crate::dataset::{Case, Dataset};
use crate::formats::{files_of, read_header};
use crate::memory_budget::{MemoryBudget, estimate};
use crate::plan::Plan;
use crate::preprocess::Prepared;
use crate::resample::Resampler;
use crate::{DataError, Result};

/// Where a case is cached, and what from.
pub(super) struct Target<'a> {
    pub case: &'a Case,
    path: PathBuf,
    origin: Origin,
}

impl<'a> Target<'a> {
    /// Looks at the sources. Before they are read: a change during the reading then makes the cached case outdated.
    pub fn new(directory: &Path, case: &'a Case, plan: &str, dtype: CacheDtype) -> Result<Self> {
        let mut sources = Vec::new();
        for file in case.images.iter().chain(&case.label) {
            for source in files_of(file)? {
                sources.push(stamp(&source)?);
            }
        }
        Ok(Self {
            case,
            path: directory.join(format!("{}{ENDING}", case.id)),
            origin: Origin {
                id: case.id.clone(),
                sources,
                plan: plan.to_owned(),
                dtype,
            },
        })
    }

    /// The case, if its file is there and up to date. Damage is told.
    pub fn open(&self) -> Option<CachedCase> {
        file::open(&self.path, &self.origin).unwrap_or_else(|damage| {
            let path = self.path.display();
            tracing::warn!("{path}: {damage}; preprocessing the case again");
            None
        })
    }

    /// [`open`](Self::open) for the second time.
    pub fn open_again(&self) -> Option<CachedCase> {
        file::open(&self.path, &self.origin).ok().flatten()
    }

    /// Preprocesses the case when the budget has room for it.
    pub fn build(
        &self,
        dataset: &Dataset,
        plan: &Plan,
        options: &CacheOptions,
        budget: &MemoryBudget,
    ) -> Result<CachedCase> {
        let first = self.case.images.first().unwrap_or(&self.path);
        let geometry = read_header(first)?.geometry;
        let bytes = estimate(
            geometry.shape,
            geometry.spacing(),
            plan.channel_names.len(),
            plan.target_spacing,
            plan.use_mask_for_norm,
        );
        if bytes > options.memory {
            tracing::warn!(
                "{}: takes about {:.1} GiB of memory, more than the {:.1} GiB allowed; preprocessing it alone",
                first.display(),
                gib(bytes),
                gib(options.memory)
            );
        }
        let share = budget.take(bytes);
        let prepared = Prepared::read(self.case, dataset, plan)?;
        self.write(&prepared, dataset, plan)?;
        drop(share);
        match file::open(&self.path, &self.origin) {
            Ok(Some(cached)) => Ok(cached),
            Ok(None) => Err("another process has replaced it".to_owned()),
            Err(damage) => Err(damage),
        }
        .map_err(|problem| {
            DataError::invalid(
                &self.path,
                format!("the file just written cannot be used: {problem}"),
                "check the disk, and let only one process use this cache at a time",
            )
        })
    }

    fn write(&self, prepared: &Prepared, dataset: &Dataset, plan: &Plan) -> Result<()> {
        let Some(labels) = prepared.labels() else {
            return Err(DataError::invalid(
                self.case.images.first().unwrap_or(&self.path),
                "the case has no label map",
                "training needs one: add it, or move the image to the test cases",
            ));
        };
        let channels = prepared.channels();
        let declared = dataset.classes.iter().map(|class| class.value);
        let largest = declared.chain(dataset.ignore_label).max();
        let header = Header {
            origin: self.origin.clone(),
            channels: channels.len(),
            shape: labels.shape(),
            label_bytes: if largest < Some(256) && !plan.use_mask_for_norm {
                1
            } else {
                2
            },
            locations_per_class: Vec::new(),
        };
        let seed = u64::from(crc32fast::hash(self.case.id.as_bytes()));
        let mut draw = Draw::new(&sampled_labels(plan), VOXELS_PER_CLASS, seed);
        let mut writer = CaseWriter::begin(&self.path, header)?;
        let [depth, height, width] = labels.shape();
        let planes = channels.first().map_or(depth, Resampler::slab_planes);
        let mut slab = vec![Vec::new(); channels.len()];
        let mut label_slab = Vec::new();
        for first in (0..depth).step_by(planes) {
            let range = first..(first + planes).min(depth);
            let voxels = range.len() * height * width;
            for (channel, out) in channels.iter().zip(&mut slab) {
                out.try_reserve_exact(voxels.saturating_sub(out.len()))
                    .map_err(|_| self.too_large(labels.shape()))?;
                out.resize(voxels, 0.0);
                channel.planes(range.clone(), out);
            }
            label_slab.resize(voxels, 0);
            labels.planes(range.clone(), &mut label_slab);
            for (row, labels) in label_slab.chunks_exact(width).enumerate() {
                draw.row(first + row / height, row % height, labels);
            }
            writer.slab(&slab, &label_slab)?;
        }
        writer.finish(&draw.finish())
    }

    fn too_large(&self, shape: [usize; 3]) -> DataError {
        DataError::invalid(
            self.case.images.first().unwrap_or(&self.path),
            format!("its {shape:?} voxels at the plan's spacing do not fit into memory"),
            "plan a coarser target spacing",
        )
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
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
