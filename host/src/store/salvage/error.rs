//! Why a damaged store cannot be read at all.

use std::path::{Path, PathBuf};

use crate::store::{OpenError, StoreError, error::is_disk_full, failed_io::FailedIo};

/// The reason why a store can be neither checked nor salvaged. The data folder has not been changed.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// It is in use, or is no store that this version can read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file or a folder cannot be used.
    #[error("{0}; check its owner, its permissions and the free space")]
    Io(FailedIo),
    #[error("{} is not empty; name a folder that does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    #[error("{} holds what a salvage that was cut short has left; remove it, or name another folder", .0.display())]
    Unfinished(PathBuf),
    #[error("{} is inside of the data folder; name another path", .0.display())]
    Inside(PathBuf),
    /// RocksDB makes nothing of the files.
    #[error(
        "nothing can be read of the store in {}: {reason}. Restore a backup (`abide restore`)", path.display()
    )]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "the disk has no room for what can be read of the store, written anew ({reason}); free some space, or \
         have `abide store salvage` write it into a folder on another disk"
    )]
    DiskFull { reason: String },
    /// The new store cannot be written.
    #[error("the new store: {0}")]
    Write(StoreError),
}

// No source: the message has its text already, which a printed chain of causes would repeat.
impl From<FailedIo> for SalvageError {
    fn from(failed: FailedIo) -> Self {
        Self::Io(failed)
    }
}

impl From<StoreError> for SalvageError {
    fn from(error: StoreError) -> Self {
        match error {
            // Nobody is there to send again.
            StoreError::DiskFull { reason } => Self::DiskFull { reason },
            error => Self::Write(error),
        }
    }
}

impl SalvageError {
    pub(super) fn unreadable(path: &Path, reason: String) -> Self {
        // What is read of the old store is made into files of the new one.
        if is_disk_full(&reason) {
            return Self::DiskFull { reason };
        }
        Self::Unreadable {
            path: path.to_owned(),
            reason,
        }
    }

    pub(super) fn database(path: &Path, error: &rocksdb::Error) -> Self {
        Self::unreadable(path, error.to_string())
    }
}
