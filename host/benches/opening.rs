//! Benchmarks opening a store with many sessions in the state that a `kill -9` leaves it in.

use std::cell::LazyCell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use abide::store::{Store, StoreOptions};
use criterion::{BenchmarkId, Criterion};
use futures::executor::block_on;
use futures::future::join_all;

use crate::bare;
use crate::commit::copy;
use crate::owner::Owner;

const SESSIONS: [usize; 2] = [1_000, 100_000];
/// The size of a session's state: small, so that many sessions are created quickly.
const STATE_BYTES: usize = 256;
/// Number of sessions that are created concurrently.
const AT_ONCE: usize = 500;
/// Number of sessions that take a turn just before the kill, so that the write-ahead log is not
/// empty.
const BUSY: usize = 500;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("opening");
    group.sample_size(10);
    for sessions in SESSIONS {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let again = folder.path().join("again");
        // Lazy, so that runs of other benchmarks do not fill a store.
        let killed = LazyCell::new(|| {
            let killed = folder.path().join("killed");
            fill(&folder.path().join("store"), &killed, sessions);
            killed
        });
        group.bench_function(BenchmarkId::new("store", sessions), |bencher| {
            bencher.iter_custom(|times| {
                timed(times, &killed, &again, |path| {
                    Store::open(path, StoreOptions::default()).expect("the store opens")
                })
            });
        });
        group.bench_function(BenchmarkId::new("bare RocksDB", sessions), |bencher| {
            bencher.iter_custom(|times| {
                timed(times, &killed, &again, |path| {
                    let database = path.join("db");
                    bare::open(&database, &database)
                })
            });
        });
    }
    group.finish();
}

/// Returns the total time of opening `times` copies; closing them is not counted.
fn timed<T>(times: u64, killed: &Path, again: &Path, open: impl Fn(&Path) -> T) -> Duration {
    let opened = (0..times).map(|_| {
        // Remove the previous copy, if there is one.
        let _ = fs::remove_dir_all(again);
        copy(killed, again);
        let began = Instant::now();
        let opened = open(again);
        let took = began.elapsed();
        drop(opened);
        took
    });
    opened.sum()
}

/// Creates a store, and copies to `killed` what a kill right after many turns would leave.
fn fill(path: &Path, killed: &Path, sessions: usize) {
    let store = Store::open(path, StoreOptions::default()).expect("a new store opens");
    let mut busy = Vec::new();
    for first in (0..sessions).step_by(AT_ONCE) {
        let created = (first..sessions.min(first + AT_ONCE)).map(|n| {
            let (owner, synced) = Owner::create(&store, &format!("s{n:07}"), STATE_BYTES);
            if n < BUSY {
                busy.push(owner);
            }
            synced
        });
        let created: Vec<_> = created.collect();
        for ended in block_on(join_all(created)) {
            ended.expect("the disk takes it");
        }
    }
    store.flush().expect("the disk takes it");
    let turns: Vec<_> = busy.iter_mut().map(|owner| owner.turn(&store)).collect();
    for ended in block_on(join_all(turns)) {
        ended.expect("the disk takes it");
    }
    // Copy the open store, because closing it might flush the write-ahead log.
    copy(path, killed);
    store.close();
}
