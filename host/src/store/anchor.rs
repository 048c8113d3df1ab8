//! Whether the store's files still have their names. A folder that is removed, or replaced by
//! another one, while its files are open does not make a write fail: the bytes go to files without
//! a name, and are gone when the process ends. So each write first compares what the names lead to
//! with what was opened.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, open, openat, stat, statat};

use super::StoreError;

/// What is looked at in the data folder. `LOCK` stands for the files beside `db`: if it was replaced,
/// another process may own the folder.
const LOCK: &str = "LOCK";
const DB: &str = "db";
/// Names the database's present state. RocksDB replaces it when it begins a new MANIFEST; it is always there.
const CURRENT: &str = "db/CURRENT";

/// The data folder and its places, as they were when the store was opened.
pub(super) struct Anchor {
    path: PathBuf,
    id: FileId,
    /// The folder itself: while its path leads here, what is in it is looked up from here, which spares
    /// each write two walks along that path.
    folder: OwnedFd,
    lock: FileId,
    db: FileId,
    current_path: PathBuf,
    /// `CURRENT` as of when all was last looked at; none before.
    current: Mutex<Option<HeldFile>>,
}

/// A file that is held open, so that no other one can get its number.
struct HeldFile {
    id: FileId,
    _file: OwnedFd,
}

/// The device and the inode of a file or a folder.
type FileId = (u64, u64);

impl Anchor {
    /// Remembers what is in the data folder `path` now. The lock must be held.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(path, flags, Mode::empty())?;
        Ok(Self {
            path: path.to_owned(),
            id: id(&fstat(&folder)?),
            lock: id_in(&folder, LOCK)?,
            db: id_in(&folder, DB)?,
            folder,
            current_path: path.join(CURRENT),
            current: Mutex::default(),
        })
    }

    /// Returns the data folder.
    pub(super) fn folder(&self) -> &Path {
        &self.path
    }

    /// Fails if one of the places is not what it was.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let current = self.current.lock();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        // The path that still leads to this file leads through the folders. To look at each of them takes
        // twice as long, in each write.
        let now = stat(&self.current_path).ok().as_ref().map(id);
        if now.is_some() && now == current.as_ref().map(|held| held.id) {
            return self.check_place(LOCK, self.lock);
        }
        *current = None;
        self.check_all()?;
        *current = self.hold_current();
        Ok(())
    }

    fn check_all(&self) -> Result<(), StoreError> {
        if stat(&self.path).ok().as_ref().map(id) != Some(self.id) {
            return Err(self.gone(self.path.clone()));
        }
        self.check_place(LOCK, self.lock)?;
        self.check_place(DB, self.db)?;
        let current = id_in(&self.folder, CURRENT);
        current.map_err(|_| self.gone(self.current_path.clone()))?;
        Ok(())
    }

    fn check_place(&self, name: &str, was: FileId) -> Result<(), StoreError> {
        match id_in(&self.folder, name).ok() == Some(was) {
            true => Ok(()),
            false => Err(self.gone(self.path.join(name))),
        }
    }

    fn gone(&self, place: PathBuf) -> StoreError {
        StoreError::FolderGone {
            folder: self.path.clone(),
            place,
        }
    }

    fn hold_current(&self) -> Option<HeldFile> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = openat(&self.folder, CURRENT, flags, Mode::empty()).ok()?;
        let id = id(&fstat(&file).ok()?);
        Some(HeldFile { id, _file: file })
    }
}

fn id_in(folder: &OwnedFd, name: &str) -> io::Result<FileId> {
    Ok(id(&statat(folder, name, AtFlags::empty())?))
}

fn id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}
