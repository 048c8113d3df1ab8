//! What the daemon knows while it serves, and how far a restart is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::server::Server;
use crate::api::{ConfigStatus, DaemonStatus, PluginStatus};
use crate::config::{Config, Env, Observed, SecretFiles};
use crate::domain::{Digest, Generation, RestartRecord, UnixMillis};
use crate::session::{Drained, Registry};
use crate::store::Store;
use crate::supervisor::Link;

use super::plan::{Trigger, UnderWay};
use super::watchdog::Watchdog;

/// What the operator runs.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) struct Daemon {
    pub(super) link: Arc<Link>,
    pub(super) config: Arc<Config>,
    /// The configuration file and what it names, as they run.
    pub(super) loaded: Observed,
    /// The secrets that come from files, as they run.
    pub(super) secrets: SecretFiles,
    pub(super) env: Env,
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) server: Option<Server>,
    /// The addresses that it listens on, as the supervisor knows them.
    pub(super) listeners: Vec<String>,
    pub(super) phase: Phase,
    /// This life's own record, until it is completed.
    pub(super) record: RestartRecord,
    pub(super) started: Instant,
    pub(super) fixed: Fixed,
    pub(super) metrics: PrometheusHandle,
    /// Why the file on the disk is not what runs.
    pub(super) last_error: Option<String>,
    /// Files of the configuration that cannot be read now.
    pub(super) unreadable: BTreeSet<PathBuf>,
    /// A change that was seen while a restart was under way, and who asked.
    pub(super) pending_change: Option<(Trigger, Observed)>,
    /// Something was refused because the store took no write: it is looked at again once it does.
    pub(super) waits_for_store: bool,
    /// Configurations that were rolled back, and why: not tried again by themselves.
    pub(super) rejected_configs: BTreeMap<Digest, String>,
    /// A hot change has just been made: its probation begins.
    pub(super) in_probation: bool,
    /// When the list of active sessions was last pruned.
    pub(super) pruned: Instant,
    pub(super) status: watch::Sender<Arc<DaemonStatus>>,
    pub(super) watchdog: Watchdog,
    /// Restart records that the store did not take: they are put down when it does.
    pub(super) unpersisted: Mutex<BTreeMap<Generation, RestartRecord>>,
}

pub(super) enum Phase {
    Serving,
    /// A standby gets ready; nothing has changed yet.
    Preparing(Box<PlannedRestart>),
    Draining {
        goal: DrainGoal,
        task: JoinHandle<Drained>,
        since: UnixMillis,
    },
    /// Nothing runs any more, and clients are passed on or sent away. There is no way back.
    Leaving(UnderWay),
}

/// A restart between its acceptance and its hand-over.
pub(super) struct PlannedRestart {
    pub(super) record: RestartRecord,
    pub(super) accepted: Instant,
}

pub(super) enum DrainGoal {
    HandOver(Box<PlannedRestart>),
    Stop(Generation),
}

/// What does not change while a worker lives.
pub(super) struct Fixed {
    pub(super) started_at: UnixMillis,
    pub(super) config: ConfigStatus,
    pub(super) plugins: Vec<PluginStatus>,
}

impl Daemon {
    /// Writes a restart record; it informs, so a failure is told and nothing waits for it.
    pub(super) async fn persist_restart(&self, record: &RestartRecord) {
        let generation = record.generation;
        let kept = persist(&self.store, record.clone()).await;
        if let Err(error) = &kept {
            tracing::error!(%error, generation = generation.0, "a restart record is not kept yet");
        }
        let mut unkept = self.unpersisted();
        match kept {
            Ok(()) => unkept.remove(&generation),
            Err(_) => unkept.insert(generation, record.clone()),
        };
    }

    /// Nothing that panics runs under the lock.
    pub(super) fn unpersisted(&self) -> MutexGuard<'_, BTreeMap<Generation, RestartRecord>> {
        self.unpersisted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a restart record, synced.
pub(super) async fn persist(store: &Store, record: RestartRecord) -> Result<(), String> {
    let store = store.clone();
    let kept = tokio::task::spawn_blocking(move || store.put_restart(&record)).await;
    kept.map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}
