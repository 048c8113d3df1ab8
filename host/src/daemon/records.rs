//! Persists restart records. They are only informative, so nothing waits for a record that the
//! store refuses: it is kept in memory, shown from there, and persisted once the store accepts
//! writes.

use std::collections::BTreeMap;

use crate::domain::{Generation, RestartRecord};
use crate::store::Store;

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

    /// Persists a record now, or later if the store refuses it.
    pub(super) async fn persist(&mut self, record: &RestartRecord) {
        let generation = record.generation;
        match self.persist_now(record.clone()).await {
            Ok(()) => {
                self.unpersisted.remove(&generation);
            }
            Err(error) => {
                tracing::error!(%error, generation = generation.0, "a restart record is not persisted yet");
                self.unpersisted.insert(generation, record.clone());
            }
        }
    }

    /// Persists a record that something else depends on; it is synced when this returns.
    ///
    /// # Errors
    /// Returns why the store refused it.
    pub(super) async fn persist_now(&self, record: RestartRecord) -> Result<(), String> {
        let store = self.store.clone();
        let persisted = tokio::task::spawn_blocking(move || store.put_restart(&record)).await;
        persisted
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
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
