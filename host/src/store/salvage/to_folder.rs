//! Checks a store that no daemon uses, or writes what can be read of it into another folder.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::atomic_file::{empty_folder, remove};
use crate::domain::SalvageReport;
use crate::store::{
    OpenError, Store,
    failed_io::FailedIo,
    folder_lock::{lock_to_read, release},
    format::{SALVAGING, has_marks, read_format, write_newest_format},
    inside::is_inside,
    mark::SyncedMark,
    options::StoreOptions,
    recovery::{Examined, examine},
    scratch::ScratchFolder,
};

use super::beside::{copy_others, damaged_beside};
use super::error::SalvageError;
use super::rewrite::{NewDatabase, rewrite};

/// Checks the store in the data folder `data`: reads all of it, with its checksums, and compares the
/// sessions' states with their logs, snapshots and index. Nothing is changed. `tell` is told how many
/// bytes were read so far.
///
/// # Errors
/// If the folder is in use, if it is none of Abide's, or if nothing can be read.
pub fn check(
    data: &Path,
    options: &StoreOptions,
    tell: &mut dyn FnMut(u64),
) -> Result<SalvageReport, SalvageError> {
    let lock = lock_store(data)?;
    let checked = check_locked(data, options, tell);
    lock.iter().for_each(release);
    checked
}

fn check_locked(
    data: &Path,
    options: &StoreOptions,
    tell: &mut dyn FnMut(u64),
) -> Result<SalvageReport, SalvageError> {
    let db = data.join("db");
    let scratch = ScratchFolder::for_check(data).map_err(FailedIo::of("check", data))?;
    let (image, rewritten) = (scratch.path().join("image"), scratch.path().join("db"));
    let examined = examine_db(data)?;
    let examined = examined.as_ref();
    let beside = damaged_beside(data);
    let with_those_beside = |mut report: SalvageReport| {
        report.lost.extend(beside);
        report
    };
    let read = rewrite(&db, &image, examined, None, options, tell)?.report;
    if read.damaged_files.is_empty() {
        return Ok(with_those_beside(read));
    }
    // What is lost with a damaged table shows once the rest is written anew.
    let target = NewDatabase {
        db: &rewritten,
        order: None,
    };
    let written = rewrite(&db, &image, examined, Some(&target), options, tell);
    // Without the room for it, the first reading tells of more than is lost.
    Ok(with_those_beside(
        written.map_or(read, |written| written.report),
    ))
}

/// Writes what can be read of the store in the data folder `data` into the folder `new`, which must not
/// exist or must be empty, as a data folder of its own; the other files of `data` are copied. `data` is
/// left alone. `tell` is told how many bytes were read so far.
///
/// # Errors
/// If `data` is in use or none of Abide's, if nothing of it can be read, or if `new` cannot be written.
pub fn salvage(
    data: &Path,
    new: &Path,
    options: &StoreOptions,
    tell: &mut dyn FnMut(u64),
) -> Result<SalvageReport, SalvageError> {
    let lock = lock_store(data)?;
    let salvaged = make_and_write(data, new, options, tell);
    lock.iter().for_each(release);
    let report = salvaged?;
    // Histories are cut when it is opened; this shows as well that it can be.
    Store::open(new, options.clone())?.close();
    SyncedMark::say_anew(new)?;
    Ok(report)
}

fn make_and_write(
    data: &Path,
    new: &Path,
    options: &StoreOptions,
    tell: &mut dyn FnMut(u64),
) -> Result<SalvageReport, SalvageError> {
    if is_inside(new, data).map_err(FailedIo::of("look into", data))? {
        return Err(SalvageError::Inside(new.to_owned()));
    }
    make_empty(new)?;
    let written = write_all(data, new, options, tell);
    if written.is_err() {
        // Half of a store is of no use, and takes the room that the next try may need. If it cannot be
        // removed, the mark in it says what it is.
        let _ = empty_folder(new, SALVAGING);
    }
    written
}

fn write_all(
    data: &Path,
    new: &Path,
    options: &StoreOptions,
    tell: &mut dyn FnMut(u64),
) -> Result<SalvageReport, SalvageError> {
    let mark = new.join(SALVAGING);
    fs::write(&mark, "").map_err(FailedIo::of("write into", new))?;
    let examined = examine_db(data)?;
    let target = NewDatabase {
        db: &new.join("db"),
        order: None,
    };
    let scratch = new.join("mending");
    let mut rewritten = rewrite(
        &data.join("db"),
        &scratch,
        examined.as_ref(),
        Some(&target),
        options,
        tell,
    )?;
    copy_others(data, new, &mut rewritten.report.lost)?;
    let synced = SyncedMark::at(rewritten.last_sequence);
    synced.put(new).map_err(FailedIo::of("write into", new))?;
    // Last: a folder without it is no store.
    write_newest_format(new)?;
    remove(&mark).map_err(FailedIo::of("remove", &mark))?;
    Ok(rewritten.report)
}

/// Takes the lock on a data folder that holds a store, or did.
fn lock_store(data: &Path) -> Result<Option<fs::File>, SalvageError> {
    if !fs::exists(data.join("db")).map_err(FailedIo::of("look into", data))? {
        return Err(SalvageError::Open(OpenError::NotAStore {
            path: data.to_owned(),
            reason: "it has no folder `db`".to_owned(),
        }));
    }
    match read_format(data) {
        // Whatever else became of the file, the database may be readable.
        Err(error @ (OpenError::NewerFormat { .. } | OpenError::NewerPart { .. })) => {
            Err(error.into())
        }
        _ => Ok(lock_to_read(data)?),
    }
}

/// Returns what the database's files hold, if its MANIFEST can be read.
fn examine_db(data: &Path) -> Result<Option<Examined>, FailedIo> {
    let mark = SyncedMark::known(data)?;
    examine(data, mark, has_marks(data)).map_err(FailedIo::of("look into", data))
}

fn make_empty(new: &Path) -> Result<(), SalvageError> {
    match fs::read_dir(new) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) if new.join(SALVAGING).exists() => {
                Err(SalvageError::Unfinished(new.to_owned()))
            }
            Some(_) => Err(SalvageError::NotEmpty(new.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(new);
            Ok(made.map_err(FailedIo::of("create", new))?)
        }
        Err(error) => Err(FailedIo::of("look into", new)(error).into()),
    }
}
