//! Restart records: what each restart was for and how it ended. Written at once and synced, since
//! the next worker begins with them.

use std::{sync::mpsc::sync_channel, time::Instant};

use serde::de::DeserializeOwned;

use crate::domain::{ActiveSession, Generation, PastRestart, RestartRecord, RestartStatus};

use super::{
    Store, StoreError, codec,
    db::{Keyspace, Op},
    keys,
    queue::{Write, WriteWaiter, WriterJob},
};

/// Restart records that are kept.
pub const RESTARTS_KEPT: usize = 1000;
/// Lists of active sessions that are kept.
pub const ACTIVE_LISTS_KEPT: usize = 8;

impl Store {
    /// Writes a restart's record, in place of an earlier one of that generation. Synced when it
    /// returns. Records beyond [`RESTARTS_KEPT`] go.
    pub fn put_restart(&self, record: &RestartRecord) -> Result<(), StoreError> {
        let bytes = codec::encode("a restart record", record)?;
        let key = keys::generation(keys::RESTART, record.generation);
        self.put(keys::RESTART, RESTARTS_KEPT, key, bytes)
    }

    /// A restart's record.
    pub fn restart(&self, generation: Generation) -> Result<Option<RestartRecord>, StoreError> {
        let key = keys::generation(keys::RESTART, generation);
        let found = self.core().read(|db| db.get(Keyspace::Meta, &key))?;
        found
            .map(|bytes| codec::decode("a restart record", &bytes))
            .transpose()
    }

    /// Restart records, the newest first.
    pub fn restarts(&self, limit: usize) -> Result<Vec<RestartRecord>, StoreError> {
        self.newest(keys::RESTART, limit)
    }

    /// The last generation that a restart record took, refused ones included: the next one is
    /// behind it.
    pub fn last_generation(&self) -> Result<Option<Generation>, StoreError> {
        let newest = self.restarts(1)?;
        Ok(newest.first().map(|record| record.generation))
    }

    /// Restarts that brought up a new generation (or are about to), the oldest first: what
    /// sessions are told of.
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
            })
            .collect())
    }

    /// Writes down which sessions are active as the drain towards a generation begins. Synced when
    /// it returns. Lists beyond [`ACTIVE_LISTS_KEPT`] go.
    pub fn put_active_sessions(
        &self,
        generation: Generation,
        sessions: &[ActiveSession],
    ) -> Result<(), StoreError> {
        let bytes = codec::encode("the list of active sessions", &sessions)?;
        let key = keys::generation(keys::ACTIVE_LIST, generation);
        self.put(keys::ACTIVE_LIST, ACTIVE_LISTS_KEPT, key, bytes)
    }

    /// The sessions that were active as the drain towards a generation began; none if that was
    /// not written down.
    pub fn active_sessions(
        &self,
        generation: Generation,
    ) -> Result<Vec<ActiveSession>, StoreError> {
        let key = keys::generation(keys::ACTIVE_LIST, generation);
        let found = self.core().read(|db| db.get(Keyspace::Meta, &key))?;
        let list = found.map(|bytes| codec::decode("the list of active sessions", &bytes));
        Ok(list.transpose()?.unwrap_or_default())
    }

    /// The last list of active sessions that was written down, whichever drain it was for: what
    /// each of them had then, it must have now.
    pub fn last_active_sessions(&self) -> Result<Vec<ActiveSession>, StoreError> {
        let lists = self.newest(keys::ACTIVE_LIST, 1)?;
        Ok(lists.into_iter().next().unwrap_or_default())
    }

    /// Sets a key of a kind that is numbered by generation, and lets the oldest go beyond `keep`.
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
        let (done, told) = sync_channel(1);
        self.core().push(WriterJob::Write(Write {
            session: None,
            ops,
            created: 0,
            closed: 0,
            due: Instant::now(),
            done: WriteWaiter::Thread(done),
        }))?;
        told.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// The values of a kind that is numbered by generation, the newest first.
    fn newest<T: DeserializeOwned>(&self, kind: u8, limit: usize) -> Result<Vec<T>, StoreError> {
        let (first, bound) = keys::all_of_kind(kind);
        self.core().read(|db| {
            let mut entries = db.range(Keyspace::Meta, &first, &bound);
            let mut values = Vec::new();
            entries.seek_to_last();
            while let Some(value) = entries.value()
                && values.len() < limit
            {
                values.push(codec::decode("a restart record", value)?);
                entries.prev();
            }
            entries.status().map_err(|error| StoreError::read(&error))?;
            Ok(values)
        })
    }
}
