//! A second place, beside `SYNCED`, for the number of the last acknowledged write: a memory file that outlives
//! the worker, and that is in no folder. So a worker that follows one that died notices a data folder that
//! was replaced by an older copy of itself, whatever the files in it say.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use super::mark::{LENGTH, SyncedMark};

/// The memory file, which is empty at first.
#[derive(Debug)]
pub struct Witness(File);

impl From<OwnedFd> for Witness {
    fn from(file: OwnedFd) -> Self {
        Self(file.into())
    }
}

impl Witness {
    /// Returns what was noted last.
    pub(super) fn read(&self) -> Option<SyncedMark> {
        let mut bytes = [0; LENGTH];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        SyncedMark::parse(&bytes)
    }

    pub(super) fn write(&self, mark: SyncedMark) -> io::Result<()> {
        self.0.write_all_at(&mark.bytes(), 0)
    }
}
