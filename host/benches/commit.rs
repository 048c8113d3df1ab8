//! Benchmarks committing a turn to disk: records and snapshot, with 1 and 64 turns in flight.

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;

use abide::store::{Store, StoreOptions};
use criterion::{BenchmarkId, Criterion, Throughput};
use futures::executor::block_on;
use futures::future::join_all;

use crate::bare;
use crate::owner::{Owner, STATE_BYTES, noise};

/// Numbers of turns in flight.
const AT_ONCE: [usize; 2] = [1, 64];
/// The size above which the append-only file is truncated.
const FILE_MAX_BYTES: u64 = 256 << 20;

pub(crate) fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut group = criterion.benchmark_group("commit");
    let path = folder.path().join("store");
    let store = Store::open(&path, StoreOptions::default()).expect("a new store opens");
    // As a daemon has it past its first probation.
    store.raise_format().expect("the folder is ours");
    let mut owners: Vec<_> = (0..AT_ONCE[1])
        .map(|n| {
            let (owner, synced) = Owner::create(&store, &format!("s{n:03}"), STATE_BYTES);
            block_on(synced).expect("the session is created");
            owner
        })
        .collect();
    for turns in AT_ONCE {
        group.throughput(Throughput::Elements(turns as u64));
        group.bench_function(BenchmarkId::new("store", turns), |bencher| {
            bencher.iter(|| {
                let synced = owners
                    .iter_mut()
                    .take(turns)
                    .map(|owner| owner.turn(&store));
                // Submit all turns before waiting for any, so that they share a sync.
                let synced: Vec<_> = synced.collect();
                for ended in block_on(join_all(synced)) {
                    ended.expect("the disk takes it");
                }
            });
        });
    }
    store.close();
    let like = folder.path().join("like");
    let rows = turn_rows(&folder.path().join("few"), &like);
    let db = bare::open(&like, &folder.path().join("bare"));
    for turns in AT_ONCE {
        group.throughput(Throughput::Elements(turns as u64));
        group.bench_function(BenchmarkId::new("bare RocksDB", turns), |bencher| {
            bencher.iter(|| bare::write(&db, &rows, turns));
        });
    }
    let mut file = File::create(folder.path().join("file")).expect("the folder is ours");
    for turns in AT_ONCE {
        let data = noise(1, bare::bytes(&rows) * turns);
        group.throughput(Throughput::Elements(turns as u64));
        group.bench_function(BenchmarkId::new("bare fdatasync", turns), |bencher| {
            bencher.iter(|| append(&mut file, &data).expect("the disk takes it"));
        });
    }
    group.finish();
}

/// Appends and syncs. The file grows like a log, but is truncated at [`FILE_MAX_BYTES`].
fn append(file: &mut File, data: &[u8]) -> io::Result<()> {
    if file.stream_position()? > FILE_MAX_BYTES {
        file.set_len(0)?;
        file.rewind()?;
    }
    file.write_all(data)?;
    file.sync_data()
}

/// Returns the rows that one turn writes in a store with a few turns; a copy of its database
/// remains at `like`.
fn turn_rows(path: &Path, like: &Path) -> Vec<bare::Row> {
    let store = Store::open(path, StoreOptions::default()).expect("a new store opens");
    // As a daemon has it past its first probation.
    store.raise_format().expect("the folder is ours");
    // `#` is the placeholder that `bare::write` replaces with a number for each turn of a batch.
    let (mut owner, created) = Owner::create(&store, "s00#", STATE_BYTES);
    block_on(created).expect("the session is created");
    // After this many turns, each turn removes the oldest restore point.
    for _ in 0..20 {
        block_on(owner.turn(&store)).expect("the disk takes it");
    }
    // Copy the open database, because closing the store might flush its write-ahead log.
    copy(&path.join("db"), like);
    store.close();
    bare::last_rows(like)
}

/// Copies a directory recursively.
pub(crate) fn copy(from: &Path, to: &Path) {
    const OURS: &str = "both folders are ours";
    fs::create_dir_all(to).expect(OURS);
    for entry in fs::read_dir(from).expect(OURS) {
        let entry = entry.expect(OURS);
        let target = to.join(entry.file_name());
        if entry.file_type().expect(OURS).is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().extension().is_some_and(|kind| kind == "sst") {
            // Tables are immutable once written.
            fs::hard_link(entry.path(), target).expect(OURS);
        } else {
            fs::copy(entry.path(), target).expect(OURS);
        }
    }
}
