//! Restores a backup into a new data folder.
//!
//! ```text
//!   verify and copy into .NAME.restoring --> open it: all sessions begin new timelines, and wait
//!                                                                     |
//!                                            rename it to NAME <------+
//! ```
//!
//! So the data folder is absent or complete at any moment. What a restore that was killed has left is
//! removed by the next one.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::RestoreError;
use super::manifest::{BackupFile, BackupManifest};
use super::target::backup_in;
use crate::atomic_file::sync_folder;
use crate::store::{
    SessionCounts, Store, StoreOptions,
    failed_io::FailedIo,
    file_copy::{Copied, CopyError, copy},
    inside::is_inside,
    mark::SyncedMark,
};

/// The files of a backup that are no part of a data folder.
const NOT_RESTORED: &str = "abide.toml";
const MOUNTED: &str = "is where a file system is mounted, and cannot be replaced; a folder in it can be the \
                       data folder";

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    pub manifest: BackupManifest,
    pub sessions: SessionCounts,
}

/// Restores the backup in the folder `backup` to the new data folder `data`, which must not exist or be
/// empty. All open sessions begin new timelines, and wait for an operator. Waits for the disk.
pub fn restore(
    backup: &Path,
    data: &Path,
    options: StoreOptions,
) -> Result<Restored, RestoreError> {
    let manifest = BackupManifest::read(backup)?;
    if is_inside(data, backup).map_err(FailedIo::of("look into", backup))? {
        return Err(RestoreError::Occupied {
            folder: data.to_owned(),
            reason: "is inside of the backup, which stays as it is".to_owned(),
        });
    }
    check_free(data)?;
    let unfinished = Unfinished::begin(data)?;
    let restored = fill(backup, &manifest, &unfinished.path, options)
        .and_then(|sessions| unfinished.finish(data).map(|()| sessions));
    match restored {
        Ok(sessions) => Ok(Restored { manifest, sessions }),
        Err(error) => {
            unfinished.remove();
            Err(error)
        }
    }
}

/// Fails if there is something at the place of the data folder.
fn check_free(data: &Path) -> Result<(), RestoreError> {
    let occupied = |reason: &str| {
        Err(RestoreError::Occupied {
            folder: data.to_owned(),
            reason: reason.to_owned(),
        })
    };
    match fs::symlink_metadata(data) {
        Ok(meta) if meta.is_symlink() => {
            return occupied("is a symbolic link, which cannot be replaced");
        }
        Ok(meta) => {
            let parent = data.parent().and_then(|parent| fs::metadata(parent).ok());
            if parent.is_some_and(|parent| parent.dev() != meta.dev()) {
                return occupied(MOUNTED);
            }
        }
        // It is looked into below.
        Err(_) => {}
    }
    match fs::read_dir(data) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => occupied("is not empty"),
        },
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(()),
            ErrorKind::NotADirectory => occupied("is not a folder"),
            _ => Err(FailedIo::of("look into", data)(error).into()),
        },
    }
}

/// Copies the files into `folder`, verifies them, and cuts all sessions.
fn fill(
    backup: &Path,
    manifest: &BackupManifest,
    folder: &Path,
    options: StoreOptions,
) -> Result<SessionCounts, RestoreError> {
    for file in &manifest.files {
        if file.name != NOT_RESTORED {
            put(backup, file, folder)?;
        }
    }
    sync_folders(folder).map_err(FailedIo::of("sync", folder))?;
    let restored = format!("the backup is of {}", manifest.at);
    let store = Store::open(
        folder,
        StoreOptions {
            restored: Some(restored),
            ..options
        },
    )?;
    let sessions = store.counts();
    store.close();
    let sessions = sessions?;
    SyncedMark::say_anew(folder)?;
    sync_folders(folder).map_err(FailedIo::of("sync", folder))?;
    Ok(sessions)
}

/// Copies a file of a backup, and compares it with the manifest.
fn put(backup: &Path, file: &BackupFile, folder: &Path) -> Result<(), RestoreError> {
    let (from, to) = (backup.join(&file.name), folder.join(&file.name));
    let damaged = |reason: String| RestoreError::Damaged {
        file: from.clone(),
        reason,
    };
    if let Some(parent) = to.parent() {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(parent);
        made.map_err(FailedIo::of("create", parent))?;
    }
    match copy(&from, &to, &|| false) {
        Ok(Copied::Whole { bytes, sha256 }) if (bytes, sha256) == (file.bytes, file.sha256) => {
            Ok(())
        }
        Ok(Copied::Whole { bytes, .. }) if bytes != file.bytes => Err(damaged(format!(
            "it has {bytes} bytes, and had {} when the backup was taken",
            file.bytes
        ))),
        Ok(Copied::Whole { .. } | Copied::Abandoned) => Err(damaged(
            "its content is not that which was backed up".to_owned(),
        )),
        Err(CopyError::Read(error)) if error.kind() == ErrorKind::NotFound => {
            Err(damaged("it is not there".to_owned()))
        }
        Err(error) => Err(error.named(&from, &to).into()),
    }
}

/// Syncs a folder and those directly in it.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folder(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// The folder that becomes the data folder, beside it.
struct Unfinished {
    path: PathBuf,
    /// Locked, so that two restores do not write into one folder.
    _lock: File,
}

impl Unfinished {
    fn begin(data: &Path) -> Result<Self, RestoreError> {
        let (Some(parent), Some(name)) = (data.parent(), data.file_name()) else {
            return Err(RestoreError::Occupied {
                folder: data.to_owned(),
                reason: "cannot be a data folder".to_owned(),
            });
        };
        fs::create_dir_all(parent).map_err(FailedIo::of("create", parent))?;
        let path = parent.join(format!(".{}.restoring", name.to_string_lossy()));
        // It is emptied below.
        if backup_in(&path)
            .map_err(FailedIo::of("look into", &path))?
            .is_some()
        {
            return Err(RestoreError::Occupied {
                folder: path,
                reason: "holds a backup, and has the name of what an unfinished restore has left"
                    .to_owned(),
            });
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(FailedIo::of("create", &path)(error).into());
            }
            _ => {}
        }
        let lock = File::open(&path).map_err(FailedIo::of("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(RestoreError::Occupied {
                    folder: data.to_owned(),
                    reason: "is being restored by another process".to_owned(),
                });
            }
            Err(error) => return Err(FailedIo::of("lock", &path)(error).into()),
        }
        let unfinished = Self { path, _lock: lock };
        let emptied = unfinished.empty();
        emptied.map_err(FailedIo::of("empty", &unfinished.path))?;
        Ok(unfinished)
    }

    /// Removes what an earlier restore has left.
    fn empty(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    /// Makes it the data folder.
    fn finish(&self, data: &Path) -> Result<(), RestoreError> {
        // It replaces an empty folder, and fails if the folder is not empty any more.
        fs::rename(&self.path, data).map_err(|error| match error.kind() {
            ErrorKind::ResourceBusy | ErrorKind::CrossesDevices => RestoreError::Occupied {
                folder: data.to_owned(),
                reason: MOUNTED.to_owned(),
            },
            ErrorKind::DirectoryNotEmpty => RestoreError::Occupied {
                folder: data.to_owned(),
                reason: "is not empty any more".to_owned(),
            },
            _ => FailedIo::of("create", data)(error).into(),
        })?;
        let parent = data.parent().unwrap_or(data);
        if let Err(error) = sync_folder(parent) {
            tracing::warn!("cannot sync {}: {error}", parent.display());
        }
        Ok(())
    }

    fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            let path = self.path.display();
            tracing::warn!("cannot remove {path}: {error}; the next restore does");
        }
    }
}
