//! The event loop of a serving daemon: it receives events, feeds them to the restart
//! [machine](super::machine) and performs the machine's actions.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::access::{AuditLog, Tokens};
use crate::api::server::{CONNECTIONS_MAX, PreparedServer};
use crate::api::{Api, ApiParts, Control, ControlRequest};
use crate::config::{ConfigHistory, ConfigWatch, Env, Observed, Timing, ToolServerConfig};
use crate::documents::{ConfigStatus, PluginStatus};
use crate::domain::{
    Digest, Generation, MemoryKills, PastRestart, PluginTrial, RelaunchReport, RestartRecord,
    RestartStatus, UnixMillis,
};
use crate::failpoint;
use crate::session::{Clients, Lifecycle, Registry, RestartManifest, Settings, Signs};
use crate::store::Store;
use crate::supervisor::{Connection, Link, ToWorker};

use super::act::WorkerEvent;
use super::announce::announce;
use super::census;
use super::component_trial;
use super::connections::adopt;
use super::drain::Drain;
use super::frontend::Frontend;
use super::generation::WorkerLife;
use super::launch_spec::LaunchSpec;
use super::machine::{RestartMachine, Trigger};
use super::plan::Rejection;
use super::records::RestartRecords;
use super::standby::Prepared;
use super::state::{Daemon, Fixed};
use super::watchdog::Watchdog;

/// How often the status is published and housekeeping is done when nothing else happens.
const TICK: Duration = Duration::from_millis(250);
/// An event that wakes the loop.
enum LoopEvent {
    Order(Option<ToWorker>),
    File(Observed),
    Request(ControlRequest),
    Tried(Vec<PluginTrial>),
    Drained,
    Relaunched(RelaunchReport),
    ProbationOver,
    Tick,
}

/// A worker that has opened its store and may serve.
pub(super) struct StartedWorker {
    pub(super) link: Arc<Link>,
    pub(super) orders: mpsc::UnboundedReceiver<ToWorker>,
    pub(super) frontend: Frontend,
    pub(super) prepared: Prepared,
    pub(super) env: Env,
    pub(super) store: Store,
    pub(super) life: WorkerLife,
    /// The generation of the previous worker.
    pub(super) previous: Generation,
    /// The configurations that were rolled back, with the reason.
    pub(super) rejected_configs: BTreeMap<Digest, String>,
    /// When the kernel last killed a worker because memory had run out, if that is known.
    pub(super) memory_kills: MemoryKills<UnixMillis>,
    /// The connections that the previous worker passed on.
    pub(super) connections: Vec<Connection>,
}

/// Serves until a successor takes over or the daemon stops.
pub(super) async fn serve(worker: StartedWorker) -> ExitCode {
    let StartedWorker {
        link,
        mut orders,
        frontend,
        prepared,
        env,
        store,
        life,
        previous,
        rejected_configs,
        memory_kills,
        connections,
    } = worker;
    let Frontend {
        config,
        secrets,
        access,
        metrics,
        listeners,
    } = frontend;
    let Prepared {
        loaded,
        engine,
        parts,
    } = prepared;
    let fixed = Fixed {
        started_at: UnixMillis::now(),
        config: ConfigStatus {
            path: config.file.clone(),
            digest: Some(config.digest),
            loaded_at: Some(UnixMillis::now()),
            last_error: None,
        },
        plugins: parts
            .plugins
            .0
            .iter()
            .map(|(name, plugin)| PluginStatus {
                name: name.clone(),
                digest: Some(plugin.component.digest()),
                contract: Some(plugin.component.contract().to_owned()),
                sessions: None,
                components: Vec::new(),
                rollout: None,
            })
            .collect(),
    };
    let restarts = past(&store, &life.record, config.daemon.notice_window);
    let registry = Registry::new(
        store.clone(),
        engine,
        parts,
        Settings {
            generation: life.record.generation,
            restarts,
            previous,
            died_by_own_doing: life.died_by_own_doing,
            memory_max_bytes: config.daemon.session_memory_bytes,
        },
    );
    let census = census::start(Signs::of(&registry));
    let watchdog = Watchdog::start(
        Signs::of(&registry),
        census.clone(),
        &store,
        config.daemon.data_dir.clone(),
        config.daemon.disk_reserve_bytes,
        memory_kills,
    );
    let tokens = Tokens::load(store.clone());
    if access.token.is_none() && !tokens.is_empty() {
        tracing::warn!(
            "there are access tokens, but the configuration names no token: anybody who reaches this \
             daemon may do everything but decide approvals; set `token_env` or `token_file` under [daemon]"
        );
    }
    let asks = |server: &ToolServerConfig| !server.ask.0.is_empty();
    if access.token.is_none() && config.mcp.values().any(asks) {
        tracing::info!(
            "approvals are decided with `abide approvals` on this machine, by the daemon's user; for other \
             clients set `token_env` or `token_file` under [daemon]"
        );
    }
    let (requests, mut asked) = mpsc::channel(64);
    let starting = Arc::new(fixed.starting(life.record.generation));
    let (status, status_seen) = watch::channel(starting);
    let api = Api::new(ApiParts {
        sessions: Clients::of(&registry),
        control: Control {
            requests,
            status: status_seen,
        },
        access,
        tokens,
        audit: AuditLog::load(store.clone()),
        metrics: metrics.clone(),
    });
    let names = listeners
        .iter()
        .map(|listener| listener.label.clone())
        .collect();
    let records = RestartRecords::new(store.clone());
    let mut daemon = Daemon {
        link,
        config,
        loaded,
        secrets,
        env,
        store,
        lifecycle: Lifecycle::of(&registry),
        registry,
        server: None,
        listeners: names,
        machine: RestartMachine::new(),
        trial: None,
        plans: JoinSet::new(),
        drain: None,
        departure: None,
        probation_ends: None,
        record: life.record,
        started: Instant::now(),
        fixed,
        metrics,
        unreadable: BTreeSet::new(),
        rejected_configs,
        has_asked_to_mend: false,
        pruned: Instant::now(),
        pruning: tokio::spawn(async {}),
        removed: None,
        removing: tokio::spawn(async {}),
        keeping: tokio::spawn(async {}),
        asked_by: None,
        status,
        watchdog,
        census,
        records,
        backup: None,
    };
    // Before the server starts: no client may see the status of a daemon that is starting.
    daemon.publish_status();
    let server = match PreparedServer::of(listeners, crate::api::router(api), CONNECTIONS_MAX) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!("the listening sockets cannot be used: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Before the first client is answered: if this worker dies after that, the supervisor must know
    // that it has served, or it gives up instead of starting another one.
    if let Err(error) = daemon.announce() {
        tracing::error!(%error, "the supervisor cannot be told that this worker serves");
        return ExitCode::FAILURE;
    }
    failpoint::point("announced");
    daemon.server = Some(server.start());
    for connection in connections {
        daemon.adopt(connection);
    }
    daemon.begin_life(life.abandoned).await;
    failpoint::point("life.begun");
    let mut relaunch = daemon.relaunch();
    let timers = daemon.lifecycle.clone();
    tokio::spawn(async move { timers.run_timers().await });
    let rollouts = daemon.lifecycle.clone();
    tokio::spawn(async move { rollouts.run_rollouts().await });
    let file = daemon.config.file.clone();
    let mut watch = match ConfigWatch::start(file, daemon.loaded.clone(), Timing::default()) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be watched");
            return ExitCode::FAILURE;
        }
    };
    daemon.probation_ends = Some(Instant::now() + daemon.config.daemon.probation);
    let mut tick = tokio::time::interval(TICK);
    loop {
        daemon.publish_status();
        let woken = tokio::select! {
            order = orders.recv() => LoopEvent::Order(order),
            found = component_trial::ended(&mut daemon.trial) => LoopEvent::Tried(found),
            () = drained(&mut daemon.drain) => LoopEvent::Drained,
            Some(request) = asked.recv() => LoopEvent::Request(request),
            seen = watch.recv() => LoopEvent::File(seen),
            Some(report) = finished(&mut relaunch) => LoopEvent::Relaunched(report),
            () = at(daemon.probation_ends) => LoopEvent::ProbationOver,
            _ = tick.tick() => LoopEvent::Tick,
        };
        match woken {
            // The supervisor is gone: no process would start a successor or keep the sockets.
            LoopEvent::Order(None) => return ExitCode::FAILURE,
            LoopEvent::Order(Some(order)) => daemon.order(order).await,
            LoopEvent::File(seen) => daemon.file_changed(seen, &watch).await,
            LoopEvent::Request(request) => daemon.answer(request).await,
            LoopEvent::Tried(found) => {
                let tried = daemon.tried(found);
                daemon.happened(tried).await;
            }
            LoopEvent::Drained => daemon.happened(WorkerEvent::Drained).await,
            LoopEvent::Relaunched(report) => daemon.relaunched(report).await,
            LoopEvent::ProbationOver => {
                daemon.probation_ends = None;
                daemon.happened(WorkerEvent::ProbationOver).await;
            }
            LoopEvent::Tick => {
                daemon.housekeeping();
                daemon.unreadable(watch.missing());
                let signs = daemon.store.writer_signs();
                let store_writes = signs.failing.is_none() && !signs.is_stalled();
                daemon.happened(WorkerEvent::Tick { store_writes }).await;
                daemon.mend_store().await;
            }
        }
        if let Some(departure) = daemon.departure.take() {
            return daemon.leave(departure, &mut asked).await;
        }
    }
}

/// Waits for the end of the drain in progress; pending forever without one. Cancel safe.
async fn drained(drain: &mut Option<Drain>) {
    match drain {
        Some(drain) => drain.ended().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for the relaunch and returns its report; `None` without one. Cancel safe: `relaunch` is
/// cleared only after the task has ended.
async fn finished(relaunch: &mut Option<JoinHandle<RelaunchReport>>) -> Option<RelaunchReport> {
    let task = relaunch.as_mut()?;
    let report = task.await;
    *relaunch = None;
    report.ok()
}

/// Returns the restarts that sessions may have to be notified of, including this worker's own, with
/// what is known of steps of the clock within `notice_window`.
fn past(store: &Store, current: &RestartRecord, notice_window: Duration) -> Vec<PastRestart> {
    let mut past = store.past_restarts().unwrap_or_else(|error| {
        tracing::error!(%error, "past restarts cannot be read; sessions are told of this one only");
        Vec::new()
    });
    past.retain(|restart| restart.generation < current.generation);
    past.push(PastRestart {
        generation: current.generation,
        cause: current.cause,
        at: current.at,
        ahead_ms: 0,
    });
    let now = store.clock().cautious(notice_window);
    for restart in &mut past {
        restart.ahead_ms = restart.at.since(now);
    }
    past
}

impl Daemon {
    /// Sends the supervisor what this worker serves.
    pub(super) fn announce(&self) -> Result<(), Rejection> {
        let spec = LaunchSpec::of(&self.loaded, &self.secrets);
        announce(&self.link, &self.config, spec, self.listeners.clone())
    }

    /// Records why this worker was started and that its probation begins.
    async fn begin_life(&mut self, abandoned: Option<RestartRecord>) {
        let now = UnixMillis::now();
        let record = &mut self.record;
        record.status = RestartStatus::Probation;
        record.config_to = Some(self.config.digest);
        record.tried = Some(self.loaded.digest());
        if let Some(since) = record.handover_at {
            record.phases.handover_ms = now.since(since);
            record.phases.pause_ms = now.since(since);
        }
        tracing::info!(
            generation = record.generation.0, cause = record.cause.as_str(),
            trigger = %record.trigger, config = %self.config.digest.short(), "serving"
        );
        for record in abandoned.iter().chain([&self.record]) {
            self.records.persist(record).await;
        }
        let record = &self.record;
        let cause = format!("{}: {}", record.cause.as_str(), record.trigger);
        self.keep_config(cause);
    }

    /// Adds the configuration that runs to the history, behind those before it. Nothing waits for that.
    pub(super) fn keep_config(&mut self, cause: String) {
        let history = ConfigHistory::of(&self.config.daemon.data_dir);
        let (bytes, generation) = (self.loaded.bytes.clone(), self.record.generation);
        let keep = move || {
            if let Err(error) = history.accept(&bytes, generation, &cause) {
                tracing::warn!(%error, "the history of configurations lacks the one that runs now");
            }
        };
        let before = std::mem::replace(&mut self.keeping, tokio::spawn(async {}));
        self.keeping = tokio::spawn(async move {
            // Each error is a panic, which was logged.
            let _ = before.await;
            let _ = tokio::task::spawn_blocking(keep).await;
        });
    }

    fn relaunch(&self) -> Option<JoinHandle<RelaunchReport>> {
        let lifecycle = self.lifecycle.clone();
        let store = self.store.clone();
        let fresh = store.active_sessions(self.record.generation);
        let manifest = fresh.and_then(|sessions| {
            Ok(match sessions.is_empty() {
                false => RestartManifest {
                    sessions,
                    is_fresh: true,
                },
                true => RestartManifest {
                    sessions: store.last_active_sessions()?,
                    is_fresh: false,
                },
            })
        });
        let manifest = manifest.unwrap_or_else(|error| {
            tracing::error!(%error, "the restart record cannot be read; nothing to compare with");
            RestartManifest::default()
        });
        Some(tokio::spawn(
            async move { lifecycle.relaunch(manifest).await },
        ))
    }

    async fn relaunched(&mut self, report: RelaunchReport) {
        tracing::info!(
            restored = report.restored,
            resumed_turns = report.resumed_turns,
            faulted = report.faulted,
            pinned = report.pinned,
            lesser = report.lesser.len(),
            "relaunched"
        );
        super::watchdog::count_regressed(report.lesser.len());
        self.watchdog.relaunched();
        self.record.relaunch = report;
        self.record.phases.relaunch_ms = self.started.elapsed().as_millis() as u64;
        self.records.persist(&self.record).await;
    }

    /// Advances the machine and ignores a rejection: the event cannot be rejected, or the rejection
    /// has been logged and is shown in the status.
    async fn happened(&mut self, event: WorkerEvent) {
        let _ = self.advance(event).await;
    }

    async fn order(&mut self, order: ToWorker) {
        match order {
            ToWorker::Stop => {
                self.stop("the daemon was told to stop").await;
            }
            ToWorker::Reload => {
                // Refusals have been logged and are shown in the status.
                let _ = self.reload(Trigger::Signal).await;
            }
            ToWorker::StandbyReady { generation } => {
                self.happened(WorkerEvent::StandbyReady(Generation(generation)))
                    .await;
            }
            ToWorker::StandbyFailed { generation, reason } => {
                let generation = Generation(generation);
                self.happened(WorkerEvent::StandbyFailed(generation, reason))
                    .await;
            }
            ToWorker::Connection(connection) => self.adopt(connection),
            ToWorker::Start(_) | ToWorker::Go { .. } => {
                tracing::warn!(
                    "the supervisor sent an order that means nothing to a serving worker"
                );
            }
        }
    }

    /// Serves a connection that the previous worker passed on.
    fn adopt(&self, connection: Connection) {
        if let Some(server) = &self.server {
            adopt(server, connection);
        }
    }
}
