//! What a backup and a restore report.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::UnixMillis;

/// A complete backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupReport {
    /// The folder that holds it, on the daemon's machine.
    #[schema(value_type = String)]
    pub folder: PathBuf,
    /// When it was begun: everything that was acknowledged before is in it.
    pub at: UnixMillis,
    /// The store's number of the last operation in it.
    pub sequence: u64,
    /// The number of its files.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A backup that was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// The new data folder.
    pub data_dir: PathBuf,
    pub backup: BackupReport,
    /// The number of open sessions.
    pub sessions: u64,
    /// How many of them wait for an operator.
    pub waiting: u64,
}
