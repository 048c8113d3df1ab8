//! Atomic file writes: after a crash a file is complete or absent, never partial.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `parts` to the file `name` in the directory `folder`: syncs a temporary file, renames it
/// into place and syncs the directory, so that after a crash the file is either the old or the new
/// one. The file is readable only by its owner.
pub(crate) fn write_whole(folder: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    // Two workers may write the same file during a restart, so each uses its own temporary name.
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
        // Best effort: the temporary file may not even exist.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Returns whether `name` is that of a temporary file. A process that is killed leaves it behind.
pub(crate) fn is_temporary(name: &str) -> bool {
    let parts = name
        .strip_prefix('.')
        .and_then(|rest| rest.rsplit_once('.'));
    parts.is_some_and(|(of, pid)| !of.is_empty() && pid.parse::<u32>().is_ok())
}

/// Syncs a directory, which makes the names of its files durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file, unless there is none.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    unless_absent(fs::remove_file(path))
}

/// Removes a folder with all that it holds, unless there is none.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    unless_absent(fs::remove_dir_all(path))
}

/// Removes all that is in a folder, the file that marks it as unfinished last: half emptied, it still has it.
pub(crate) fn empty_folder(folder: &Path, mark: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false if entry.file_name() == mark => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    remove(&folder.join(mark))
}

fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the file's bytes, or `None` if there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        // Keeps the rename from succeeding.
        std::fs::create_dir_all(home.path().join("a/b")).unwrap();
        assert!(write_whole(home.path(), "a", &[b"1"]).is_err());
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn temporary_files_are_known_by_their_names() {
        for name in [".FORMAT.7", ".a.wasm.12"] {
            assert!(is_temporary(name), "{name}");
        }
        for name in ["FORMAT", ".FORMAT", ".FORMAT.", "FORMAT.7", "..7", ".a.b7"] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
