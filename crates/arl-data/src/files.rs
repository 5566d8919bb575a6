//! Files that are either complete or absent.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::{DataError, Result};

/// Lets `write` fill a temporary file beside `path` and then puts it in the place of `path`.
///
/// The temporary name starts with a dot, which every dataset layout ignores, and ends with `ending`. Whatever interrupts
/// this, `path` holds its old content or all of the new one.
///
/// # Errors
/// When the file can't be written or put into place; the error names `path`.
pub fn replace(
    path: &Path,
    ending: &str,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<()> {
    let replacement = Replacement::begin(path, ending)?;
    write(replacement.temporary.path()).map_err(|error| DataError::io(path, error))?;
    replacement.finish()
}

/// A temporary file on its way to take another's place; dropped before it is finished, it is deleted.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl Replacement {
    /// Makes the temporary file, named as [`replace`] does.
    ///
    /// # Errors
    /// When it can't be made; the error names `path`.
    pub fn begin(path: &Path, ending: &str) -> Result<Self> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = create(directory, ending).map_err(|error| DataError::io(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
        })
    }

    /// The temporary file, to be written.
    pub fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When that fails; the error names the place.
    pub fn finish(self) -> Result<()> {
        let Self { path, temporary } = self;
        // Reports what buffered writing may have hidden (a full disk), and survives a power cut.
        temporary
            .as_file()
            .sync_all()
            .map_err(|error| DataError::io(&path, error))?;
        temporary
            .persist(&path)
            .map_err(|error| DataError::io(&path, error.error))?;
        Ok(())
    }
}

fn create(directory: &Path, ending: &str) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".").suffix(ending);
    #[cfg(unix)]
    {
        // Temporary files are private by default, but results are for everyone whom the umask admits.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}
