//! A turn's way to the disk: records and snapshot, 1 and 64 turns in flight.

use std::fs::File;
use std::io::Write as _;

use abide::store::{Store, StoreOptions};
use criterion::{BenchmarkId, Criterion, Throughput};
use futures::executor::block_on;
use futures::future::join_all;

use crate::bare;
use crate::owner::{Owner, STATE_BYTES, noise};

/// Turns in flight.
const AT_ONCE: [usize; 2] = [1, 64];

pub(crate) fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut group = criterion.benchmark_group("commit");
    let path = folder.path().join("store");
    let store = Store::open(&path, StoreOptions::default()).expect("a new store opens");
    let mut owners: Vec<_> = (0..AT_ONCE[1])
        .map(|n| {
            // The mark is where the bare database puts another number.
            let (owner, synced) = Owner::create(&store, &format!("s{n:02}#"), STATE_BYTES);
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
                // Handed over before any is waited for.
                let synced: Vec<_> = synced.collect();
                for ended in block_on(join_all(synced)) {
                    ended.expect("the disk takes it");
                }
            });
        });
    }
    // A turn by itself, with the log that still holds it left behind by a copy.
    block_on(owners[0].turn(&store)).expect("the disk takes it");
    let like = folder.path().join("copy");
    copy(&path.join("db"), &like);
    store.close();
    let rows = bare::last_rows(&like);
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
            bencher.iter(|| {
                file.write_all(&data)
                    .and_then(|()| file.sync_data())
                    .expect("the disk takes it");
            });
        });
    }
    group.finish();
}

/// Copies the files of a folder.
pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    const OURS: &str = "both folders are ours";
    std::fs::create_dir_all(to).expect(OURS);
    for entry in std::fs::read_dir(from).expect(OURS) {
        let entry = entry.expect(OURS);
        let target = to.join(entry.file_name());
        if entry.file_type().expect(OURS).is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().extension().is_some_and(|kind| kind == "sst") {
            // Never changed once it is whole.
            std::fs::hard_link(entry.path(), target).expect(OURS);
        } else {
            std::fs::copy(entry.path(), target).expect(OURS);
        }
    }
}
