//! The settings with which the store is opened.

use std::sync::{Arc, atomic::AtomicU64};

use super::witness::Witness;
use crate::domain::{MachineClock, Retention};

/// Limits on the store's use of disk and memory.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The cap of the write-ahead log, in bytes: what opening may have to replay after a kill.
    pub wal_bytes: u64,
    /// Memory for data that is not in tables yet, in bytes.
    pub memtable_bytes: usize,
    /// Memory for cached blocks of tables, in bytes.
    pub cache_bytes: usize,
    pub retention: Retention,
    /// Whether the store is opened although it lacks writes that were acknowledged.
    pub accept_loss: bool,
    /// Whether the folder was restored from a backup: all sessions begin new timelines then, and are
    /// told this text, which says what was restored.
    pub restored: Option<String>,
    /// Whether the folder held a store before: none is created then where none is found.
    pub must_exist: bool,
    /// What earlier workers of this daemon have noted of the writes that they acknowledged.
    pub witness: Option<Arc<Witness>>,
    /// By which the age of stored times is judged.
    pub clock: MachineClock,
    /// How much of a damaged store was read so far, in bytes, while it is written anew.
    pub mending: Arc<AtomicU64>,
}

impl StoreOptions {
    /// Returns whether there must be a store: one that is to lose something, or was restored, is there.
    pub(super) fn expects_store(&self) -> bool {
        self.must_exist || self.accept_loss || self.restored.is_some()
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            wal_bytes: 16 << 20,
            memtable_bytes: 32 << 20,
            cache_bytes: 64 << 20,
            retention: Retention::default(),
            accept_loss: false,
            restored: None,
            must_exist: false,
            witness: None,
            clock: MachineClock::default(),
            mending: Arc::default(),
        }
    }
}
