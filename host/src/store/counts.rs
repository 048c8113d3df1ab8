//! The numbers of sessions: as they are stored, and as the store reports them.

use serde::{Deserialize, Serialize};

use super::{
    StoreError, codec,
    db::{Db, Keyspace},
    keys,
};

/// The numbers of sessions by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions that were created and are not closed.
    pub open: u64,
    /// Open sessions that cannot run until an operator acts.
    pub faulted: u64,
    /// Open sessions whose turn waits for a human.
    pub parked: u64,
    pub closed: u64,
}

/// The counts that are stored, from which [`SessionCounts`] are computed.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct StoredCounts {
    /// Sessions ever created.
    pub created: u64,
    /// Sessions ever closed.
    pub closed: u64,
}

/// Reads the session counts as they were last written.
pub(super) fn stored_counts(db: &Db) -> Result<StoredCounts, StoreError> {
    match db.get(Keyspace::Meta, keys::COUNTS)? {
        Some(bytes) => codec::decode("the count of sessions", &bytes),
        None => Ok(StoredCounts::default()),
    }
}
