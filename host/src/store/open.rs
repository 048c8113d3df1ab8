//! Opening the store: check the format first, then take the lock, then open RocksDB.

use std::{
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicU64},
    thread,
};

use super::{
    OpenError, Store, StoreError,
    anchor::Anchor,
    backup::remove_scratch,
    counts::stored_counts,
    cut_all::{CutOrder, cut_all},
    damage::{self, is_damage},
    db::{Db, Keyspace},
    error::is_disk_full,
    failed_io::FailedIo,
    folder_lock::{lock, release},
    format::{FIRST_FORMAT, FORMAT, Format, StoreFormat, begin_format, read_format, write_format},
    handle::{Core, Counters, Handles, StoreState},
    kept_aside::kept_aside,
    keys::{self, kind},
    options::StoreOptions,
    recovery::{Examined, MissingWrites, examine},
    reserve::Reserve,
    salvage::{SalvageError, finish_swap, mend},
    synced::{SyncedFile, SyncedMark},
    writer,
};

impl Store {
    /// Opens the store in the folder `path`, which is created with mode 0700 if it does not exist.
    /// Nothing is written before the format has been accepted.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let fresh = match fs::metadata(path) {
            Ok(meta) if !meta.is_dir() => {
                return Err(OpenError::NotAFolder {
                    path: path.to_owned(),
                });
            }
            Ok(_) => read_format(path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Format::None,
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(OpenError::NotAFolder {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(FailedIo::of("look at", path)(error).into()),
        };
        if fresh == Format::None {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(path);
            made.map_err(FailedIo::of("create", path))?;
        }
        let lock = lock(path)?;
        let opened = open_locked(path, options, lock.try_clone());
        if opened.is_err() {
            release(&lock);
        }
        opened
    }
}

fn open_locked(
    path: &Path,
    options: StoreOptions,
    lock: std::io::Result<File>,
) -> Result<Store, OpenError> {
    let lock = lock.map_err(FailedIo::of("lock", path))?;
    // Read it again under the lock: another process may have created or replaced the store since.
    let format = read_format(path)?;
    if format == Format::None {
        begin_format(path)?;
    }
    let folder = path.join("db");
    finish_swap(path).map_err(FailedIo::of("look into", path))?;
    sync_all(path, &folder).map_err(FailedIo::of("sync", &folder))?;
    let mark = SyncedMark::read(path).map_err(FailedIo::of("look into", path))?;
    let examined = match format {
        Format::Known => examine(&folder, mark),
        Format::None | Format::Creating => Ok(None),
    };
    let mut examined = examined.map_err(FailedIo::of("look into", &folder))?;
    let missing = examined.as_ref().and_then(Examined::missing);
    if let Some(missing) = &missing {
        if !options.accept_loss {
            return Err(OpenError::missing(path, missing.clone()));
        }
        tracing::error!(
            "at least {} operations that had been acknowledged are lost, which was accepted: {}",
            missing.operations,
            missing.places.join("; ")
        );
    }
    let mut order = match (&options.restored, &missing) {
        // A new store has no history to cut.
        (Some(what), missing) if examined.is_some() => {
            Some(CutOrder::restored(what, missing.as_ref()))
        }
        (_, Some(missing)) => Some(CutOrder::accepted(missing)),
        (_, None) => None,
    };
    if order.is_some() {
        // At once: an operator has decided that there is no way back.
        write_format(path, FORMAT)?;
    }
    if let Some(examined) = &examined {
        let dropped = examined.drop_torn_edits(&folder);
        dropped.map_err(FailedIo::of("write into", &folder))?;
    }
    remove_scratch(path);
    let mut reserve = Reserve::new(path, options.wal_bytes);
    let is_known = match &examined {
        Some(examined) => examined.lacks_a_table(&folder),
        None => Ok(false),
    };
    let is_known = is_known.and_then(|lacks| Ok(lacks || damage::is_noted(path)?));
    let is_known = is_known.map_err(FailedIo::of("look into", path))?;
    let mut open = || {
        let create = format != Format::Known;
        open_db(path, &folder, create, &options, &mut reserve)
    };
    let opened = match is_known {
        true => None,
        false => undamaged(open())?,
    };
    let db = match opened {
        Some(db) => db,
        None => {
            // What it writes has all that can be read, what logs hold behind damage and the order
            // included.
            mend(path, mark, order.take(), &options).map_err(unmended(path))?;
            examined = None;
            open()?
        }
    };
    if let Some(examined) = &examined {
        recover_all(path, &db, examined, order.as_ref(), missing.is_some())?;
    }
    if examined.is_some() && mark.is_none() {
        // A version before this one has left it: from now on, all families are flushed together.
        if let Err(error) = db.flush() {
            tracing::warn!("cannot flush the store in {}: {error}", path.display());
        }
    }
    let mark = SyncedMark {
        sequence: db.last_sequence(),
        closed: false,
    };
    let synced = open_synced(path, mark, &mut reserve)?;
    if let Err(error) = reserve.hold() {
        tracing::error!("the disk of {} is full: {error}", path.display());
    }
    let counts = stored_counts(&db).map_err(|error| OpenError::Corrupt {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    if format != Format::Known {
        write_format(path, FIRST_FORMAT)?;
    }
    let anchor = Anchor::of(path).map_err(FailedIo::of("look into", path))?;
    let kept_aside = kept_aside(path).map_err(FailedIo::of("look into", path))?;
    let core = Arc::new(Core {
        path: folder,
        anchor,
        format: StoreFormat::read(path)?,
        synced,
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
        #[cfg(test)]
        sabotage: Default::default(),
    });
    let writer = thread::Builder::new().name("store-writer".to_owned());
    let writer = writer
        .spawn({
            let core = core.clone();
            move || writer::run(&core, reserve, mark.sequence)
        })
        .map_err(FailedIo::of("start the writer of", path))?;
    let store = Store {
        inner: Arc::new(Handles {
            core,
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(Some(lock)),
        }),
    };
    // The folder has been changed by then, which `OpenError::Corrupt` denies.
    let uncut = || FailedIo::of("cut the sessions' histories in", path);
    // Of this start, or of an earlier one that ended before it had carried it out.
    let order = store.core().read(CutOrder::read).map_err(uncut())?;
    if let Some(order) = order {
        cut_all(&store, &order).map_err(uncut())?;
    }
    Ok(store)
}

/// Returns the database, or none if a table is damaged that keeps it from being opened, or in which is
/// what a start needs.
fn undamaged(opened: Result<Db, OpenError>) -> Result<Option<Db>, OpenError> {
    let reason = match opened {
        Ok(db) => match read_at_start(&db) {
            Err(StoreError::Corrupt { reason, .. } | StoreError::Read { reason })
                if is_damage(&reason) =>
            {
                reason
            }
            // Whoever needs what cannot be read tells of it.
            _ => return Ok(Some(db)),
        },
        Err(OpenError::Corrupt { reason, .. }) if is_damage(&reason) => reason,
        Err(error) => return Err(error),
    };
    tracing::error!("the store is damaged: {reason}");
    Ok(None)
}

/// Reads what every start reads as a whole: counts, restart records, and the index of the sessions that
/// have work, wait or are faulted.
fn read_at_start(db: &Db) -> Result<(), StoreError> {
    db.scan(Keyspace::Meta, &[], &[0xff], |_, _| Ok(true))?;
    for kind in [kind::ACTIVE, kind::FAULTED, kind::PARKED] {
        let (first, bound) = keys::all_of_kind(kind);
        db.scan(Keyspace::Index, &first, &bound, |_, _| Ok(true))?;
    }
    Ok(())
}

/// Converts the reason why a damaged store is not written anew.
fn unmended(path: &Path) -> impl FnOnce(SalvageError) -> OpenError + '_ {
    move |error| match error {
        SalvageError::Open(error) => error,
        error => {
            let doing = "write anew what can be read of the damaged store in";
            FailedIo::of(doing, path)(error).into()
        }
    }
}

/// Opens the file `SYNCED` and notes in it what was recovered. A full disk is no obstacle: there is the
/// reserve.
fn open_synced(
    path: &Path,
    mark: SyncedMark,
    reserve: &mut Reserve,
) -> Result<SyncedFile, FailedIo> {
    let open = || {
        let file = SyncedFile::open(path)?;
        file.write(mark).map(|()| file)
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

/// Writes again what RocksDB has not read although it is complete, and makes sure that the store holds
/// everything that was acknowledged, unless the loss of it was accepted. The order to cut all sessions
/// is stored, if there is one.
fn recover_all(
    path: &Path,
    db: &Db,
    examined: &Examined,
    order: Option<&CutOrder>,
    is_accepted: bool,
) -> Result<(), OpenError> {
    let behind = examined.behind(db.last_sequence());
    if !behind.is_empty() {
        tracing::warn!(
            batches = behind.len(),
            "a log in {} is damaged; what is readable behind the damage is written again",
            path.display()
        );
    }
    if order.is_some() || !behind.is_empty() {
        let op = order.map(CutOrder::op).transpose();
        let op = op.map_err(FailedIo::of("write into", path))?;
        db.write_again(&behind, op.as_ref())
            // From now on the damaged log is not needed.
            .and_then(|()| db.flush())
            .map_err(FailedIo::of("write into", path))?;
    }
    // The order is an operation as well, and none of those that were acknowledged.
    let found = db.last_sequence().saturating_sub(order.is_some().into());
    let operations = examined.synced().saturating_sub(found);
    if operations > 0 && !is_accepted {
        let places = vec!["RocksDB recovered less than its files hold".to_owned()];
        let missing = MissingWrites { operations, places };
        return Err(OpenError::missing(path, missing));
    }
    Ok(())
}

/// Syncs what a killed owner may have written without syncing it. It will be read, and later
/// records will build on it, so a power failure must not remove it afterwards. Directories are
/// synced too, up to the parent of the data folder.
fn sync_all(path: &Path, folder: &Path) -> std::io::Result<()> {
    if fs::exists(folder)? {
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "log") {
                File::open(&file)?.sync_data()?;
            }
        }
        File::open(folder)?.sync_all()?;
    }
    File::open(path)?.sync_all()?;
    match path.canonicalize()?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn open_db(
    path: &Path,
    folder: &Path,
    create: bool,
    options: &StoreOptions,
    reserve: &mut Reserve,
) -> Result<Db, OpenError> {
    let mut opened = Db::open(folder, create, options);
    if let Err(error) = &opened
        && is_disk_full(error.as_ref())
    {
        reserve.give();
        opened = Db::open(folder, create, options);
    }
    opened.map_err(|error| {
        let path = path.to_owned();
        let reason = error.to_string();
        match error.kind() {
            rocksdb::ErrorKind::Corruption
            | rocksdb::ErrorKind::InvalidArgument
            | rocksdb::ErrorKind::NotFound => OpenError::Corrupt { path, reason },
            // RocksDB reports a missing file as an I/O error.
            rocksdb::ErrorKind::IOError if reason.contains("No such file") => {
                OpenError::Corrupt { path, reason }
            }
            _ => FailedIo::of("open the store in", &path)(error).into(),
        }
    })
}
