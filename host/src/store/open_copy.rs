//! Opens a copy of a store that no daemon uses, or of a backup, so that all of it can be read and nothing of
//! it changes. Tables never change, and get second names.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{
    OpenError, Store, damage::is_noted, failed_io::FailedIo, folder_lock::lock_to_read,
    folder_lock::release, link::link, options::StoreOptions,
};

/// The files beside the database that say what it must have.
const BESIDE: [&str; 4] = ["FORMAT", "SYNCED", "TRAIL", "TRAIL.old"];

/// Opens a copy of the store in the folder `data`, which is made in the empty folder `copy`: at once where
/// both are on one disk.
///
/// # Errors
/// If the store is in use, or cannot be opened.
pub fn open_copy(data: &Path, copy: &Path, options: StoreOptions) -> Result<Store, OpenError> {
    let is_there = |name: &str| data.join(name).exists();
    let corrupt = |reason: &str| OpenError::Corrupt {
        path: data.to_owned(),
        reason: reason.to_owned(),
    };
    let is_damaged = is_noted(data).map_err(FailedIo::of("look into", data))?;
    // A backup has no lock, and none is made in it. One without its manifest is not complete.
    let held = match (is_there("LOCK"), is_there("BACKUP")) {
        (true, _) => lock_to_read(data)?,
        (false, true) => None,
        (false, false) => return Err(OpenError::gone(data)),
    };
    let copied: Result<(), OpenError> = match is_there("db") && !is_damaged {
        true => copy_files(data, copy)
            .map_err(|error| FailedIo::of("copy the store of", data)(error).into()),
        // Of what a start would write anew, nobody could say what it lacks.
        false => {
            return Err(corrupt(
                "a part of it is damaged: start a daemon on it first",
            ));
        }
    };
    if let Some(held) = held {
        release(&held);
    }
    copied?;
    Store::open(
        copy,
        StoreOptions {
            must_exist: true,
            ..options
        },
    )
}

/// Copies a file that nobody else may read, and that can be written whatever the first one says.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600))
}

fn copy_files(data: &Path, copy: &Path) -> io::Result<()> {
    for name in BESIDE {
        match copy_file(&data.join(name), &copy.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let (from, to) = (data.join("db"), copy.join("db"));
    fs::create_dir(&to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match path.extension().is_some_and(|extension| extension == "sst") {
            true => link(&path, &target)?,
            false if entry.file_type()?.is_file() => copy_file(&path, &target)?,
            false => {}
        }
    }
    Ok(())
}
