//! The rival: the same store, opened by RocksDB alone.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Env, Options};

/// As the daemon has it by default.
const CACHE_BYTES: usize = 32 << 20;

/// Copies RocksDB's folder as it stands; whoever writes to it must have been stopped. Tables never
/// change once they are written, so they are shared. All of it is synced, or the first sync of
/// whoever opens the copy would pay for it.
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

/// Opens a copy with the options that the store was last opened with, which RocksDB keeps beside
/// it; how long that took.
pub(crate) fn open(copy: &Path) -> Result<Duration, String> {
    let (options, families) = options(copy)?;
    let began = Instant::now();
    let db = DB::open_cf_descriptors(&options, copy, families);
    let took = began.elapsed();
    db.map(|_| took)
        .map_err(|error| format!("the copy does not open: {error}"))
}

/// What a copy holds once everything that is no longer needed has been dropped from it, in bytes.
pub(crate) fn live_bytes(copy: &Path) -> Result<u64, String> {
    let (options, families) = options(copy)?;
    let names: Vec<String> = families.iter().map(|cf| cf.name().to_owned()).collect();
    let db = DB::open_cf_descriptors(&options, copy, families)
        .map_err(|error| format!("the copy does not open: {error}"))?;
    let mut bytes = 0;
    for name in names {
        let Some(family) = db.cf_handle(&name) else {
            continue;
        };
        let told = |error: rocksdb::Error| error.to_string();
        db.flush_cf(family).map_err(told)?;
        db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
        let tables = ["rocksdb.live-sst-files-size", "rocksdb.live-blob-file-size"];
        for property in tables {
            let size = db.property_int_value_cf(family, property).map_err(told)?;
            bytes += size.unwrap_or(0);
        }
    }
    Ok(bytes)
}

fn options(copy: &Path) -> Result<(Options, Vec<ColumnFamilyDescriptor>), String> {
    let told = |error: rocksdb::Error| format!("the copy's options: {error}");
    let env = Env::new().map_err(told)?;
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    let (mut options, families) = Options::load_latest(copy, env, true, cache).map_err(told)?;
    // Never the original's.
    options.set_wal_dir(copy);
    Ok((options, families))
}

/// What the files below a folder weigh, in bytes.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        // Gone meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}
