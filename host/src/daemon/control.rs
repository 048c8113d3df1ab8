//! The daemon's status, and its replies to the control requests that the API passes on for clients.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::api::{Acceptance, BackupRefusal, ControlRequest};
use crate::config::{Config, Transport};
use crate::documents::{
    ComponentStatus, DaemonState, DaemonStatus, DrainStatus, FINDINGS_MAX, PluginStatus,
};
use crate::domain::{
    Census, Finding, Generation, GuestMemoryStatus, Refusal, RestartRecord, ToolServerState,
    ToolServerStatus,
};
use crate::store::StoreError;

use super::act::WorkerEvent;
use super::backup::{BackupOrder, BackupReply, BackupRun};
use super::logging;
use super::machine::{Activity, Trigger, UnderWay};
use super::reload::Reloaded;
use super::state::{Daemon, Fixed, VERSION};
use super::stop;

impl Fixed {
    /// Returns the status of a daemon that does not serve yet.
    pub(super) fn starting(&self, generation: Generation) -> DaemonStatus {
        DaemonStatus {
            generation,
            state: DaemonState::Starting,
            version: VERSION.to_owned(),
            format: None,
            pid: Some(std::process::id()),
            started_at: Some(self.started_at),
            config: self.config.clone(),
            sessions: BTreeMap::new(),
            drain: None,
            restart: None,
            plugins: self.plugins.clone(),
            model_providers: Vec::new(),
            tool_servers: Vec::new(),
            guest_memory: GuestMemoryStatus::default(),
            dead_letters: None,
            watchdog: Arc::default(),
        }
    }
}

/// Adds what a census has counted.
fn counted(status: &mut DaemonStatus, census: &Census) {
    status.dead_letters = Some(census.dead_letters);
    metrics::gauge!("abide_dead_letters").set(census.dead_letters as f64);
    for plugin in &mut status.plugins {
        plugin.sessions = Some(census.sessions_of(&plugin.name));
        let components = census.plugins.get(&plugin.name).into_iter().flatten();
        plugin.components = components
            .map(|(digest, component)| ComponentStatus {
                digest: *digest,
                sessions: component.sessions,
                pinned: component.pinned,
                pinned_since: component.pinned_since,
            })
            .collect();
    }
}

/// Names the daemon's files that servers can read: those that run as its user and in no sandbox.
fn tell_what_they_read(servers: &mut [ToolServerStatus], config: &Config) {
    for server in servers {
        let configured = config.mcp.get(&server.name);
        let open = configured.is_some_and(|server| {
            matches!(
                server.transport,
                Transport::Command {
                    user: None,
                    sandbox: false,
                    ..
                }
            )
        });
        if open {
            let paths = config.private_paths().into_iter();
            server.can_read = paths.map(|path| path.display().to_string()).collect();
        }
    }
}

/// Returns the error text for unreadable files of the configuration; `None` if all are readable.
fn cannot_be_read(files: &BTreeSet<PathBuf>) -> Option<String> {
    let names: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} cannot be read now; what runs goes on. Put it back, or make it readable: it is \
             looked at as soon as it can be",
            names.join(", ")
        )
    })
}

impl Daemon {
    /// Stores which files the watch currently cannot read; logs them if they have changed.
    pub(super) fn unreadable(&mut self, files: BTreeSet<PathBuf>) {
        if files != self.unreadable
            && let Some(text) = cannot_be_read(&files)
        {
            tracing::warn!("{text}");
        }
        self.unreadable = files;
    }

    /// Publishes the current status to the API, and updates metrics.
    pub(super) fn publish_status(&self) {
        let mut status = self.fixed.starting(self.record.generation);
        let refusal = self.machine.refusal().map(str::to_owned);
        status.config.last_error = refusal.or_else(|| cannot_be_read(&self.unreadable));
        status.format = Some(self.store.format());
        status.sessions = self.sessions();
        if let Some(census) = &*self.census.borrow() {
            counted(&mut status, census);
        }
        for rollout in self.registry.rollouts() {
            let of = |plugin: &&mut PluginStatus| plugin.name == rollout.plugin;
            if let Some(plugin) = status.plugins.iter_mut().find(of) {
                plugin.rollout = Some(rollout);
            }
        }
        status.model_providers = self.registry.live_config().llm.status();
        status.tool_servers = self.tool_servers();
        status.guest_memory = self.guest_memory();
        status.state = match self.machine.activity() {
            Activity::Serving | Activity::Preparing => DaemonState::Serving,
            Activity::Draining => DaemonState::Draining,
            Activity::Stopping => DaemonState::Stopping,
        };
        status.watchdog = self.findings();
        let planned = self.machine.planned().map(|planned| &planned.record);
        let mut restart = planned.unwrap_or(&self.record).clone();
        // Its own record has it once the trial is over.
        if let Some(trial) = &self.trial {
            restart.trial = trial.found();
        }
        status.restart = Some(restart);
        status.drain = self.drain.as_ref().map(|drain| DrainStatus {
            running: self.registry.running(),
            held: self.registry.held(),
            ends_at: Some(drain.ends_at()),
        });
        metrics::counter!("abide_log_lines_lost_total").absolute(logging::lines_lost());
        metrics::gauge!("abide_turns_running").set(self.registry.running() as f64);
        let waiting = self.registry.waiting_to_compute();
        metrics::gauge!("abide_guests_waiting_to_compute").set(waiting as f64);
        self.status.send_replace(Arc::new(status));
    }

    /// Returns the watchdog's current findings, and the sessions that this worker restored with
    /// less state than they had.
    fn findings(&self) -> Arc<[Finding]> {
        let found = self.watchdog.found();
        let lesser = &self.record.relaunch.shortfalls;
        if lesser.is_empty() {
            return found;
        }
        let since = self.fixed.started_at;
        let mut all: Vec<Finding> = lesser.iter().map(|lacks| lacks.finding(since)).collect();
        all.extend(found.iter().cloned());
        all.sort_by_key(|finding| finding.kind);
        all.truncate(FINDINGS_MAX);
        all.into()
    }

    fn guest_memory(&self) -> GuestMemoryStatus {
        let memory = self.registry.guest_memory();
        metrics::gauge!("abide_guest_memory_budget_bytes").set(memory.budget_bytes as f64);
        metrics::gauge!("abide_guest_memory_reserved_bytes").set(memory.reserved_bytes as f64);
        metrics::gauge!("abide_guest_memory_waiting").set(memory.waiting as f64);
        memory
    }

    fn tool_servers(&self) -> Vec<ToolServerStatus> {
        let mut servers = self.registry.live_config().tools.status();
        tell_what_they_read(&mut servers, &self.config);
        let tell = |name: &str, now: Option<ToolServerState>, tools: u64| {
            for state in ToolServerState::ALL {
                let is_so = f64::from(u8::from(now == Some(state)));
                metrics::gauge!(
                    "abide_tool_server_state",
                    "server" => name.to_owned(), "state" => state.as_str()
                )
                .set(is_so);
            }
            metrics::gauge!("abide_tool_server_tools", "server" => name.to_owned())
                .set(tools as f64);
        };
        for server in &servers {
            tell(&server.name, Some(server.state), server.tools.unwrap_or(0));
        }
        // Reset the metrics of servers that are no longer configured.
        for before in &self.status.borrow().tool_servers {
            if servers.iter().all(|server| server.name != before.name) {
                tell(&before.name, None, 0);
            }
        }
        servers
    }

    fn sessions(&self) -> BTreeMap<String, u64> {
        let Ok(counts) = self.store.counts() else {
            return BTreeMap::new();
        };
        let (running, queued) = (self.registry.running(), self.registry.queued());
        let busy = running + queued + counts.parked + counts.faulted;
        metrics::gauge!("abide_sessions").set(counts.open as f64);
        metrics::gauge!("abide_sessions_parked").set(counts.parked as f64);
        metrics::gauge!("abide_sessions_faulted").set(counts.faulted as f64);
        let by_state = [
            ("total", counts.open),
            ("running", running),
            ("queued", queued),
            ("parked", counts.parked),
            ("faulted", counts.faulted),
            ("idle", counts.open.saturating_sub(busy)),
            ("closed", counts.closed),
        ];
        by_state
            .into_iter()
            .map(|(state, count)| (state.to_owned(), count))
            .collect()
    }

    pub(super) async fn answer(&mut self, request: ControlRequest) {
        // A dropped receiver is no error: the client has gone.
        match request {
            ControlRequest::Restart { by, reply } => {
                self.asked_by = by;
                let planned = self.restart_asked().await;
                let _ = reply.send(planned);
            }
            ControlRequest::Plan { config, reply } => self.plan(config, reply),
            ControlRequest::Drain { by, reply } => {
                let why = match by {
                    Some(by) => format!("the operator `{by}` asked for a drain"),
                    None => "an operator asked for a drain".to_owned(),
                };
                let generation = self.stop(&why).await;
                let plan = None;
                match generation {
                    Some(generation) => {
                        let _ = reply.send(Acceptance::Accepted { generation, plan });
                    }
                    // Send no reply: the API then tells the client to retry, and the successor
                    // answers.
                    None => drop(reply),
                }
            }
            ControlRequest::Restarts {
                before,
                limit,
                reply,
            } => {
                let before = before.unwrap_or(Generation(u64::MAX));
                let listed = self
                    .store
                    .restarts(usize::MAX)
                    .map_err(refusal)
                    .map(|records| {
                        let older = records.into_iter().filter(|r| r.generation < before);
                        older
                            .map(|record| self.present(record))
                            .take(limit)
                            .collect()
                    });
                let _ = reply.send(listed);
            }
            ControlRequest::RestartRecord { generation, reply } => {
                let _ = reply.send(self.recorded(generation));
            }
            ControlRequest::Backup { folder, reply } => self.begin_backup(folder, reply),
        }
    }

    /// Begins to stop the daemon. Returns `None` if a successor is already taking over: then the
    /// successor is the one to stop.
    pub(super) async fn stop(&mut self, why: &str) -> Option<Generation> {
        if !matches!(self.machine.under_way(), Some(UnderWay::Stop(_))) {
            let grace = self.config.daemon.grace_period;
            tokio::spawn(stop::end_in_time(self.store.clone(), grace));
        }
        let generation = self.next_generation();
        // A stop is never rejected.
        let _ = self
            .advance(WorkerEvent::Stop(generation, why.to_owned()))
            .await;
        match self.machine.under_way() {
            Some(UnderWay::Stop(generation)) => Some(generation),
            Some(UnderWay::Restart(_)) | None => None,
        }
    }

    /// Begins a backup into `folder`, unless another one is being taken or this worker is about to
    /// leave.
    fn begin_backup(&mut self, folder: PathBuf, reply: BackupReply) {
        let busy = self.backup.as_ref().and_then(BackupRun::runs_into);
        let refusal = match (busy, self.machine.activity()) {
            (Some(folder), _) => Some(BackupRefusal::Busy(folder.to_owned())),
            (None, Activity::Draining | Activity::Stopping) => Some(BackupRefusal::Leaving),
            (None, Activity::Serving | Activity::Preparing) => None,
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        let order = BackupOrder {
            folder,
            config: self.loaded.bytes.clone(),
            reserve_bytes: self.config.daemon.disk_reserve_bytes,
            version: VERSION,
        };
        match BackupRun::begin(self.store.clone(), order, reply) {
            Ok(run) => self.backup = Some(run),
            // The client is told to ask again.
            Err(error) => tracing::error!(%error, "the thread of a backup cannot be started"),
        }
    }

    async fn restart_asked(&mut self) -> Acceptance {
        match self.reload(Trigger::Operator).await {
            Ok(Reloaded::Restarting(generation, plan)) => Acceptance::Accepted { generation, plan },
            Ok(Reloaded::Stopping) => Acceptance::Stopping,
            // Unreachable: an operator's reload always restarts.
            Ok(Reloaded::Running) => Acceptance::Invalid {
                problems: vec!["nothing was accepted".to_owned()],
            },
            Err(rejection) => Acceptance::Invalid {
                problems: rejection
                    .problems()
                    .into_iter()
                    .map(|problem| problem.text)
                    .collect(),
            },
        }
    }

    /// Returns a restart's record, if there is one. Records that the store lacks are kept in
    /// memory, and are returned even while the store cannot be read.
    fn recorded(&self, generation: Generation) -> Result<Option<RestartRecord>, Refusal> {
        if generation == self.record.generation {
            return Ok(Some(self.record.clone()));
        }
        let unpersisted = self.records.unpersisted().get(&generation).cloned();
        match unpersisted {
            Some(record) => Ok(Some(record)),
            None => self.store.restart(generation).map_err(refusal),
        }
    }

    /// Returns the latest version of a record: the store may have an older one of this worker's own
    /// restart, or of a record that it refused.
    fn present(&self, record: RestartRecord) -> RestartRecord {
        if record.generation == self.record.generation {
            return self.record.clone();
        }
        let unpersisted = self.records.unpersisted().get(&record.generation).cloned();
        unpersisted.unwrap_or(record)
    }
}

fn refusal(error: StoreError) -> Refusal {
    Refusal::StoreFailed(error.to_string())
}
