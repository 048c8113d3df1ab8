//! The errors of opening the store and of calling it.

use std::path::{Path, PathBuf};

use crate::domain::SessionId;

use super::{
    failed_io::FailedIo,
    recovery::{LostSessions, MissingWrites},
};

/// The reason why the store did not open. Nothing in the data folder has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the lock on the data folder.
    #[error(
        "the data folder {path} is in use by {}; stop it first, or give this one another `data_dir`",
        .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        path: PathBuf,
        /// The process id that the holder has written into the lock file.
        pid: Option<u32>,
    },
    /// The store was written by a later version of Abide.
    #[error(
        "the data folder {path} has format {found}, this version of Abide reads up to {reads}; \
         run the version that wrote it, or a later one. If no later one did, its file `FORMAT` is \
         damaged: put it back, from a backup or by the line `{line}`"
    )]
    NewerFormat {
        path: PathBuf,
        /// The format of the store.
        found: u32,
        /// The newest format that this version reads.
        reads: u32,
        /// What this version writes into the file `FORMAT`.
        line: String,
    },
    /// The store holds something that a later version of Abide has added to the format.
    #[error(
        "the data folder {path} holds `{part}`, which this version of Abide does not know; \
         run the version that wrote it, or a later one. If no later one did, its file `FORMAT` is \
         damaged: put it back, from a backup or by the line `{line}`"
    )]
    NewerPart {
        path: PathBuf,
        /// The name of the part, in the file `FORMAT`.
        part: String,
        /// What this version writes into that file.
        line: String,
    },
    /// The store is damaged.
    #[error(
        "the store in {path} is damaged: {reason}. `abide store salvage NEW` writes what can be read of it \
         into another folder, and says what is lost; or put a backup in its place. Nothing in the \
         folder has been changed"
    )]
    Corrupt { path: PathBuf, reason: String },
    /// Writes that were acknowledged are not there any more.
    #[error(
        "the store in {path} lacks {missing}. It is not opened, \
         since sessions would go on without them. Move it away and `abide restore` a backup; or start once with \
         `abide serve --accept-loss`, which gives them up: {} then wait for `abide resume`, \
         and are told (`abide store salvage NEW` does the same in another folder). Nothing in the folder \
         has been changed",
        match .missing.sessions {
            LostSessions::Any => "all sessions",
            LostSessions::These(_) => "those sessions",
        }
    )]
    Missing {
        path: PathBuf,
        missing: MissingWrites,
    },
    /// The folder holds something other than a store.
    #[error(
        "{path} is not a data folder of Abide's: {reason}; set `data_dir` to another folder. If it was one, \
         its file `FORMAT` is damaged: put that back from a backup, or let `abide store salvage NEW` write \
         what can be read into another folder"
    )]
    NotAStore {
        path: PathBuf,
        /// What the folder holds instead.
        reason: String,
    },
    /// The folder holds a backup.
    #[error(
        "{path} is a backup: let `abide restore` make a data folder of it; or, if it was put there by hand, \
         start once with `abide serve --restored`"
    )]
    IsBackup { path: PathBuf },
    /// The folder holds a backup that was cut short.
    #[error(
        "{path} is a backup that was not finished; set `data_dir` to another folder, and restore a complete \
         one with `abide restore`"
    )]
    PartialBackup { path: PathBuf },
    /// A salvage has begun to write a store there.
    #[error(
        "{path} holds what a salvage that was cut short has left; remove it and salvage again, or set \
         `data_dir` to another folder"
    )]
    HalfSalvaged { path: PathBuf },
    /// The folder held a store, and holds none any more.
    #[error(
        "there is no store in the data folder {path}, where there was one: its disk is not mounted, or it \
         was moved, removed or emptied. Mount the disk, or put the folder back; or `abide restore` a backup"
    )]
    Gone { path: PathBuf },
    #[error("{path} is not a folder; set `data_dir` to one, or to a path that does not exist yet")]
    NotAFolder { path: PathBuf },
    /// A system call failed.
    #[error("{0}; check the folder's owner, permissions and free space")]
    Io(FailedIo),
}

// No source: the message has its text already, which a printed chain of causes would repeat.
impl From<FailedIo> for OpenError {
    fn from(failed: FailedIo) -> Self {
        Self::Io(failed)
    }
}

impl OpenError {
    pub(super) fn missing(path: &Path, missing: MissingWrites) -> Self {
        Self::Missing {
            path: path.to_owned(),
            missing,
        }
    }

    pub(super) fn gone(path: &Path) -> Self {
        Self::Gone {
            path: path.to_owned(),
        }
    }
}

/// The reason why a call failed. After a failed append, load the session before appending to it
/// again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store is closed, since the daemon is ending; send again when it is back")]
    Closed,
    /// RocksDB could not be reopened after a failed write; each append tries again.
    #[error("the store is out of order: {reason}. It is tried again at each write")]
    Down { reason: String },
    #[error("the disk is full ({reason}); free some space, then send again")]
    DiskFull {
        /// The system's error text.
        reason: String,
    },
    /// A write to the disk failed.
    #[error("the store cannot write: {reason}; check the disk")]
    Write {
        /// RocksDB's error text.
        reason: String,
    },
    /// The data folder was removed or replaced under the running daemon. Nothing was written.
    #[error(
        "the data folder {} was removed or replaced while the daemon ran ({} is not what it was): \
         nothing is acknowledged any more. {}",
        .folder.display(), .place.display(), gone_remedy(.place)
    )]
    FolderGone {
        folder: PathBuf,
        /// What is missing, or is something else now.
        place: PathBuf,
    },
    /// A read from the disk failed.
    #[error("the store cannot read: {reason}; check the disk")]
    Read {
        /// RocksDB's error text.
        reason: String,
    },
    /// A stored value cannot be decoded, is missing, or contradicts another one.
    #[error(
        "{what} in the store is damaged: {reason}; stop the daemon and run `abide store check`, or restore a \
         backup"
    )]
    Corrupt {
        /// The value that was read.
        what: String,
        reason: String,
    },
    /// A record has a kind that this version does not know.
    #[error(
        "{what} in the store has kind {kind}, written by a newer version of Abide; \
         run that version"
    )]
    NewerRecord {
        /// The record that was read.
        what: String,
        kind: u16,
    },
    /// The data folder has a format that has no such thing yet. Nothing was written.
    #[error(
        "{what} needs format {needs} of the data folder, which has format {has}; it is raised when this \
         version of Abide has passed its probation: try again then"
    )]
    OlderFormat {
        /// What was to be written.
        what: &'static str,
        /// The first format that has it.
        needs: u32,
        /// The format of the data folder.
        has: u32,
    },
    /// The data folder lacks the part that has such a thing. Nothing was written.
    #[error(
        "{what} needs the part `{part}` of the data folder, which is added when this version of Abide \
         has passed its probation: try again then"
    )]
    LacksPart {
        /// What was to be written.
        what: &'static str,
        /// The part's name in the file `FORMAT`.
        part: &'static str,
    },
    /// A value cannot be serialized.
    #[error("{what} cannot be stored: {reason}")]
    Encode {
        /// The value that was to be written.
        what: &'static str,
        reason: String,
    },
    /// Events after the requested cursor have been trimmed.
    #[error("events up to {oldest} have been trimmed; follow from cursor {oldest}")]
    Trimmed {
        /// The smallest `after` that can be served.
        oldest: u64,
    },
    /// An earlier append of the session failed, so the records that this one builds on may
    /// not exist.
    #[error("an earlier write of session `{0}` failed; load it again before the next one")]
    Reload(SessionId),
    /// The write queue is full (backpressure).
    #[error("{bytes} bytes wait to be written, more than the disk takes; send again in a moment")]
    Overloaded {
        /// The size of the queued writes.
        bytes: usize,
    },
    /// A message id that the store did not assign.
    #[error("`{0}` is not the id of a message")]
    BadMessageId(String),
}

impl StoreError {
    /// Converts the error of a failed write: [`Self::DiskFull`] if space ran out, else
    /// [`Self::Write`].
    pub(super) fn write(error: &rocksdb::Error) -> Self {
        Self::write_failed(error.to_string())
    }

    /// Does the same with the text of any error.
    pub(super) fn write_failed(reason: String) -> Self {
        if is_disk_full(&reason) {
            Self::DiskFull { reason }
        } else {
            Self::Write { reason }
        }
    }

    /// Converts the error of a failed read: [`Self::Corrupt`] if RocksDB found damage, else
    /// [`Self::Read`].
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

fn gone_remedy(place: &Path) -> &'static str {
    match place.ends_with("LOCK") {
        // The files that are written are there.
        true => {
            "End whatever else uses the folder, then stop the daemon and start it again: what was \
             acknowledged is there"
        }
        false => {
            "What was acknowledged is in files without a name. If the folder was moved, move it back; else \
             stop the daemon and restore a backup"
        }
    }
}

/// Returns whether a RocksDB error means that the disk is full. RocksDB passes on the system's
/// error text, not its number, so the text is matched.
pub(super) fn is_disk_full(reason: &str) -> bool {
    reason.contains("No space left") || reason.contains("quota exceeded")
}
