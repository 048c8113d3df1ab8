//! The upper bound of Abide's speed: its HTTP server in front of RocksDB alone. A turn writes the
//! same data as one of Abide's turns, but no guest runs.
//!
//! Turns of many sessions share one synced write, which a dedicated thread makes.

mod serve;
mod store;
mod writer;

pub(crate) use serve::run;
