//! Why a damaged store cannot be read at all.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::{OpenError, StoreError};

/// The reason why a store can be neither checked nor salvaged. The data folder has not been changed.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// It is in use, or is no store that this version can read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file or a folder cannot be used.
    #[error("cannot {doing} {}: {reason}; check its owner, its permissions and the free space", path.display())]
    Io {
        /// As a verb that goes before the path.
        doing: &'static str,
        path: PathBuf,
        reason: String,
    },
    #[error("{} is not empty; name a folder that does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    /// RocksDB makes nothing of the files.
    #[error(
        "nothing can be read of the store in {}: {reason}. Restore a backup (`abide restore`)", path.display()
    )]
    Unreadable { path: PathBuf, reason: String },
    /// The new store cannot be written.
    #[error("the new store: {0}")]
    Write(#[from] StoreError),
}

impl SalvageError {
    pub(super) fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |error| Self::Io {
            doing,
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn unreadable(path: &Path, reason: String) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            reason,
        }
    }

    pub(super) fn database(path: &Path, error: &rocksdb::Error) -> Self {
        Self::unreadable(path, error.to_string())
    }
}
