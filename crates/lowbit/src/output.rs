//! Files that are either whole or absent.

use std::io::Write;
use std::path::Path;

use crate::Error;

/// Writes `bytes` to a temporary file beside `path`, flushes it to disk and renames it: a full disk or an interruption leaves
/// what was there before.
///
/// # Errors
/// `Write` when any step fails; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let wrap = |source| Error::Write { path: path.to_path_buf(), source };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        // Renaming over a device or a pipe would replace it.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&temporary))).map_err(wrap)
}
