//! The baseline: the same store, opened by RocksDB alone.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Env, Options};

/// The daemon's default block cache size.
const CACHE_BYTES: usize = 32 << 20;

/// Copies RocksDB's directory as it is; any process that writes to it must have been stopped.
/// Tables are immutable once written, so they are hard-linked. Everything else is synced, or the
/// first sync after opening the copy would pay for it.
pub(crate) fn copy(db: &Path, to: &Path) -> io::Result<()> {
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(to)?,
    }
    for entry in fs::read_dir(db)? {
        let from = entry?.path();
        let Some(name) = from.file_name() else {
            continue;
        };
        let copy = to.join(name);
        let shared = from
            .extension()
            .is_some_and(|extension| extension == "sst" || extension == "blob");
        if shared {
            fs::hard_link(&from, &copy)?;
        } else if from.is_file() {
            fs::copy(&from, &copy)?;
            File::open(&copy)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

/// Opens a copy with the options that the store was last opened with, which RocksDB stores beside
/// it, and returns how long that took.
pub(crate) fn open(copy: &Path) -> anyhow::Result<Duration> {
    let (options, families) = options(copy)?;
    let began = Instant::now();
    let db = DB::open_cf_descriptors(&options, copy, families);
    let took = began.elapsed();
    db.map(|_| took)
        .map_err(|error| anyhow!("the copy does not open: {error}"))
}

/// Returns the bytes that a copy holds after a flush and a full compaction, which drop everything
/// that is no longer needed.
pub(crate) fn live_bytes(copy: &Path) -> anyhow::Result<u64> {
    let (options, families) = options(copy)?;
    let names: Vec<String> = families.iter().map(|cf| cf.name().to_owned()).collect();
    let db = DB::open_cf_descriptors(&options, copy, families)
        .map_err(|error| anyhow!("the copy does not open: {error}"))?;
    let mut bytes = 0;
    for name in names {
        let Some(family) = db.cf_handle(&name) else {
            continue;
        };
        db.flush_cf(family)?;
        db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
        let tables = ["rocksdb.live-sst-files-size", "rocksdb.live-blob-file-size"];
        for property in tables {
            let size = db.property_int_value_cf(family, property)?;
            bytes += size.unwrap_or(0);
        }
    }
    Ok(bytes)
}

fn options(copy: &Path) -> anyhow::Result<(Options, Vec<ColumnFamilyDescriptor>)> {
    let text = |error: rocksdb::Error| anyhow!("the copy's options: {error}");
    let env = Env::new().map_err(text)?;
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    let (mut options, families) = Options::load_latest(copy, env, true, cache).map_err(text)?;
    // The stored options name the original's WAL directory; the copy must never touch it.
    options.set_wal_dir(copy);
    Ok((options, families))
}

/// Returns the total size of the files below a directory, in bytes.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        // The file was deleted after the directory was read.
        Err(_) => 0,
    });
    sizes.sum()
}
