//! The session store: each session's log, and the projections that can be rebuilt from it, in one
//! RocksDB database. No other module uses RocksDB.
//!
//! ```text
//! data/FORMAT   the version of everything below; read before anything is written
//! data/LOCK     held (flock) by the one worker that owns the store; the kernel releases it
//! data/RESERVE  preallocated space that is freed when the disk is full (`reserve`)
//! data/db/      the RocksDB database; `keys` documents its layout
//! ```
//!
//! - [`Store::append`] is the only way to change a session: the new records and all changes that
//!   they make to the projections are one atomic batch. A dedicated thread (`writer`) combines the
//!   batches of many sessions into one synced write. An append is visible to readers once it is
//!   synced.
//! - No batch spans the records of two sessions.
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
