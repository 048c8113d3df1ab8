//! What Abide at its fastest would be: its HTTP server in front of RocksDB alone. A turn writes what
//! one of Abide's writes, and nothing runs.
//!
//! Turns of many sessions share one synced write, which a thread of its own makes.

mod serve;
mod store;
mod writer;

pub(crate) use serve::run;
