//! What the daemon knows while it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::api::server::Server;
use crate::api::{ConfigStatus, DaemonStatus, PluginStatus};
use crate::config::{Config, Env, Observed, SecretFiles};
use crate::domain::{Digest, RestartRecord, UnixMillis};
use crate::session::{Lifecycle, Registry};
use crate::store::Store;
use crate::supervisor::Link;

use super::drain::Drain;
use super::machine::{Departure, RestartMachine};
use super::records::RestartRecords;
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
    pub(super) lifecycle: Lifecycle,
    pub(super) server: Option<Server>,
    /// The addresses that it listens on, as the supervisor knows them.
    pub(super) listeners: Vec<String>,
    /// What is under way, decided purely.
    pub(super) machine: RestartMachine<Box<PlannedRestart>, Observed>,
    /// The drain under way, if one is.
    pub(super) drain: Option<Drain>,
    /// Set when this worker is to leave.
    pub(super) departure: Option<Departure<Box<PlannedRestart>>>,
    /// When what runs has proven itself, if it has not yet.
    pub(super) probation_ends: Option<Instant>,
    /// This life's own record, until it is completed.
    pub(super) record: RestartRecord,
    pub(super) started: Instant,
    pub(super) fixed: Fixed,
    pub(super) metrics: PrometheusHandle,
    /// Files of the configuration that cannot be read now.
    pub(super) unreadable: BTreeSet<PathBuf>,
    /// Configurations that were rolled back, and why: not tried again by themselves.
    pub(super) rejected_configs: BTreeMap<Digest, String>,
    /// When the list of active sessions was last pruned.
    pub(super) pruned: Instant,
    pub(super) status: watch::Sender<Arc<DaemonStatus>>,
    pub(super) watchdog: Watchdog,
    pub(super) records: RestartRecords,
}

/// A restart between its acceptance and its hand-over.
pub(super) struct PlannedRestart {
    pub(super) record: RestartRecord,
    pub(super) accepted: Instant,
}

/// What does not change while a worker lives.
pub(super) struct Fixed {
    pub(super) started_at: UnixMillis,
    pub(super) config: ConfigStatus,
    pub(super) plugins: Vec<PluginStatus>,
}
