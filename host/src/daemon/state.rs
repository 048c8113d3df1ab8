//! The state of a serving daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::api::server::Server;
use crate::config::{Config, Env, Observed, OnFailedTrial, SecretFiles};
use crate::documents::{ConfigStatus, DaemonStatus, PluginStatus};
use crate::domain::{Digest, RestartRecord, UnixMillis};
use crate::session::{Lifecycle, NewComponent, Registry};
use crate::store::Store;
use crate::supervisor::Link;

use super::backup::BackupRun;
use super::census::LastCensus;
use super::component_trial::ComponentTrial;
use super::drain::Drain;
use super::machine::{Departure, RestartMachine};
use super::records::RestartRecords;
use super::watchdog::Watchdog;

/// The version of this binary.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) struct Daemon {
    pub(super) link: Arc<Link>,
    pub(super) config: Arc<Config>,
    /// The running version of the configuration file and of the files that it names.
    pub(super) loaded: Observed,
    /// The running version of the secrets that come from files.
    pub(super) secrets: SecretFiles,
    pub(super) env: Env,
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) lifecycle: Lifecycle,
    pub(super) server: Option<Server>,
    /// The addresses that the server listens on, by the names that the supervisor knows.
    pub(super) listeners: Vec<String>,
    /// The state machine of restarts and stops.
    pub(super) machine: RestartMachine<Box<PlannedRestart>, Observed>,
    /// The trial of new components in progress, if any.
    pub(super) trial: Option<ComponentTrial>,
    /// Plans for which components are tried; each replies to its client.
    pub(super) plans: JoinSet<()>,
    /// The drain in progress, if any.
    pub(super) drain: Option<Drain>,
    /// Set when this worker must hand over or stop.
    pub(super) departure: Option<Departure<Box<PlannedRestart>>>,
    /// When probation ends; `None` if it is over.
    pub(super) probation_ends: Option<Instant>,
    /// The record of the restart that started this worker.
    pub(super) record: RestartRecord,
    pub(super) started: Instant,
    pub(super) fixed: Fixed,
    pub(super) metrics: PrometheusHandle,
    /// The configuration's files that are currently unreadable.
    pub(super) unreadable: BTreeSet<PathBuf>,
    /// The configurations that were rolled back, with the reason: not retried automatically.
    pub(super) rejected_configs: BTreeMap<Digest, String>,
    /// Whether this worker has asked for a restart that writes the store anew.
    pub(super) has_asked_to_mend: bool,
    /// When the list of active sessions was last pruned.
    pub(super) pruned: Instant,
    /// Prunes it.
    pub(super) pruning: JoinHandle<()>,
    /// When components that nothing needs were last removed.
    pub(super) removed: Option<Instant>,
    /// Removes them.
    pub(super) removing: JoinHandle<()>,
    /// The latest addition to the history of configurations.
    pub(super) keeping: JoinHandle<()>,
    /// Who asked for the last restart that an operator asked for, if that is known.
    pub(super) asked_by: Option<String>,
    pub(super) status: watch::Sender<Arc<DaemonStatus>>,
    pub(super) watchdog: Watchdog,
    pub(super) census: LastCensus,
    pub(super) records: RestartRecords,
    /// The backup that is being taken, or the last one.
    pub(super) backup: Option<BackupRun>,
}

/// A restart between its acceptance and its handover.
pub(super) struct PlannedRestart {
    pub(super) record: RestartRecord,
    pub(super) accepted: Instant,
    /// The components to try before the drain.
    pub(super) new_components: Vec<NewComponent>,
    /// How long, and what follows; as the configuration says that is to come, so that one edit can bring a
    /// component and what is to become of sessions.
    pub(super) trial_budget: Duration,
    pub(super) on_failed_trial: OnFailedTrial,
}

/// The parts of the status that change only with the running configuration.
pub(super) struct Fixed {
    pub(super) started_at: UnixMillis,
    pub(super) config: ConfigStatus,
    pub(super) plugins: Vec<PluginStatus>,
}
