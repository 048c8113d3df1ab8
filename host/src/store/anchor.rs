//! Whether the store's files still have their names. A folder that is removed, or replaced by
//! another one, while its files are open does not make a write fail: the bytes go to files without
//! a name, and are gone when the process ends. So each write first compares what the names lead to
//! with what was opened.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, open, stat, statat};

use super::StoreError;

/// What is looked at in the data folder. `LOCK` stands for the files beside `db`: if it was replaced,
/// another process may own the folder.
const PLACES: [&str; 2] = ["LOCK", "db"];

/// Names the database's present state. It is replaced now and then, and always there.
const CURRENT: &str = "db/CURRENT";

/// The data folder and its places, as they were when the store was opened.
pub(super) struct Anchor {
    path: PathBuf,
    id: FileId,
    /// The folder itself: while its path leads here, what is in it is looked up from here, which spares
    /// each write two walks along that path.
    folder: OwnedFd,
    places: [FileId; PLACES.len()],
}

/// The device and the inode of a file or a folder.
type FileId = (u64, u64);

impl Anchor {
    /// Remembers what is in the data folder `path` now. The lock must be held.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(path, flags, Mode::empty())?;
        let [lock, db] = PLACES.map(|name| id_in(&folder, name));
        Ok(Self {
            path: path.to_owned(),
            id: id(&fstat(&folder)?),
            places: [lock?, db?],
            folder,
        })
    }

    /// Returns the data folder.
    pub(super) fn folder(&self) -> &Path {
        &self.path
    }

    /// Fails if one of the places is not what it was.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let gone = |place: PathBuf| StoreError::FolderGone {
            folder: self.path.clone(),
            place,
        };
        if stat(&self.path).ok().as_ref().map(id) != Some(self.id) {
            return Err(gone(self.path.clone()));
        }
        for (name, id) in PLACES.iter().zip(self.places) {
            if id_in(&self.folder, name).ok() != Some(id) {
                return Err(gone(self.path.join(name)));
            }
        }
        id_in(&self.folder, CURRENT).map_err(|_| gone(self.path.join(CURRENT)))?;
        Ok(())
    }
}

fn id_in(folder: &OwnedFd, name: &str) -> io::Result<FileId> {
    Ok(id(&statat(folder, name, AtFlags::empty())?))
}

fn id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}
