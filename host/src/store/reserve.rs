//! The disk reserve. On a disk that is full to the last byte, RocksDB can neither be opened nor
//! leave its read-only error state. So a preallocated file reserves some space. When a write fails
//! because the disk is full, the file is deleted and the database is reopened, so that readers are
//! served; no write is accepted until the file can be allocated again.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::StoreError;

/// The pause before the allocation is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// Space for what opening writes in addition to the content of the WAL.
const OPENING_BYTES: u64 = 4 << 20;

/// The reserve file, and whether it is allocated.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    /// Whether the file is allocated, or the file system cannot preallocate at all.
    held: bool,
    /// When the last allocation failed, or the file was deleted, and the error to return.
    refused: Option<(Instant, Errno)>,
}

impl Reserve {
    /// Returns the reserve, not yet allocated, of the store in `folder`, whose WAL holds at most
    /// about `wal_bytes`.
    pub(super) fn new(folder: &Path, wal_bytes: u64) -> Self {
        Self {
            path: folder.join("RESERVE"),
            bytes: 2 * wal_bytes + OPENING_BYTES,
            held: false,
            refused: None,
        }
    }

    /// Allocates the file unless it is allocated already. Returns the system's error if the disk
    /// has no room; within [`PAUSE`] of a failure, it returns the same error without trying.
    pub(super) fn hold(&mut self) -> Result<(), Errno> {
        if self.held {
            return Ok(());
        }
        if let Some((at, error)) = self.refused
            && at.elapsed() < PAUSE
        {
            return Err(error);
        }
        match self.make() {
            Ok(()) => {
                self.held = true;
                self.refused = None;
                Ok(())
            }
            Err(error) => {
                self.refused = Some((Instant::now(), error));
                drop(fs::remove_file(&self.path));
                Err(error)
            }
        }
    }

    /// Allocates the file like [`Self::hold`]. Fails if there is no room, or if the file cannot be made for
    /// another reason.
    pub(super) fn hold_to_write(&mut self) -> Result<(), StoreError> {
        self.hold().map_err(|error| match error {
            Errno::NOSPC | Errno::DQUOT => StoreError::DiskFull {
                reason: error.to_string(),
            },
            _ => {
                let path = self.path.display();
                StoreError::write_failed(format!(
                    "{path}, which keeps some room for a full disk, cannot be written: {error}"
                ))
            }
        })
    }

    /// Deletes the file, which frees its space.
    pub(super) fn give(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", self.path.display());
            }
            _ => {}
        }
        self.held = false;
        self.refused = Some((Instant::now(), Errno::NOSPC));
    }

    fn make(&self) -> Result<(), Errno> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            // Some file systems cannot preallocate; on those, a full disk stops reads as well.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            made => made,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_held_and_given() {
        let home = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(home.path(), 1 << 20);
        reserve.hold().unwrap();
        let held = fs::metadata(home.path().join("RESERVE")).unwrap();
        assert_eq!(held.len(), 6 << 20);
        reserve.give();
        assert!(!home.path().join("RESERVE").exists());
        assert_eq!(
            reserve.hold(),
            Err(Errno::NOSPC),
            "it is too soon to ask again"
        );
        let full = reserve.hold_to_write();
        assert!(matches!(full, Err(StoreError::DiskFull { .. })), "{full:?}");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_no_full_disk() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("RESERVE")).unwrap();
        let refused = Reserve::new(home.path(), 1 << 20).hold_to_write();
        let reason = refused.unwrap_err().to_string();
        assert!(
            reason.contains("RESERVE") && !reason.contains("full:"),
            "{reason}"
        );
    }
}
