//! Opens the store, and derives this worker's generation from its restart records.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::domain::{Digest, Generation, MemoryKills, RestartStatus, UnixMillis};
use crate::store::{OpenError, Store, StoreError, StoreOptions};
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
    /// When workers were last killed for want of memory.
    pub(super) memory_kills: MemoryKills<UnixMillis>,
}

/// The reason why a worker has no store.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoStore {
    #[error("daemon.data_dir: {0}")]
    Open(#[from] OpenError),
    #[error("daemon.data_dir: {0}")]
    Read(#[from] StoreError),
    #[error("the store's opening ended early: {0}")]
    Panic(#[from] tokio::task::JoinError),
}

/// What a worker opens its store with.
#[derive(Clone, Debug)]
pub(super) struct StoreOpening {
    pub(super) config: Arc<Config>,
    /// The restart that the worker is the standby of; none for a fresh worker.
    pub(super) planned: Option<u64>,
    pub(super) cause: StartCause,
    /// What an operator has accepted; the rest of the options follows from the configuration.
    pub(super) options: StoreOptions,
}

impl StoreOpening {
    /// Opens the store. The disk is waited for on a thread of its own.
    pub(super) async fn open(&self) -> Result<OpenedStore, NoStore> {
        let opening = self.clone();
        tokio::task::spawn_blocking(move || open(opening)).await?
    }
}

/// Returns the options with which the store of this configuration is opened.
pub(super) fn configured(config: &Config, options: StoreOptions) -> StoreOptions {
    StoreOptions {
        wal_bytes: config.store.wal_bytes,
        cache_bytes: usize::try_from(config.store.cache_bytes).unwrap_or(usize::MAX),
        retention: config.retention,
        clock: clock_file::load(&config.daemon.data_dir),
        ..options
    }
}

fn open(opening: StoreOpening) -> Result<OpenedStore, NoStore> {
    let StoreOpening {
        config,
        planned,
        cause,
        options,
    } = opening;
    let options = configured(&config, options);
    let store = Store::open(&config.daemon.data_dir, options)?;
    let planned = match planned {
        Some(generation) => store.restart(Generation(generation))?,
        None => None,
    };
    let recent = store.restarts(RECENT)?;
    let last = recent.first().cloned();
    let now = UnixMillis::now();
    let life = generation::life(last, planned, &cause, store.is_anew(), VERSION, now);
    let known: Vec<_> = life.abandoned.iter().chain(&recent).cloned().collect();
    let rejected_configs = generation::rejected_configs(&known);
    let memory_kills = generation::memory_kills(recent.iter().chain([&life.record]));
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
        memory_kills,
    })
}
