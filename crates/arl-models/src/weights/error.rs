use std::path::PathBuf;

use thiserror::Error;

use crate::CheckpointError;

/// Why weights can't be read, written or used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// Something about the file.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the cure.
        problem: String,
    },
    /// Something about a checkpoint of PyTorch.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights are another network's.
    #[error(
        "the weights are of another network: {}{}{}",
        list("missing", missing),
        list("unexpected", unexpected),
        list("of another size", misshaped)
    )]
    Other {
        /// Tensors of the network that the weights have not.
        missing: Vec<String>,
        /// Tensors that the network has not.
        unexpected: Vec<String>,
        /// Tensors of another size, with both sizes.
        misshaped: Vec<String>,
    },
}

/// All of the names, none left out.
fn list(kind: &str, names: &[String]) -> String {
    match names.is_empty() {
        true => String::new(),
        false => format!("{} {kind}: {}; ", names.len(), names.join(", ")),
    }
}
