//! Why the store does not open, and why a call of it failed.

use std::path::PathBuf;

use crate::domain::SessionId;

/// Why the store did not open. Nothing in the folder has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error(
        "the data folder {path} is in use by {}; stop it first, or give this one another `data_dir`",
        .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Who says that it owns the folder.
        pid: Option<u32>,
    },
    /// Written by a later version.
    #[error(
        "the data folder {path} has format {found}, this version of Abide reads up to {reads}; \
         run the version that wrote it, or a later one"
    )]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format that this version reads.
        reads: u32,
    },
    /// Its content is damaged.
    #[error(
        "the store in {path} is damaged: {reason}. Restore the folder from a backup; \
         nothing in it has been changed"
    )]
    Corrupt {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder holds something else.
    #[error("{path} is not a data folder of Abide's: {reason}; set `data_dir` to another folder")]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What is there.
        reason: String,
    },
    /// The path is not a folder.
    #[error("{path} is not a folder; set `data_dir` to one, or to a path that does not exist yet")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The system says no.
    #[error(
        "cannot {doing} {path}: {reason}; check the folder's owner, permissions and free space"
    )]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// Why a call failed. After a failed append, load the session before appending to it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store was closed.
    #[error("the store is closed, since the daemon is ending; send again when it is back")]
    Closed,
    /// After a failed write the store could not be opened again; each append tries to.
    #[error("the store is out of order: {reason}. It is tried again at each write")]
    Down {
        /// Why.
        reason: String,
    },
    /// The disk is full.
    #[error("the disk is full ({reason}); free some space, then send again")]
    DiskFull {
        /// What the system says.
        reason: String,
    },
    /// The disk does not take a write.
    #[error("the store cannot write: {reason}; check the disk")]
    Write {
        /// What RocksDB says.
        reason: String,
    },
    /// The disk does not give what it holds.
    #[error("the store cannot read: {reason}; check the disk")]
    Read {
        /// What RocksDB says.
        reason: String,
    },
    /// Bytes do not mean what they should.
    #[error("{what} in the store is damaged: {reason}; restore the data folder from a backup")]
    Corrupt {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A record of a kind that this version does not know.
    #[error(
        "{what} in the store has kind {kind}, written by a newer version of Abide; \
         run that version"
    )]
    NewerRecord {
        /// What was read.
        what: String,
        /// The kind's number.
        kind: u16,
    },
    /// Something that cannot be written down.
    #[error("{what} cannot be stored: {reason}")]
    Encode {
        /// What was written.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// Events that old are gone.
    #[error("events up to {oldest} have been trimmed; follow from cursor {oldest}")]
    Trimmed {
        /// The smallest `after` that can be served.
        oldest: u64,
    },
    /// An earlier append of the session failed, so this one stands on nothing.
    #[error("an earlier write of session `{0}` failed; load it again before the next one")]
    Reload(SessionId),
    /// More waits to be written than may.
    #[error("{bytes} bytes wait to be written, more than the disk takes; send again in a moment")]
    Overloaded {
        /// How many wait.
        bytes: usize,
    },
    /// A message's id that the store did not make.
    #[error("`{0}` is not the id of a message")]
    BadMessageId(String),
}

impl StoreError {
    /// A failed write, told apart by whether space is what lacks.
    pub(super) fn write(error: &rocksdb::Error) -> Self {
        let reason = error.to_string();
        if is_disk_full(&reason) {
            Self::DiskFull { reason }
        } else {
            Self::Write { reason }
        }
    }

    /// A failed read.
    pub(super) fn read(error: &rocksdb::Error) -> Self {
        let reason = error.to_string();
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Corrupt {
                what: "a block".to_owned(),
                reason,
            },
            _ => Self::Read { reason },
        }
    }
}

/// Whether RocksDB says that space is what lacks. It passes the system's text on, no number.
pub(super) fn is_disk_full(reason: &str) -> bool {
    reason.contains("No space left") || reason.contains("quota exceeded")
}
