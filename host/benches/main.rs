//! Benchmarks of the daemon's parts against the libraries that they are built on: `make bench`.
//!
//! ```text
//! commit   a turn's records and snapshot to disk        bare RocksDB, the same bytes; fdatasync
//! guest    instantiate and restore, turn, snapshot      bare wasmtime, the same component and pool
//! replay   a step that is answered from the journal
//! opening  a store with many sessions, after a kill     bare RocksDB on the same database
//! ```
//!
//! Guests are read from `ABIDE_GUESTS`, or from cargo's build directory. Stores are created in the
//! directory for temporary files (`TMPDIR`), which should be on a disk.
#![allow(missing_docs)] // `criterion_group!` generates undocumented functions

mod bare;
mod commit;
mod guest;
mod opening;
mod owner;
mod replay;
mod wasm;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    costs,
    commit::bench,
    guest::bench,
    replay::bench,
    opening::bench
);
criterion_main!(costs);
