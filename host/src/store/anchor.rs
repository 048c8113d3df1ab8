//! Whether the store's files still have their names. A folder that is removed, or replaced by
//! another one, while its files are open does not make a write fail: the bytes go to files without
//! a name, and are gone when the process ends. So each write first compares what the names lead to
//! with what was opened.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::StoreError;

/// The places of the data folder, and what was there when the store was opened.
pub(super) struct Anchor {
    folder: PathBuf,
    places: [(PathBuf, FileId); 3],
}

/// The device and the inode of a file or a folder.
type FileId = (u64, u64);

impl Anchor {
    /// Remembers what is in the data folder `folder` now. The lock must be held.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        // `LOCK` stands for the files beside `db`: if it was replaced, another process may own the
        // folder.
        let at = |path: PathBuf| Ok::<_, io::Error>((path.clone(), file_id(&path)?));
        Ok(Self {
            folder: folder.to_owned(),
            places: [
                at(folder.to_owned())?,
                at(folder.join("LOCK"))?,
                at(folder.join("db"))?,
            ],
        })
    }

    /// Returns the data folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fails if one of the places is not what it was.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (path, id) in &self.places {
            if file_id(path).ok().as_ref() != Some(id) {
                return Err(StoreError::FolderGone {
                    folder: self.folder.clone(),
                    place: path.clone(),
                });
            }
        }
        Ok(())
    }
}

fn file_id(path: &Path) -> io::Result<FileId> {
    let meta = fs::metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}
