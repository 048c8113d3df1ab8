//! Reads and writes of what belongs to no session: restart records, the order to cut histories, access
//! tokens, the audit log.

use std::{sync::mpsc::sync_channel, time::Instant};

use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{
    Store, StoreError, codec,
    db::{Keyspace, Op},
    queue::{Write, WriteWaiter, WriterJob},
};

impl Store {
    /// Writes `ops` as one batch, which is synced on return. Waits for the disk.
    pub(super) fn write_meta_blocking(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (done, outcome) = sync_channel(1);
        self.push_meta(ops, WriteWaiter::Thread(done))?;
        outcome.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Does the same for a task.
    pub(super) async fn write_meta(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let (done, outcome) = oneshot::channel();
        self.push_meta(ops, WriteWaiter::Task(done))?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    fn push_meta(&self, ops: Vec<Op>, done: WriteWaiter) -> Result<(), StoreError> {
        self.core().push(WriterJob::Write(Write {
            session: None,
            ops,
            created: 0,
            closed: 0,
            due: Instant::now(),
            done,
        }))
    }

    /// Returns at most `limit` values of the keys from `first` (inclusive) to `bound` (exclusive), the last
    /// key's first. `what` names one in the error.
    pub(super) fn newest_meta<T: DeserializeOwned>(
        &self,
        what: &'static str,
        (first, bound): (Vec<u8>, Vec<u8>),
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        self.core().read(|db| {
            let mut entries = db.range(Keyspace::Meta, &first, &bound);
            let mut values = Vec::new();
            entries.seek_to_last();
            while let Some(value) = entries.value()
                && values.len() < limit
            {
                values.push(codec::decode(what, value)?);
                entries.prev();
            }
            entries.status().map_err(|error| StoreError::read(&error))?;
            Ok(values)
        })
    }
}
