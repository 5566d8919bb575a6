//! Checkpoints of PyTorch, read without Python and without executing anything.

mod checkpoint;
mod pickle;
#[cfg(test)]
mod tests;
mod view;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use checkpoint::{Checkpoint, StoredTensor};

/// Why a checkpoint can't be read.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct CheckpointError {
    path: PathBuf,
    /// What is wrong, and the cure.
    problem: String,
}

impl CheckpointError {
    fn new(path: &Path, problem: String) -> Self {
        Self {
            path: path.to_owned(),
            problem,
        }
    }
}
