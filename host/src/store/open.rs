//! Opening the store: check the format first, then take the lock, then open RocksDB.

use std::{
    fs::{self, DirBuilder, File},
    io::{ErrorKind, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, RwLock, atomic::AtomicU64},
    thread,
};

use super::{
    OpenError, Store,
    anchor::Anchor,
    counts::stored_counts,
    db::Db,
    error::is_disk_full,
    folder_lock::{lock, release},
    handle::{Core, Counters, Handles, StoreState},
    options::StoreOptions,
    reserve::Reserve,
    writer,
};

/// The format version of the data folder that this version of Abide writes, and the newest one that
/// it reads.
pub const FORMAT: u32 = 1;

/// The word before the version number in the file `FORMAT`.
const FORMAT_WORD: &str = "abide-store";
/// The word after the version number until the store has been created completely.
const CREATING: &str = "creating";

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
            Err(error) => return Err(OpenError::io("look at", path, error)),
        };
        if fresh == Format::None {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(path);
            made.map_err(|error| OpenError::io("create", path, error))?;
        }
        let lock = lock(path)?;
        let opened = open_locked(path, options, lock.try_clone());
        if opened.is_err() {
            release(&lock);
        }
        opened
    }
}

/// The state of a data folder according to its file `FORMAT`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The file does not exist.
    None,
    /// The creation of a store was begun and not completed.
    Creating,
    /// The folder holds a store that this version reads.
    Known,
}

fn open_locked(
    path: &Path,
    options: StoreOptions,
    lock: std::io::Result<File>,
) -> Result<Store, OpenError> {
    let lock = lock.map_err(|error| OpenError::io("lock", path, error))?;
    // Read it again under the lock: another process may have created or replaced the store since.
    let format = read_format(path)?;
    if format == Format::None {
        write_format(path, &format!("{FORMAT_WORD} {FORMAT} {CREATING}\n"))?;
    }
    let folder = path.join("db");
    sync_all(path, &folder).map_err(|error| OpenError::io("sync", &folder, error))?;
    let mut reserve = Reserve::new(path, options.wal_bytes);
    let db = open_db(
        path,
        &folder,
        format != Format::Known,
        &options,
        &mut reserve,
    )?;
    if let Err(error) = reserve.hold() {
        tracing::error!("the disk of {} is full: {error}", path.display());
    }
    let counts = stored_counts(&db).map_err(|error| OpenError::Corrupt {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    if format != Format::Known {
        write_format(path, &format!("{FORMAT_WORD} {FORMAT}\n"))?;
    }
    let anchor = Anchor::of(path).map_err(|error| OpenError::io("look into", path, error))?;
    let core = Arc::new(Core {
        path: folder,
        anchor,
        options,
        state: RwLock::new(StoreState::Open(db)),
        queue: Default::default(),
        failed: Default::default(),
        created: AtomicU64::new(counts.created),
        closed: AtomicU64::new(counts.closed),
        unflushed: Default::default(),
        stats: Counters::default(),
        health: Default::default(),
        #[cfg(test)]
        sabotage: Default::default(),
    });
    let writer = thread::Builder::new().name("store-writer".to_owned());
    let writer = writer
        .spawn({
            let core = core.clone();
            move || writer::run(&core, reserve)
        })
        .map_err(|error| OpenError::io("start the writer of", path, error))?;
    Ok(Store {
        inner: Arc::new(Handles {
            core,
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(Some(lock)),
        }),
    })
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
            _ => OpenError::Io {
                doing: "open the store in",
                path,
                reason,
            },
        }
    })
}

fn read_format(path: &Path) -> Result<Format, OpenError> {
    let file = path.join("FORMAT");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match fs::exists(path.join("db")) {
                Ok(false) => Ok(Format::None),
                Ok(true) => Err(OpenError::NotAStore {
                    path: path.to_owned(),
                    reason: "it has a folder `db` and no file `FORMAT`".to_owned(),
                }),
                Err(error) => Err(OpenError::io("look into", path, error)),
            };
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(OpenError::io("read", &file, error)),
    };
    let mut words = text.split_ascii_whitespace();
    let found = match (words.next(), words.next().map(str::parse::<u32>)) {
        (Some(FORMAT_WORD), Some(Ok(found))) => found,
        _ => {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
                reason: "its file `FORMAT` is none of Abide's".to_owned(),
            });
        }
    };
    if found > FORMAT {
        return Err(OpenError::NewerFormat {
            path: path.to_owned(),
            found,
            reads: FORMAT,
        });
    }
    Ok(match words.next() {
        Some(CREATING) => Format::Creating,
        _ => Format::Known,
    })
}

/// Replaces the file `FORMAT` atomically, and syncs the file and its folder.
fn write_format(path: &Path, text: &str) -> Result<(), OpenError> {
    let (file, new) = (path.join("FORMAT"), path.join("FORMAT.new"));
    let write = || {
        let mut opened = File::create(&new)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        fs::rename(&new, &file)?;
        File::open(path)?.sync_all()
    };
    write().map_err(|error: std::io::Error| OpenError::io("write", &file, error))
}
