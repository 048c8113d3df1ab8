//! Persists restart records. They are only informative, so nothing waits for a record that the
//! store refuses: it is kept in memory, shown from there, and persisted once the store accepts
//! writes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use crate::domain::{Generation, RestartRecord, WRITER_STALLED_AFTER};
use crate::store::{Store, StoreError};

/// How long a write is waited for on which something depends. The event loop waits with it.
const PATIENCE: Duration = WRITER_STALLED_AFTER;
/// How long any other write is waited for.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_secs(1);
const STALLED: &str = "the disk of the data folder does not answer: no write ends";

pub(super) struct RestartRecords {
    store: Store,
    unpersisted: BTreeMap<Generation, RestartRecord>,
}

impl RestartRecords {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            unpersisted: BTreeMap::new(),
        }
    }

    /// Persists a record now, or later if the store refuses it or the disk takes its time.
    pub(super) async fn persist(&mut self, record: &RestartRecord) {
        if let Err(error) = self.put(record.clone(), SHORT_PATIENCE).await {
            tracing::error!(
                %error, generation = record.generation.0,
                "a restart record is not persisted yet"
            );
            self.persist_later(record.clone());
        }
    }

    /// Persists a record once the store takes writes.
    pub(super) fn persist_later(&mut self, record: RestartRecord) {
        self.unpersisted.insert(record.generation, record);
    }

    /// Persists a record that something else depends on; it is synced when this returns.
    ///
    /// # Errors
    /// Returns why the store refused it, or that the disk does not answer: then it may be written
    /// yet.
    pub(super) async fn persist_now(&mut self, record: RestartRecord) -> Result<(), String> {
        self.put(record, PATIENCE).await
    }

    async fn put(&mut self, record: RestartRecord, patience: Duration) -> Result<(), String> {
        let (store, generation) = (self.store.clone(), record.generation);
        let put = move || store.put_restart(&record);
        self.write_within(patience, put).await?;
        self.unpersisted.remove(&generation);
        Ok(())
    }

    /// Waits for a write of the store, but not for a disk that does not answer: the event loop has
    /// others to serve, and a stop to perform.
    ///
    /// # Errors
    /// As for [`Self::persist_now`].
    pub(super) async fn write(
        &self,
        write: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), String> {
        self.write_within(PATIENCE, write).await
    }

    async fn write_within(
        &self,
        patience: Duration,
        write: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), String> {
        if self.store.writer_signs().is_stalled() {
            return Err(STALLED.to_owned());
        }
        match timeout(patience, tokio::task::spawn_blocking(write)).await {
            Ok(Ok(written)) => written.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(STALLED.to_owned()),
        }
    }

    /// Retries the records that the store has refused before.
    pub(super) async fn flush(&mut self) {
        let records: Vec<_> = self.unpersisted.values().cloned().collect();
        for record in &records {
            self.persist(record).await;
        }
    }

    /// Returns the records that the store lacks, or has only in an older version.
    pub(super) fn unpersisted(&self) -> &BTreeMap<Generation, RestartRecord> {
        &self.unpersisted
    }
}
