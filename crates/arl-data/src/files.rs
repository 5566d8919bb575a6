//! Files that are either complete or absent.

use std::io;
use std::path::Path;

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
    let place = |error| DataError::io(path, error);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = create(directory, ending).map_err(place)?;
    write(temporary.path()).map_err(place)?;
    // Reports what buffered writing may have hidden (a full disk), and survives a power cut.
    temporary.as_file().sync_all().map_err(place)?;
    temporary
        .persist(path)
        .map_err(|error| place(error.error))?;
    Ok(())
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
