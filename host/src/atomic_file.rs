//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `parts` as the file `name` of `folder`: synced, then renamed into place, then the folder
/// synced, so that after a crash the file is the old one or the new one. Only its owner reads it.
pub(crate) fn write_whole(folder: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    // Two workers may write the same file during a restart, each under a name of its own.
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, folder.join(name))?;
        sync_folder(folder)
    })();
    if written.is_err() {
        // What is left of a failed attempt is of no use, and may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The file's bytes, or none if there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
