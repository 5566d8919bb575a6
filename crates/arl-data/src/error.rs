//! What can go wrong with files that come from outside, each as one line that names the file and the cure.

use std::io;
use std::path::{Path, PathBuf};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, DataError>;

/// An error of this crate. Its text is one line: the file, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused to read or write.
    #[error("{}: {source}{}", path.display(), cure(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file or directory is missing, or does not hold what it should.
    #[error("{}: {message}; {cure}", path.display())]
    Invalid {
        /// The file or directory at fault.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        cure: String,
    },
    /// A background thread of the loader died.
    #[error("case {case}: {message}")]
    Worker {
        /// The case that was being read.
        case: String,
        /// What happened.
        message: String,
    },
}

/// What to do about the operating system's refusal, where it is known.
fn cure(error: &io::Error) -> &'static str {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => "; free some space or choose a directory on another disk",
        PermissionDenied => "; change its permissions or choose another place",
        ReadOnlyFilesystem => "; choose a directory that can be written",
        _ => "",
    }
}

impl DataError {
    /// The file or directory at fault, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. } | Self::Invalid { path, .. } => Some(path),
            Self::Worker { .. } => None,
        }
    }

    /// The operating system's refusal, with the path it happened at.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    /// A file or directory that is missing or does not hold what it should.
    pub fn invalid(
        path: impl Into<PathBuf>,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            path: path.into(),
            message: message.into(),
            cure: cure.into(),
        }
    }
}
