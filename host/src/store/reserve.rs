//! Space held back. RocksDB can neither be opened nor give up its refusal of writes on a disk that
//! is full to the last byte. So a file keeps some space taken; when a write fails for want of it,
//! the file goes, the database is opened anew and readers are served, and no write is taken until
//! the file can be made again.

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

/// How long to wait before asking the disk again.
const PAUSE: Duration = Duration::from_millis(500);
/// Room for what opening writes beside the content of the WAL.
const OPENING_BYTES: u64 = 4 << 20;

/// The file and whether it is there.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    /// Whether it is there, or the file system has no way to make it.
    held: bool,
    refused: Option<(Instant, Errno)>,
}

impl Reserve {
    /// The reserve of the store in `folder`, whose WAL holds at most about `wal_bytes`.
    pub(super) fn new(folder: &Path, wal_bytes: u64) -> Self {
        Self {
            path: folder.join("RESERVE"),
            bytes: 2 * wal_bytes + OPENING_BYTES,
            held: false,
            refused: None,
        }
    }

    /// Makes the file unless it is there. The system's reason where the disk has no room.
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

    /// Gives the space back.
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
            // Some file systems cannot; there a full disk ends reading as well.
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
    }
}
