//! What can go wrong with files that come from outside, each as one line that names the file and the cure.

use std::path::{Path, PathBuf};

/// An error of this crate. Its text is one line: the file, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or directory could not be read or written.
    #[error("{}: {action} failed: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, e.g. `reading`.
        action: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file exists but does not hold what it should.
    #[error("{}: {message}; {cure}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
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

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, DataError>;

impl DataError {
    /// A file that could not be read or written; for `map_err`.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    /// A file that does not hold what it should.
    pub fn invalid(path: &Path, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            message: message.into(),
            cure: cure.into(),
        }
    }
}
