//! What failed at which file or folder: the part that the store's errors have in common.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A failed operation on a file or a folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {reason}")]
pub struct FailedIo {
    /// The operation, as a verb that goes before the path.
    pub doing: &'static str,
    pub path: PathBuf,
    /// Mostly the system's error text.
    pub reason: String,
}

impl FailedIo {
    /// Returns the constructor for a given cause, for `map_err`.
    pub(super) fn of<E: Display>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |cause| Self {
            doing,
            path: path.to_owned(),
            reason: cause.to_string(),
        }
    }
}
