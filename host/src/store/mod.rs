//! The session store: each session's log, and the projections that can be rebuilt from it, in one
//! RocksDB database. No other module uses RocksDB.
//!
//! ```text
//! data/FORMAT   the version of everything below; read before anything is written
//! data/SYNCED   the number of the last acknowledged write (`synced`)
//! data/TRAIL    which sessions the last groups of writes were about (`trail_file`)
//! data/LOCK     held (flock) by the one worker that owns the store; the kernel releases it
//! data/RESERVE  preallocated space that is freed when the disk is full (`reserve`)
//! data/DAMAGED  a damaged table was met; the next start writes the database anew (`salvage`)
//! data/db/      the RocksDB database; `keys` documents its layout
//! data/backup-scratch/, data/checking/   while a backup is taken, or the store is checked (`scratch`)
//! ```
//!
//! - [`Store::append`] is the only way to change a session: the new records and all changes that
//!   they make to the projections are one atomic batch. A dedicated thread (`writer`) combines the
//!   batches of many sessions into one synced write. An append is visible to readers once it is
//!   synced.
//! - No batch spans the records of two sessions.
//! - Readers never wait for the writer.
//!
//! | file | content |
//! |---|---|
//! | `error.rs`, `failed_io.rs`, `options.rs` | the store's errors and settings |
//! | `keys.rs`, `codec.rs` | the bytes of keys and values |
//! | `db.rs`, `db_files.rs` | the use of RocksDB, and the names of its files |
//! | `kept.rs`, `counts.rs` | a session's stored state, and the numbers of sessions |
//! | `queue.rs`, `handle.rs` | the writer's jobs, and what all handles share with it |
//! | `append.rs`, `tail.rs`, `trim.rs` | appending to a session, and trimming its log |
//! | `read.rs`, `listing.rs`, `dead.rs` | reading one session, and many; dead letters |
//! | `points.rs` | restore points, and the history of one |
//! | `meta.rs` | reading and writing what belongs to no session |
//! | `restarts.rs` | restart records |
//! | `control.rs` | access tokens and the audit log |
//! | `writer.rs`, `reserve.rs` | the thread that writes, and its disk reserve |
//! | `anchor.rs` | whether the files that are written still have their names |
//! | `mark.rs`, `synced.rs`, `witness.rs` | the number of the last acknowledged write |
//! | `recovery/` | what a start would recover, and what would be missing |
//! | `trail.rs`, `trail_file.rs` | which sessions the groups of writes were about, in the log and beside it |
//! | `salvage/` | what can be read of a damaged database, in a new one |
//! | `damage.rs` | damaged tables: how one is known, and that one was met |
//! | `kept_aside.rs` | damaged databases that were replaced |
//! | `cut_all.rs` | begins a new timeline in sessions of which something is lost, or after a restore |
//! | `file_copy.rs` | copies a file, for backups and salvages |
//! | `link.rs`, `inside.rs`, `scratch.rs` | a second name of a file, paths in others, scratch folders |
//! | `open_copy.rs` | opens a copy of a store, which is left alone |
//! | `backup/` | takes a backup of an open store, and restores one |
//! | `format.rs` | the version of all of it |
//! | `folder_lock.rs`, `found_files.rs`, `open_db.rs`, `open.rs`, `close.rs` | opening and closing |

mod anchor;
mod append;
mod backup;
mod close;
mod codec;
mod control;
mod counts;
mod cut_all;
mod damage;
mod db;
mod db_files;
mod dead;
mod error;
mod failed_io;
mod file_copy;
mod folder_lock;
mod format;
mod found_files;
mod handle;
mod inside;
mod kept;
mod kept_aside;
mod keys;
mod link;
mod listing;
mod mark;
mod meta;
mod open;
mod open_copy;
mod open_db;
mod options;
mod points;
mod queue;
mod read;
mod recovery;
mod reserve;
mod restarts;
mod rollouts;
mod salvage;
mod scratch;
mod synced;
mod tail;
mod trail;
mod trail_file;
mod trim;
mod witness;
mod writer;

#[cfg(test)]
mod tests;

pub use append::{Append, Durability, NewSnapshot};
pub use backup::{
    BackupError, BackupFile, BackupJob, BackupManifest, RestoreError, Restored, restore,
};
pub use control::AUDIT_KEPT;
pub use counts::SessionCounts;
pub use error::{OpenError, StoreError};
pub use failed_io::FailedIo;
pub use format::FORMAT;
pub use handle::{Stats, Store};
pub use kept_aside::KeptAside;
pub use listing::SessionSummary;
pub use open::find_store;
pub use open_copy::open_copy;
pub use options::StoreOptions;
pub use points::{StoredRecords, check_history};
pub use read::{EVENT_PAGE_BYTES, EventPage, KnownKey};
pub use recovery::{LostSessions, MissingWrites};
pub use restarts::{ACTIVE_LISTS_KEPT, RESTARTS_KEPT};

pub use salvage::{SalvageError, check, salvage};
pub use tail::{EXPIRY_TIMER, Tail};
pub use witness::Witness;
