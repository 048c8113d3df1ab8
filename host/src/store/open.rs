//! Opening the store: the format is checked first, then the lock is taken.
//!
//! ```text
//!   FORMAT --> LOCK --> what the files hold --> database --> SYNCED, counts --> writer --> histories cut
//!                          `found_files`        `open_db`
//! ```

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicU64},
    thread::{self, JoinHandle},
};

use crate::private_files::{Reach, make_private};

use super::{
    OpenError, Store,
    anchor::Anchor,
    backup::{BackupState, no_backup_any_more, opened_backup},
    counts::{StoredCounts, stored_counts},
    cut_all::{CutOrder, cut_all},
    db::Db,
    failed_io::FailedIo,
    folder_lock::{lock, release},
    format::{Format, StoreFormat, read_format, write_first_format},
    found_files::FoundFiles,
    handle::{Core, Counters, Handles, StoreState},
    kept_aside::kept_aside,
    mark::SyncedMark,
    open_db::open_db,
    options::StoreOptions,
    reserve::Reserve,
    scratch::remove_left,
    synced::SyncedFile,
    trail_file::TrailFile,
    writer::{self, Marks},
};

impl Store {
    /// Opens the store in the folder `path`, which is created with mode 0700 if it does not exist.
    /// Nothing is written before the format has been accepted.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let fresh = found_format(path, &options)? == Format::None;
        if fresh {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(path);
            made.map_err(FailedIo::of("create", path))?;
        }
        let lock = lock(path)?;
        let opened = open_locked(path, options, &lock);
        if opened.is_err() {
            release(&lock);
        }
        opened
    }
}

/// Returns whether the folder `path` has a store, of a format that this version reads. Changes nothing.
///
/// # Errors
/// If these options would not open it, as far as the folder shows.
pub fn find_store(path: &Path, options: &StoreOptions) -> Result<bool, OpenError> {
    Ok(found_format(path, options)? != Format::None)
}

fn found_format(path: &Path, options: &StoreOptions) -> Result<Format, OpenError> {
    let no_folder = || OpenError::NotAFolder {
        path: path.to_owned(),
    };
    let format = match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => return Err(no_folder()),
        Ok(_) => read_format(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => Format::None,
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Err(no_folder()),
        Err(error) => return Err(FailedIo::of("look at", path)(error).into()),
    };
    match (format, opened_backup(path)) {
        (_, Some(BackupState::Partial)) => Err(OpenError::PartialBackup {
            path: path.to_owned(),
        }),
        (_, Some(BackupState::Complete)) if options.restored.is_none() => {
            Err(OpenError::IsBackup {
                path: path.to_owned(),
            })
        }
        (Format::None, _) if options.expects_store() => Err(OpenError::gone(path)),
        (format, _) => Ok(format),
    }
}

fn open_locked(path: &Path, options: StoreOptions, lock: &File) -> Result<Store, OpenError> {
    let lock = lock.try_clone().map_err(FailedIo::of("lock", path))?;
    // What workers of this daemon have made is private already: clients wait for a later one.
    let reach = match options.must_exist {
        true => Reach::Folder,
        false => Reach::All,
    };
    match make_private(path, reach) {
        Ok(0) => {}
        Ok(changed) => tracing::warn!(
            "{changed} files and folders in {} were readable for others; they are their owner's now",
            path.display()
        ),
        // Of another owner, perhaps: whether it can be used is found out below.
        Err(error) => tracing::warn!(
            "{} cannot be made readable for its owner alone: {error}",
            path.display()
        ),
    }
    let is_restored = options.restored.is_some();
    let found = FoundFiles::read(path, &options)?;
    remove_left(path);
    let mut reserve = Reserve::new(path, options.wal_bytes);
    let is_new = found.format != Format::Known;
    let is_anew = found.is_anew;
    let db = open_db(path, found, &options, &mut reserve)?;
    let mark = SyncedMark::at(db.last_sequence());
    let marks = Marks {
        synced: open_synced(path, mark, &options, &mut reserve)?,
        trail: TrailFile::open(path, mark.sequence),
    };
    if let Err(error) = reserve.hold_to_write() {
        tracing::error!("{} takes no writes yet: {error}", path.display());
    }
    let counts = stored_counts(&db).map_err(|error| OpenError::Corrupt {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    if is_new {
        write_first_format(path)?;
    }
    let core = Core {
        is_anew,
        ..core_of(path, db, &counts, options)?
    };
    let core = Arc::new(core);
    let writer = start_writer(&core, reserve, marks, mark.sequence);
    let writer = writer.map_err(FailedIo::of("start the writer of", path))?;
    let store = Store {
        inner: Arc::new(Handles {
            core,
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(Some(lock)),
        }),
    };
    cut_histories(path, &store)?;
    if is_restored {
        no_backup_any_more(path).map_err(FailedIo::of("write into", path))?;
    }
    Ok(store)
}

/// Opens the file `SYNCED` and notes in it what was recovered. A full disk is no obstacle: there is the
/// reserve.
fn open_synced(
    path: &Path,
    mark: SyncedMark,
    options: &StoreOptions,
    reserve: &mut Reserve,
) -> Result<SyncedFile, FailedIo> {
    let open = || -> io::Result<SyncedFile> {
        let mut file = SyncedFile::open(path, options.witness.clone())?;
        file.write(mark)?;
        // Before the format says that it is there.
        file.sync()?;
        Ok(file)
    };
    let mut opened = open();
    if let Err(error) = &opened
        && error.kind() == ErrorKind::StorageFull
    {
        reserve.give();
        opened = open();
    }
    opened.map_err(FailedIo::of("write `SYNCED` in", path))
}

fn core_of(
    path: &Path,
    db: Db,
    counts: &StoredCounts,
    options: StoreOptions,
) -> Result<Core, OpenError> {
    let anchor = Anchor::of(path).map_err(FailedIo::of("look into", path))?;
    let kept_aside = kept_aside(path).map_err(FailedIo::of("look into", path))?;
    Ok(Core {
        path: path.join("db"),
        anchor,
        format: StoreFormat::read(path)?,
        options,
        state: RwLock::new(StoreState::Open(db)),
        queue: Default::default(),
        failed: Default::default(),
        created: AtomicU64::new(counts.created),
        closed: AtomicU64::new(counts.closed),
        unflushed: Default::default(),
        stats: Counters::default(),
        health: Default::default(),
        damage: OnceLock::new(),
        kept_aside,
        is_anew: false,
        #[cfg(test)]
        sabotage: Default::default(),
    })
}

fn start_writer(
    core: &Arc<Core>,
    reserve: Reserve,
    marks: Marks,
    sequence: u64,
) -> io::Result<JoinHandle<()>> {
    let core = core.clone();
    let writer = thread::Builder::new().name("store-writer".to_owned());
    writer.spawn(move || writer::run(&core, reserve, marks, sequence))
}

/// Cuts histories by the order of this start, or of an earlier one that ended before it had carried it
/// out.
fn cut_histories(path: &Path, store: &Store) -> Result<(), FailedIo> {
    // The folder has been changed by then, which `OpenError::Corrupt` denies.
    let uncut = || FailedIo::of("cut the sessions' histories in", path);
    match store.core().read(CutOrder::read).map_err(uncut())? {
        Some(order) => cut_all(store, &order).map_err(uncut()),
        None => Ok(()),
    }
}
