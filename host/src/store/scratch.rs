//! Scratch folders, for a checkpoint or for the image of a damaged database. They are inside of the data
//! folder where that can be written, so that tables can be linked into them instead of being copied.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::atomic_file::remove_folder;

/// For the checkpoint that a backup is copied from.
pub(super) const BACKUP: &str = "backup-scratch";
/// For a check of the store.
pub(super) const CHECK: &str = "checking";
/// What versions before this one have made for a check.
pub(super) const OLD_CHECK: &str = "checking.db";

/// A scratch folder, which is removed when the value is dropped.
#[derive(Debug)]
pub(super) struct ScratchFolder(PathBuf);

impl ScratchFolder {
    /// Creates it. What is there is removed: one that a killed process has left.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        remove_folder(path)?;
        DirBuilder::new().mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Creates the one for a check of the data folder `data`: among the system's temporary files if that
    /// folder cannot be written.
    pub(super) fn for_check(data: &Path) -> io::Result<Self> {
        match Self::create(&data.join(CHECK)) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
                ) =>
            {
                let name = format!("abide-{CHECK}-{}", std::process::id());
                Self::create(&std::env::temp_dir().join(name))
            }
            created => created,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Err(error) = remove_folder(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Removes what killed processes have left in the data folder `data`. A failure is logged only: it costs
/// space.
pub(super) fn remove_left(data: &Path) {
    for name in [BACKUP, CHECK, OLD_CHECK] {
        let path = data.join(name);
        if let Err(error) = remove_folder(&path) {
            tracing::warn!("cannot remove {}: {error}; remove it", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_removed_and_nothing_stays() {
        let home = tempfile::tempdir().unwrap();
        let left = home.path().join(CHECK).join("db");
        std::fs::create_dir_all(&left).unwrap();
        let scratch = ScratchFolder::for_check(home.path()).unwrap();
        assert!(scratch.path().exists() && !left.exists());
        drop(scratch);
        std::fs::create_dir_all(&left).unwrap();
        remove_left(home.path());
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
