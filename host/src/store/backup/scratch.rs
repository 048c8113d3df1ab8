//! The scratch folder for a checkpoint. It is inside of the data folder, so that tables can be linked
//! into it instead of being copied.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The name of the folder in the data folder.
const NAME: &str = "backup-scratch";

/// The scratch folder, which is removed when the value is dropped.
#[derive(Debug)]
pub(super) struct BackupScratch(PathBuf);

impl BackupScratch {
    /// Creates it in the data folder `data`. Only one backup at a time may do so.
    pub(super) fn create(data: &Path) -> io::Result<Self> {
        remove(data)?;
        let path = data.join(NAME);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Returns the path for the checkpoint.
    pub(super) fn db(&self) -> PathBuf {
        self.0.join("db")
    }
}

impl Drop for BackupScratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            let path = self.0.display();
            tracing::warn!("cannot remove {path}: {error}; the next start does");
        }
    }
}

/// Removes what a backup that was killed has left in the data folder. A failure is logged only: it
/// costs space.
pub(in crate::store) fn remove_scratch(data: &Path) {
    if let Err(error) = remove(data) {
        let path = data.join(NAME);
        tracing::warn!("cannot remove {}: {error}; remove it", path.display());
    }
}

fn remove(data: &Path) -> io::Result<()> {
    match fs::remove_dir_all(data.join(NAME)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
