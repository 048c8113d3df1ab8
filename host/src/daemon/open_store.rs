//! Opens the store, and derives this worker's generation from its restart records.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::Config;
use crate::domain::{Digest, Generation, RestartStatus, UnixMillis};
use crate::store::{Store, StoreOptions};
use crate::supervisor::StartCause;

use super::clock_file;
use super::generation::{self, WorkerLife};
use super::state::VERSION;

/// How many of the latest restart records are read, to find the previous worker and the
/// configurations that were rolled back.
const RECENT: usize = 32;

pub(super) struct OpenedStore {
    pub(super) store: Store,
    pub(super) life: WorkerLife,
    /// The generation of the previous worker that served.
    pub(super) previous: Generation,
    /// The configurations that were rolled back, with the reason.
    pub(super) rejected_configs: BTreeMap<Digest, String>,
    /// When the kernel last killed a worker because memory had run out, if that is known.
    pub(super) killed_for_memory: Option<UnixMillis>,
}

/// Opens the store, for the standby of the restart `planned`, or without one for a fresh worker.
pub(super) async fn open_store(
    config: &Arc<Config>,
    planned: Option<u64>,
    cause: &StartCause,
) -> anyhow::Result<OpenedStore> {
    let (config, cause) = (config.clone(), cause.clone());
    let opened = tokio::task::spawn_blocking(move || open(&config, planned, &cause)).await;
    opened
        .context("the store's opening ended early")?
        .context("daemon.data_dir")
}

fn open(config: &Config, planned: Option<u64>, cause: &StartCause) -> anyhow::Result<OpenedStore> {
    let options = StoreOptions {
        wal_bytes: config.store.wal_bytes,
        cache_bytes: usize::try_from(config.store.cache_bytes).unwrap_or(usize::MAX),
        retention: config.retention,
        clock: clock_file::load(&config.daemon.data_dir),
        ..StoreOptions::default()
    };
    let store = Store::open(&config.daemon.data_dir, options)?;
    let planned = match planned {
        Some(generation) => store.restart(Generation(generation))?,
        None => None,
    };
    let recent = store.restarts(RECENT)?;
    let last = recent.first().cloned();
    let life = generation::life(last, planned, cause, VERSION, UnixMillis::now());
    let known: Vec<_> = life.abandoned.iter().chain(&recent).cloned().collect();
    let rejected_configs = generation::rejected_configs(&known);
    let killed_for_memory = generation::killed_for_memory(recent.iter().chain([&life.record]));
    let served = |status| matches!(status, RestartStatus::Completed | RestartStatus::Probation);
    let mut before = recent
        .iter()
        .filter(|record| record.generation < life.record.generation);
    let previous = before.find(|record| served(record.status));
    let previous = previous.map_or(Generation(0), |record| record.generation);
    Ok(OpenedStore {
        store,
        life,
        previous,
        rejected_configs,
        killed_for_memory,
    })
}
