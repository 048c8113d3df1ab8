//! Restart records on their way to the store. They inform, so that nothing waits for one that the
//! store refuses: it is kept in memory, shown from there, and persisted once the store takes writes.

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

    /// Persists a record, now or later.
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

    /// Persists a record that something else depends on. Synced.
    ///
    /// # Errors
    /// Why the store did not take it.
    pub(super) async fn persist_now(&self, record: RestartRecord) -> Result<(), String> {
        let store = self.store.clone();
        let persisted = tokio::task::spawn_blocking(move || store.put_restart(&record)).await;
        persisted
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    /// Persists what the store has refused before.
    pub(super) async fn flush(&mut self) {
        let records: Vec<_> = self.unpersisted.values().cloned().collect();
        for record in &records {
            self.persist(record).await;
        }
    }

    /// What the store does not have, or has in an older version.
    pub(super) fn unpersisted(&self) -> &BTreeMap<Generation, RestartRecord> {
        &self.unpersisted
    }
}
