//! Checkpoints that are complete or do not count.
//!
//! Burn saves model, optimiser and scheduler one by one, each atomically. A manifest with their checksums, written
//! after the third, makes the three one: a checkpoint without a manifest, or with another checksum, is passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use burn::store::ModuleRecord;
use burn::train::checkpoint::{Checkpoint, Checkpointer, CheckpointerError};
use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::config::{read_json, write_json};

const MANIFEST: &str = "complete.json";
const PARTS: [&str; 3] = ["model", "optimizer", "scheduler"];

/// What makes a checkpoint complete, and what Burn's three files do not hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Epochs done, from 1.
    pub epoch: usize,
    /// Optimiser steps done.
    pub steps: usize,
    /// Seconds of training done.
    pub seconds: f64,
    /// CRC-32 of each file, by its part's name.
    pub checksums: BTreeMap<String, u32>,
}

/// The checkpoints of a run.
#[derive(Clone)]
pub struct Checkpoints {
    directory: PathBuf,
    budget: Arc<Budget>,
    saved: Arc<Mutex<BTreeMap<usize, BTreeMap<String, u32>>>>,
}

/// One of the three files of every checkpoint, for Burn's learner.
pub struct PartCheckpointer {
    checkpoints: Checkpoints,
    part: &'static str,
}

impl Manifest {
    /// Whether a training can go on from here, which imported weights alone do not allow.
    pub fn can_go_on(&self) -> bool {
        PARTS.iter().all(|&part| self.checksums.contains_key(part))
    }
}

impl Checkpoints {
    /// Checkpoints under `directory`, whose manifests record what `budget` has spent.
    pub fn new(directory: PathBuf, budget: Arc<Budget>) -> Self {
        Self {
            directory,
            budget,
            saved: Arc::default(),
        }
    }

    /// The checkpointers of model, optimiser and scheduler.
    pub fn parts(&self) -> [PartCheckpointer; 3] {
        PARTS.map(|part| PartCheckpointer {
            checkpoints: self.clone(),
            part,
        })
    }

    fn saved(&self, epoch: usize, part: &str, checksum: u32) -> anyhow::Result<()> {
        let mut saved = self
            .saved
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let checksums = saved.entry(epoch).or_default();
        checksums.insert(part.into(), checksum);
        if checksums.len() < PARTS.len() {
            return Ok(());
        }
        let manifest = Manifest {
            epoch,
            steps: self.budget.steps(),
            seconds: self.budget.elapsed().as_secs_f64(),
            checksums: saved.remove(&epoch).unwrap_or_default(),
        };
        write_json(
            &epoch_directory(&self.directory, epoch).join(MANIFEST),
            &manifest,
        )
    }
}

/// Weights that were trained elsewhere, as the only part of a checkpoint.
pub struct Imported {
    directory: PathBuf,
}

impl Imported {
    /// In a run that has no checkpoints yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes the record of a model.
    pub fn save(&self, record: ModuleRecord) -> anyhow::Result<()> {
        const EPOCH: usize = 0;
        let directory = epoch_directory(&self.directory, EPOCH);
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let path = part_path(&directory, PARTS[0]);
        record
            .save(&path)
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let manifest = Manifest {
            epoch: EPOCH,
            steps: 0,
            seconds: 0.0,
            checksums: BTreeMap::from([(PARTS[0].to_owned(), checksum(&path)?)]),
        };
        write_json(&directory.join(MANIFEST), &manifest)
    }
}

impl<R: Checkpoint> Checkpointer<R> for PartCheckpointer {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        let directory = epoch_directory(&self.checkpoints.directory, epoch);
        // What an earlier, killed attempt at this epoch left no longer counts.
        let _ = fs::remove_file(directory.join(MANIFEST));
        fs::create_dir_all(&directory).map_err(CheckpointerError::IOError)?;
        let path = part_path(&directory, self.part);
        record.save(path.clone())?;
        let checksum = checksum(&path).map_err(|e| CheckpointerError::Unknown(format!("{e:#}")))?;
        self.checkpoints
            .saved(epoch, self.part, checksum)
            .map_err(|e| CheckpointerError::Unknown(format!("{e:#}")))
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        R::load(part_path(
            &epoch_directory(&self.checkpoints.directory, epoch),
            self.part,
        ))
    }

    fn delete(&self, epoch: usize) -> Result<(), CheckpointerError> {
        let directory = epoch_directory(&self.checkpoints.directory, epoch);
        // The manifest goes first, so that a half-deleted checkpoint never looks complete.
        let _ = fs::remove_file(directory.join(MANIFEST));
        let _ = fs::remove_file(part_path(&directory, self.part));
        // Succeeds when the last part is gone.
        let _ = fs::remove_dir(&directory);
        Ok(())
    }
}

fn epoch_directory(directory: &Path, epoch: usize) -> PathBuf {
    directory.join(format!("epoch-{epoch:05}"))
}

fn part_path(directory: &Path, part: &str) -> PathBuf {
    directory.join(format!("{part}.bpk"))
}

fn checksum(path: &Path) -> anyhow::Result<u32> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(crc32fast::hash(&bytes))
}

/// The last complete and undamaged checkpoint under `directory`, if there is one. Damaged ones are named in the log.
pub fn last_complete(directory: &Path) -> anyhow::Result<Option<Manifest>> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(None);
    };
    let mut epochs: Vec<usize> = entries
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .to_str()?
                .strip_prefix("epoch-")?
                .parse()
                .ok()
        })
        .collect();
    epochs.sort_unstable();
    while let Some(epoch) = epochs.pop() {
        match verify(&epoch_directory(directory, epoch)) {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(problem) => {
                tracing::warn!("checkpoint of epoch {epoch} is passed over: {problem:#}")
            }
        }
    }
    Ok(None)
}

fn verify(directory: &Path) -> anyhow::Result<Manifest> {
    let manifest: Manifest = read_json(&directory.join(MANIFEST))?;
    anyhow::ensure!(
        manifest.checksums.contains_key(PARTS[0]),
        "its manifest knows no model"
    );
    for (part, expected) in &manifest.checksums {
        anyhow::ensure!(
            PARTS.contains(&part.as_str()),
            "its manifest names an unknown part {part:?}"
        );
        let path = part_path(directory, part);
        anyhow::ensure!(
            *expected == checksum(&path)?,
            "{} is damaged: its checksum differs from the manifest's",
            path.display()
        );
    }
    Ok(manifest)
}

/// The file with the weights of a complete checkpoint.
pub fn model_path(directory: &Path, epoch: usize) -> PathBuf {
    part_path(&epoch_directory(directory, epoch), PARTS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, epoch: usize, manifest: bool) {
        let target = epoch_directory(directory, epoch);
        fs::create_dir_all(&target).unwrap();
        let mut checksums = BTreeMap::new();
        for part in PARTS {
            fs::write(part_path(&target, part), format!("{part} of {epoch}")).unwrap();
            checksums.insert(part.into(), checksum(&part_path(&target, part)).unwrap());
        }
        if manifest {
            let manifest = Manifest {
                epoch,
                steps: epoch,
                seconds: 1.0,
                checksums,
            };
            write_json(&target.join(MANIFEST), &manifest).unwrap();
        }
    }

    #[test]
    fn a_checkpoint_without_manifest_or_with_a_changed_file_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        assert!(last_complete(directory.path()).unwrap().is_none());
        write(directory.path(), 1, true);
        write(directory.path(), 2, true);
        write(directory.path(), 3, false);
        assert_eq!(last_complete(directory.path()).unwrap().unwrap().epoch, 2);
        fs::write(model_path(directory.path(), 2), "torn").unwrap();
        assert_eq!(last_complete(directory.path()).unwrap().unwrap().epoch, 1);
    }
}
