//! The folder that takes a backup. It is marked as unfinished until the manifest is in it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::BackupError;
use super::manifest::{self, BackupManifest};
use crate::atomic_file::{empty_folder, remove, sync_folder};
use crate::domain::Digest;
use crate::store::failed_io::FailedIo;
use crate::store::inside::is_inside;
use crate::store::synced;

/// The file that marks a backup that is not complete.
pub(in crate::store) const PARTIAL: &str = "BACKUP.partial";

/// What a folder holds of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum BackupState {
    Complete,
    /// It was not finished.
    Partial,
}

/// Returns what a folder, which need not exist, holds of a backup.
pub(super) fn backup_in(folder: &Path) -> io::Result<Option<BackupState>> {
    let has = |name| match fs::exists(folder.join(name)) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        found => found,
    };
    Ok(if has(manifest::NAME)? {
        Some(BackupState::Complete)
    } else if has(PARTIAL)? {
        Some(BackupState::Partial)
    } else {
        None
    })
}

/// Returns what a folder that is to be opened as a data folder is of a backup. None once it was opened: its
/// mark of the last write is not that of the backup any more, whatever versions before this one have left there.
/// What only has the name of a manifest is none.
pub(in crate::store) fn opened_backup(folder: &Path) -> Option<BackupState> {
    let Ok(manifest) = BackupManifest::read(folder) else {
        let is_partial = folder.join(PARTIAL).is_file();
        return match manifest::is_there(folder) {
            // Whatever else became of it.
            true => Some(BackupState::Complete),
            false => is_partial.then_some(BackupState::Partial),
        };
    };
    let mark = fs::read(folder.join(synced::NAME)).map(|bytes| Digest::of(&bytes));
    let backed_up = manifest.files.iter().find(|file| file.name == synced::NAME);
    match (mark, backed_up) {
        (Ok(mark), Some(backed_up)) if mark != backed_up.sha256 => None,
        _ => Some(BackupState::Complete),
    }
}

/// Takes from a folder what makes it a backup: it has become a data folder, by an operator's word.
pub(in crate::store) fn no_backup_any_more(folder: &Path) -> io::Result<()> {
    let manifest = folder.join(manifest::NAME);
    // Of that name there may be something else.
    if manifest.is_file() {
        remove(&manifest)?;
        sync_folder(folder)?;
    }
    Ok(())
}

/// A folder that takes a backup.
#[derive(Debug)]
pub(super) struct Target {
    folder: PathBuf,
    /// Whether the folder was created for this backup.
    is_new: bool,
}

impl Target {
    /// Takes `folder`, which must not exist or be empty, and must not be inside of the data folder
    /// `data`.
    pub(super) fn take(folder: &Path, data: &Path) -> Result<Self, BackupError> {
        let refused = |reason: &str| BackupError::Folder {
            folder: folder.to_owned(),
            reason: reason.to_owned(),
        };
        if !folder.is_absolute() {
            return Err(refused("its path is not absolute; give the whole path"));
        }
        let is_new = match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => {
                let remedy = match error.kind() {
                    ErrorKind::NotFound => "create the folder above it first",
                    _ => "name one that the daemon's user can create",
                };
                return Err(refused(&format!("{error}; {remedy}")));
            }
        };
        let target = Self {
            folder: folder.to_owned(),
            is_new,
        };
        match target.obstacle(data) {
            Ok(None) => {}
            Ok(Some(obstacle)) => {
                target.remove_if_new();
                return Err(refused(obstacle));
            }
            Err(error) => {
                target.remove_if_new();
                return Err(refused(&format!(
                    "{error}; name one that the daemon's user can read"
                )));
            }
        }
        match target.mark() {
            Ok(()) => Ok(target),
            Err(error) => {
                target.clear();
                Err(FailedIo::of("write into", folder)(error).into())
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Returns why the folder cannot be taken, with the remedy.
    fn obstacle(&self, data: &Path) -> io::Result<Option<&'static str>> {
        if !self.folder.is_dir() {
            return Ok(Some("it is not a folder; name another path"));
        }
        if is_inside(&self.folder, data)? {
            return Ok(Some("it is inside of the data folder; name another path"));
        }
        Ok(match backup_in(&self.folder)? {
            Some(BackupState::Complete) => Some("there is a backup in it; name another folder"),
            Some(BackupState::Partial) => Some(
                "there is a backup in it that was not finished; remove the folder and try again, or \
                 name another one",
            ),
            None if fs::read_dir(&self.folder)?.next().is_some() => {
                Some("it is not empty; name another folder, or one that does not exist")
            }
            None => None,
        })
    }

    fn mark(&self) -> io::Result<()> {
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.folder.join(PARTIAL))?
            .sync_all()?;
        sync_folder(&self.folder)?;
        match self.folder.parent() {
            Some(parent) => sync_folder(parent),
            None => Ok(()),
        }
    }

    /// Removes the mark, once the manifest is written.
    pub(super) fn finish(&self) {
        let removed = fs::remove_file(self.folder.join(PARTIAL));
        if let Err(error) = removed.and_then(|()| sync_folder(&self.folder)) {
            // The manifest counts.
            tracing::warn!("cannot remove the mark `{PARTIAL}` of a complete backup: {error}");
        }
    }

    /// Removes everything, to free the disk. What cannot be removed has no manifest.
    pub(super) fn clear(&self) {
        if let Err(error) = empty_folder(&self.folder, PARTIAL) {
            let folder = self.folder.display();
            tracing::warn!("cannot remove what is in {folder}: {error}; remove the folder");
            return;
        }
        self.remove_if_new();
    }

    fn remove_if_new(&self) {
        if self.is_new
            && let Err(error) = fs::remove_dir(&self.folder)
        {
            tracing::warn!("cannot remove {}: {error}", self.folder.display());
        }
    }
}
