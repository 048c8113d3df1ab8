//! Why a backup or a restore was not done.

use std::path::PathBuf;

use crate::store::{OpenError, StoreError, error::is_disk_full, failed_io::FailedIo};

/// Why there is no backup. The store is as it was, and the folder has no file `BACKUP`.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder cannot take a backup. Nothing in it was changed.
    #[error("{} cannot take a backup: {reason}", .folder.display())]
    Folder {
        folder: PathBuf,
        /// The reason and the remedy.
        reason: String,
    },
    /// The disk has no room for it.
    #[error(
        "the backup has {needed_bytes} bytes, and the disk of {} has {free_bytes} free, of which \
         {reserve_bytes} are reserved for the daemon; free some space, or name a folder on another disk",
        .folder.display()
    )]
    NoRoom {
        folder: PathBuf,
        needed_bytes: u64,
        free_bytes: u64,
        /// `daemon.disk_reserve` if the data folder is on the same disk, else 0.
        reserve_bytes: u64,
    },
    /// What was to be backed up is damaged.
    #[error(
        "{} is damaged: {reason}. There is no backup; keep the earlier ones, and check the disk{}",
        .file.display(), .remedy
    )]
    Damaged {
        /// The file of the data folder.
        file: PathBuf,
        reason: String,
        /// What else helps, appended to the message; may be empty.
        remedy: &'static str,
    },
    /// A system call failed.
    #[error("{}; there is no backup. {}", .0, remedy(&.0.reason))]
    Io(FailedIo),
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The caller has given it up.
    #[error("the backup was given up before it was complete; take it again")]
    Abandoned,
}

fn remedy(reason: &str) -> &'static str {
    match is_disk_full(reason) {
        true => "Free some space, or name a folder on another disk",
        false => "Check the disk, and the folder's owner and permissions",
    }
}

// No source: the message has its text already, which a printed chain of causes would repeat.
impl From<FailedIo> for BackupError {
    fn from(failed: FailedIo) -> Self {
        Self::Io(failed)
    }
}

/// Why a backup was not restored. There is no data folder then, as before.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The folder is no backup, or one that was cut short.
    #[error("{} is no backup: {reason}; name a folder that `abide backup` has completed", .folder.display())]
    NoBackup { folder: PathBuf, reason: String },
    /// A later version of Abide has taken it.
    #[error(
        "the backup {} has format {found}, this version of Abide reads up to {reads}; restore it with \
         the version that took it, or a later one",
        .folder.display()
    )]
    Newer {
        folder: PathBuf,
        found: u32,
        reads: u32,
    },
    /// A file is not what was backed up.
    #[error("{} is damaged: {reason}. Nothing was restored; take another backup", .file.display())]
    Damaged { file: PathBuf, reason: String },
    /// The data folder cannot be created, since something is there.
    #[error(
        "{} {reason}; nothing was restored. Move it away, or set `daemon.data_dir` to a path that does \
         not exist",
        .folder.display()
    )]
    Occupied { folder: PathBuf, reason: String },
    /// A system call failed.
    #[error("{0}; nothing was restored")]
    Io(FailedIo),
    /// The copy cannot be opened. Its path in the message is that of the unfinished data folder.
    #[error("nothing was restored: {0}")]
    Open(#[from] OpenError),
    #[error("nothing was restored: {0}")]
    Store(#[from] StoreError),
}

// No source: the message has its text already, which a printed chain of causes would repeat.
impl From<FailedIo> for RestoreError {
    fn from(failed: FailedIo) -> Self {
        Self::Io(failed)
    }
}
