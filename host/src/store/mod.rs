//! Where sessions live: each one's log, and the projections that can be rebuilt from it, in one
//! RocksDB. Nobody else names RocksDB.
//!
//! ```text
//! data/FORMAT   the version of everything below; read before anything is written
//! data/LOCK     held (flock) by the one worker that owns the store; the kernel releases it
//! data/RESERVE  space held back for a disk that is full (`reserve`)
//! data/db/      RocksDB; `keys` draws what is in it
//! ```
//!
//! - [`Store::append`] is the only way a session changes: its records and all that they change in
//!   the projections are one atomic batch. Batches of many sessions share one synced write, which
//!   a thread of its own makes (`writer`). An append is visible to readers once it is synced.
//! - No batch spans two sessions' records.
//! - Readers never wait for the writer.

mod append;
mod close;
mod codec;
mod db;
mod error;
mod handle;
mod keys;
mod listing;
mod open;
mod queue;
mod read;
mod reserve;
mod restarts;
mod tail;
mod trim;
mod writer;

#[cfg(test)]
mod tests;

pub use append::{Append, Durability};
pub use error::{OpenError, StoreError};
pub use handle::{Stats, Store};
pub use listing::{SessionCounts, SessionSummary};
pub use open::{FORMAT, StoreOptions};
pub use read::{EVENT_PAGE_BYTES, EventPage, KnownKey};
pub use restarts::{ACTIVE_LISTS_KEPT, RESTARTS_KEPT};
pub use tail::Tail;
