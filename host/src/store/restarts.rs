//! Restart records: the cause and the outcome of each restart. They are written and synced at once,
//! since the next worker starts from them.

use serde::de::DeserializeOwned;

use crate::domain::{ActiveSession, Generation, PastRestart, RestartRecord, RestartStatus};

use super::{
    Store, StoreError, codec,
    db::{Keyspace, Op},
    keys,
};

/// The number of restart records that are kept.
pub const RESTARTS_KEPT: usize = 1000;
/// The number of lists of active sessions that are kept.
pub const ACTIVE_LISTS_KEPT: usize = 8;

impl Store {
    /// Writes the record of a restart, and replaces an earlier one of the same generation. It is
    /// synced on return. The oldest records beyond [`RESTARTS_KEPT`] are deleted.
    pub fn put_restart(&self, record: &RestartRecord) -> Result<(), StoreError> {
        let bytes = codec::encode("a restart record", record)?;
        let key = keys::generation(keys::RESTART, record.generation);
        self.put(keys::RESTART, RESTARTS_KEPT, key, bytes)
    }

    pub fn restart(&self, generation: Generation) -> Result<Option<RestartRecord>, StoreError> {
        let key = keys::generation(keys::RESTART, generation);
        let found = self.core().read(|db| db.get(Keyspace::Meta, &key))?;
        found
            .map(|bytes| codec::decode("a restart record", &bytes))
            .transpose()
    }

    /// Returns at most `limit` restart records, the newest first.
    pub fn restarts(&self, limit: usize) -> Result<Vec<RestartRecord>, StoreError> {
        self.newest(keys::RESTART, limit)
    }

    /// Returns the highest generation that a restart record has used, refused restarts included.
    /// The next generation must be higher.
    pub fn last_generation(&self) -> Result<Option<Generation>, StoreError> {
        let newest = self.restarts(1)?;
        Ok(newest.first().map(|record| record.generation))
    }

    /// Returns the restarts that brought up a new generation (or are about to), the oldest first.
    /// Sessions are informed of these.
    pub fn past_restarts(&self) -> Result<Vec<PastRestart>, StoreError> {
        let records = self.restarts(RESTARTS_KEPT)?;
        let happened = records
            .into_iter()
            .rev()
            .filter(|record| match record.status {
                RestartStatus::Running
                | RestartStatus::Probation
                | RestartStatus::Completed
                | RestartStatus::RolledBack => true,
                RestartStatus::Refused | RestartStatus::Stopped => false,
            });
        Ok(happened
            .map(|record| PastRestart {
                generation: record.generation,
                cause: record.cause,
                at: record.at,
                ahead_ms: 0,
            })
            .collect())
    }

    /// Writes the list of sessions that are active when the drain towards a generation begins. It
    /// is synced on return. The oldest lists beyond [`ACTIVE_LISTS_KEPT`] are deleted.
    pub fn put_active_sessions(
        &self,
        generation: Generation,
        sessions: &[ActiveSession],
    ) -> Result<(), StoreError> {
        let bytes = codec::encode("the list of active sessions", &sessions)?;
        let key = keys::generation(keys::ACTIVE_LIST, generation);
        self.put(keys::ACTIVE_LIST, ACTIVE_LISTS_KEPT, key, bytes)
    }

    /// Returns the sessions that were active when the drain towards a generation began; empty if no
    /// list was written.
    pub fn active_sessions(
        &self,
        generation: Generation,
    ) -> Result<Vec<ActiveSession>, StoreError> {
        let key = keys::generation(keys::ACTIVE_LIST, generation);
        let found = self.core().read(|db| db.get(Keyspace::Meta, &key))?;
        let list = found.map(|bytes| codec::decode("the list of active sessions", &bytes));
        Ok(list.transpose()?.unwrap_or_default())
    }

    /// Returns the newest list of active sessions, whichever drain it was written for: each session
    /// must still have what it had then.
    pub fn last_active_sessions(&self) -> Result<Vec<ActiveSession>, StoreError> {
        let lists = self.newest(keys::ACTIVE_LIST, 1)?;
        Ok(lists.into_iter().next().unwrap_or_default())
    }

    /// Writes a value of a kind that is keyed by generation, and deletes the oldest ones beyond
    /// `keep`.
    fn put(&self, kind: u8, keep: usize, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        let mut ops = vec![Op::Put(Keyspace::Meta, key.clone(), value)];
        let (first, bound) = keys::all_of_kind(kind);
        let mut present = Vec::new();
        self.core().read(|db| {
            db.scan(Keyspace::Meta, &first, &bound, |key, _| {
                present.push(key.to_owned());
                Ok(true)
            })
        })?;
        present.retain(|other| *other != key);
        let excess = (present.len() + 1).saturating_sub(keep);
        let oldest = present.into_iter().take(excess);
        ops.extend(oldest.map(|key| Op::Delete(Keyspace::Meta, key)));
        self.write_meta_blocking(ops)
    }

    /// Returns at most `limit` values of a kind that is keyed by generation, the newest first.
    fn newest<T: DeserializeOwned>(&self, kind: u8, limit: usize) -> Result<Vec<T>, StoreError> {
        self.newest_meta("a restart record", keys::all_of_kind(kind), limit)
    }
}
