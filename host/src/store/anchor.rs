//! Whether the store's files still have their names. A folder that is removed, or replaced by
//! another one, while its files are open does not make a write fail: the bytes go to files without
//! a name, and are gone when the process ends. So before each write, what the names lead to is compared
//! with what was opened.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, Stat, fstat, open, openat, stat};

use super::StoreError;

/// The data folder and what is in it, as they were when the store was opened.
pub(super) struct Anchor {
    folder: Place,
    /// Stands for the files beside `db`: if it was replaced, another process may own the folder.
    lock: Place,
    db: Place,
    /// The file in `db` that names its present state, as of when all was last looked at. RocksDB replaces it
    /// when it begins a new MANIFEST; it is always there.
    current: Mutex<Place>,
}

/// A name, and what it led to. That is held open, so that nothing else can get its number.
struct Place {
    path: PathBuf,
    id: FileId,
    held: OwnedFd,
}

/// How it is held open: to look at, not to read.
const HELD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The device and the inode of a file or a folder.
type FileId = (u64, u64);

impl Anchor {
    /// Remembers what is in the data folder `path` now. The lock must be held.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let folder = Place::of(path.to_owned())?;
        let lock = Place::of(path.join("LOCK"))?;
        let db = Place::of(path.join("db"))?;
        let current = db.within("CURRENT")?;
        Ok(Self {
            folder,
            lock,
            db,
            current: Mutex::new(current),
        })
    }

    /// Returns the data folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Fails if one of the names does not lead to what it did.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let current = self.current.lock();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        // Where both files have no other name, their paths lead through the folders. To look at all four
        // takes twice as long, in each write.
        if current.is_only_name() && self.lock.is_only_name() {
            return Ok(());
        }
        for place in [&self.folder, &self.lock, &self.db] {
            if place.look().is_none() {
                return Err(self.gone(&place.path));
            }
        }
        let gone = |_| self.gone(&current.path);
        *current = self.db.within("CURRENT").map_err(gone)?;
        Ok(())
    }

    fn gone(&self, place: &Path) -> StoreError {
        StoreError::FolderGone {
            folder: self.folder.path.clone(),
            place: place.to_owned(),
        }
    }
}

impl Place {
    fn of(path: PathBuf) -> io::Result<Self> {
        let held = open(&path, HELD, Mode::empty())?;
        Self::new(path, held)
    }

    /// Returns what is in this folder, wherever its path leads.
    fn within(&self, name: &str) -> io::Result<Self> {
        let held = openat(&self.held, name, HELD, Mode::empty())?;
        Self::new(self.path.join(name), held)
    }

    fn new(path: PathBuf, held: OwnedFd) -> io::Result<Self> {
        let id = id(&fstat(&held)?);
        Ok(Self { path, id, held })
    }

    /// Looks whether the name still leads to it.
    fn look(&self) -> Option<Stat> {
        stat(&self.path).ok().filter(|stat| id(stat) == self.id)
    }

    /// Whether the name leads to it, and it has no other one.
    fn is_only_name(&self) -> bool {
        self.look().is_some_and(|stat| stat.st_nlink == 1)
    }
}

fn id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}
