//! One process at a time fills a cache.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::file::ENDING;
use crate::{DataError, Result};

/// The right to write into a directory, until dropped or until the process ends, however it ends.
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Waits for another process that has it.
    pub fn take(directory: &Path) -> Result<Self> {
        let failed = |error| DataError::io(directory, error);
        // On Unix the directory itself can be locked, and no file has to be left there.
        #[cfg(unix)]
        let file = File::open(directory).map_err(failed)?;
        #[cfg(not(unix))]
        let file = File::create(directory.join(".lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!(
                    "{}: waiting for another process that fills this cache",
                    directory.display()
                );
                file.lock().map_err(failed)?;
            }
            // A file system without locks, as some of the network are.
            Err(TryLockError::Error(error)) => tracing::warn!(
                "{}: cannot be locked ({error}); let only one process fill this cache at a time",
                directory.display()
            ),
        }
        Ok(Self { _file: file })
    }

    /// Removes what a process that was killed has left: whoever has the lock knows that nobody writes there.
    pub fn remove_leftovers(&self, directory: &Path) -> Result<()> {
        let entries = std::fs::read_dir(directory).map_err(|e| DataError::io(directory, e))?;
        for entry in entries {
            let entry = entry.map_err(|error| DataError::io(directory, error))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(ENDING) {
                tracing::info!("{}: removed, half-written", entry.path().display());
                std::fs::remove_file(entry.path())
                    .map_err(|error| DataError::io(entry.path(), error))?;
            }
        }
        Ok(())
    }
}
