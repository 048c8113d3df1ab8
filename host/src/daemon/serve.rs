//! The daemon while it serves: one loop that hears everybody and acts.
//!
//! ```text
//!              accepted                 standby ready           turns ended or cut
//!   [serving] ---------> [preparing] -----------------> [draining] --------------> hand over, exit
//!       ^                     |  standby failed              |
//!       +---------------------+                              | Stop, in any phase
//!       +--------- the store refuses what a drain must write-+  -> [draining] -> stop, exit
//! ```
//!
//! What a request means, by what goes on:
//!
//! | | serving | preparing | draining for a restart | draining for a stop |
//! |---|---|---|---|---|
//! | a change of the file, SIGHUP | plan: nothing, hot, restart, refused | noted; the successor looks at the file as it then is, or we do if there is none | as before | nothing: the next start reads the file |
//! | `abide restart` | a restart | answered with the one under way; noted as above | as before | refused: it stops |
//! | SIGTERM, SIGINT, `abide drain` | drain, then stop | the restart is given up; drain, stop | the restart is given up; the drain goes on to the stop | the same drain; a second signal makes the supervisor end all at once |
//!
//! A configuration change during a restart is found by the successor, which looks at the file as
//! soon as it serves: the latest wins, and none is lost.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::allocator;
use crate::api::server::{CONNECTIONS_MAX, IdleConnection, Server};
use crate::api::{Api, ConfigStatus, Control, ControlRequest, PluginStatus};
use crate::config::{ConfigWatch, Observed, Timing};
use crate::domain::{Generation, RelaunchReport, RestartRecord, RestartStatus, UnixMillis};
use crate::session::{Drained, Registry, RestartManifest, Settings};
use crate::supervisor::{Connection, FromWorker, Serving, ToWorker};

use super::launch_spec::{LaunchSpec, keep_last_good};
use super::plan::{Rejection, Trigger};
use super::standby::Prepared;
use super::state::{Daemon, Fixed, Phase};
use super::watchdog::Watchdog;
use super::worker::StartedWorker;

/// How often counts are told and bookkeeping is done when nothing happens.
const TICK: Duration = Duration::from_millis(250);
/// How often sessions that were active long ago are forgotten as such, and metrics are summed up.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);
/// What the loop wakes up for.
enum LoopEvent {
    Order(Option<ToWorker>),
    File(Observed),
    Request(ControlRequest),
    Drained(Drained),
    Relaunched(RelaunchReport),
    ProbationOver,
    Tick,
}

/// Serves until a successor takes over or the daemon stops.
pub(super) async fn serve(worker: StartedWorker) -> ExitCode {
    let StartedWorker {
        link,
        mut orders,
        prepared,
        env,
        store,
        life,
        previous,
        rejected_configs,
        connections,
    } = worker;
    let Prepared {
        config,
        loaded,
        secrets,
        engine,
        parts,
        access,
        metrics,
        listeners,
    } = prepared;
    let fixed = Fixed {
        started_at: UnixMillis::now(),
        config: ConfigStatus {
            path: config.file.clone(),
            digest: config.digest,
            loaded_at: UnixMillis::now(),
            last_error: None,
        },
        plugins: parts
            .plugins
            .0
            .iter()
            .map(|(name, plugin)| PluginStatus {
                name: name.clone(),
                digest: plugin.component.digest(),
                contract: plugin.component.contract().to_owned(),
                sessions: None,
            })
            .collect(),
    };
    let restarts = super::restart::past(&store, &life.record);
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
    let watchdog = Watchdog::start(
        &registry,
        &store,
        config.daemon.data_dir.clone(),
        config.daemon.disk_reserve_bytes,
    );
    let (requests, mut asked) = mpsc::channel(64);
    let starting = Arc::new(fixed.starting(life.record.generation));
    let (status, status_seen) = watch::channel(starting);
    let api = Api {
        registry: registry.clone(),
        control: Control {
            requests,
            status: status_seen,
        },
        access,
        metrics: metrics.clone(),
    };
    let names = listeners
        .iter()
        .map(|listener| listener.label.clone())
        .collect();
    let mut daemon = Daemon {
        link,
        config,
        loaded,
        secrets,
        env,
        store,
        registry,
        server: None,
        listeners: names,
        phase: Phase::Serving,
        record: life.record,
        started: Instant::now(),
        fixed,
        metrics,
        last_error: None,
        unreadable: BTreeSet::new(),
        pending_change: None,
        waits_for_store: false,
        rejected_configs,
        in_probation: false,
        pruned: Instant::now(),
        status,
        watchdog,
        unpersisted: Mutex::default(),
    };
    // The first who asks must not be told of a daemon that is starting.
    daemon.publish_status();
    match Server::start(listeners, crate::api::router(api), CONNECTIONS_MAX) {
        Ok(server) => daemon.server = Some(server),
        Err(error) => {
            eprintln!("abide: the listening sockets cannot be used: {error}");
            return ExitCode::FAILURE;
        }
    }
    for connection in connections {
        daemon.adopt(connection);
    }
    if let Err(error) = daemon.announce() {
        tracing::error!(%error, "the supervisor cannot be told that this worker serves");
        return ExitCode::FAILURE;
    }
    daemon.begin_life(life.abandoned).await;
    let mut relaunch = daemon.relaunch();
    let clockwork = daemon.registry.clone();
    tokio::spawn(async move { clockwork.run_timers().await });
    let file = daemon.config.file.clone();
    let mut watch = match ConfigWatch::start(file, daemon.loaded.clone(), Timing::default()) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be watched");
            return ExitCode::FAILURE;
        }
    };
    let probation = tokio::time::sleep(daemon.config.daemon.probation);
    tokio::pin!(probation);
    let mut proven = false;
    let mut tick = tokio::time::interval(TICK);
    loop {
        daemon.publish_status();
        if std::mem::take(&mut daemon.in_probation) {
            proven = false;
            let over = tokio::time::Instant::now() + daemon.config.daemon.probation;
            probation.as_mut().reset(over);
        }
        let woken = tokio::select! {
            order = orders.recv() => LoopEvent::Order(order),
            drained = drained(&mut daemon.phase) => LoopEvent::Drained(drained),
            Some(request) = asked.recv() => LoopEvent::Request(request),
            seen = watch.recv() => LoopEvent::File(seen),
            Some(report) = finished(&mut relaunch) => LoopEvent::Relaunched(report),
            () = &mut probation, if !proven => LoopEvent::ProbationOver,
            _ = tick.tick() => LoopEvent::Tick,
        };
        match woken {
            // The supervisor is gone: nobody would start a successor, nobody keeps the sockets.
            LoopEvent::Order(None) => return ExitCode::FAILURE,
            LoopEvent::Order(Some(order)) => daemon.order(order).await,
            LoopEvent::File(seen) => daemon.file_changed(seen, &watch).await,
            LoopEvent::Request(request) => daemon.answer(request).await,
            LoopEvent::Drained(drained) => {
                if daemon.may_leave().await {
                    return daemon.leave(drained, &mut asked).await;
                }
            }
            LoopEvent::Relaunched(report) => daemon.relaunched(report).await,
            LoopEvent::ProbationOver => {
                proven = true;
                daemon.probation_over().await;
            }
            LoopEvent::Tick => {
                daemon.housekeeping();
                daemon.unreadable(watch.missing());
                daemon.flush_unpersisted().await;
                daemon.retry_refused().await;
            }
        }
    }
}

/// The end of the drain under way, if there is one. Dropping the future loses nothing.
async fn drained(phase: &mut Phase) -> Drained {
    let Phase::Draining { task, .. } = phase else {
        return std::future::pending().await;
    };
    match task.await {
        Ok(drained) => drained,
        // A drain that fails has let no turn begin since: what runs is cut by the end of this
        // worker and run again by the next.
        Err(error) => {
            tracing::error!(%error, "the drain ended early");
            Drained {
                report: Default::default(),
                took: Duration::ZERO,
            }
        }
    }
}

async fn finished(relaunch: &mut Option<JoinHandle<RelaunchReport>>) -> Option<RelaunchReport> {
    let task = relaunch.as_mut()?;
    let report = task.await;
    *relaunch = None;
    report.ok()
}

impl Daemon {
    /// Tells the supervisor what this worker serves: what it starts one on that follows a crash.
    pub(super) fn announce(&self) -> Result<(), Rejection> {
        let budget = self.config.daemon.stop_budget();
        let serving = Serving {
            stop_budget_ms: budget.as_millis().try_into().unwrap_or(u64::MAX),
            config: LaunchSpec::of(&self.loaded, &self.secrets).to_memfd()?,
            listeners: self.listeners.clone(),
        };
        self.link
            .send(FromWorker::Serving(serving))
            .map_err(|error| Rejection::Supervisor(error.to_string()))
    }

    /// Puts down why and as what this worker serves.
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
            self.persist_restart(record).await;
        }
    }

    fn relaunch(&self) -> Option<JoinHandle<RelaunchReport>> {
        let registry = self.registry.clone();
        let store = self.store.clone();
        let fresh = store.active_sessions(self.record.generation);
        let witness = fresh.and_then(|sessions| {
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
        let witness = witness.unwrap_or_else(|error| {
            tracing::error!(%error, "the restart record cannot be read; nothing to compare with");
            RestartManifest::default()
        });
        Some(tokio::spawn(
            async move { registry.relaunch(witness).await },
        ))
    }

    async fn relaunched(&mut self, report: RelaunchReport) {
        tracing::info!(
            restored = report.restored,
            resumed_turns = report.resumed_turns,
            faulted = report.faulted,
            lesser = report.lesser.len(),
            "relaunched"
        );
        super::watchdog::count_regressed(report.lesser.len());
        self.watchdog.relaunched();
        self.record.relaunch = report;
        self.record.phases.relaunch_ms = self.started.elapsed().as_millis() as u64;
        self.persist_restart(&self.record).await;
    }

    async fn probation_over(&mut self) {
        self.registry.probation_over();
        // An error means that the supervisor is gone; the loop will notice.
        let _ = self.link.send(FromWorker::Proven);
        let (folder, loaded) = (self.config.daemon.data_dir.clone(), self.loaded.clone());
        let kept = tokio::task::spawn_blocking(move || keep_last_good(&folder, &loaded));
        if let Ok(Err(error)) = kept.await {
            tracing::warn!(
                error,
                "the configuration that runs is not kept as the last good one"
            );
        }
        self.record.status = RestartStatus::Completed;
        self.persist_restart(&self.record).await;
    }

    async fn order(&mut self, order: ToWorker) {
        match order {
            ToWorker::Stop => {
                self.begin_stop("the daemon was told to stop").await;
            }
            ToWorker::Reload => {
                // Refusals have been logged, and stand in the status.
                let _ = self.reload(Trigger::Signal).await;
            }
            ToWorker::StandbyReady { generation } => {
                self.standby_ready(Generation(generation)).await;
            }
            ToWorker::StandbyFailed { generation, reason } => {
                self.standby_failed(Generation(generation), reason).await;
            }
            ToWorker::Connection(connection) => self.adopt(connection),
            ToWorker::Start(_) | ToWorker::Go { .. } => {
                tracing::warn!(
                    "the supervisor sent an order that means nothing to a serving worker"
                );
            }
        }
    }

    /// Serves on what the worker before this one passed on.
    fn adopt(&self, connection: Connection) {
        let Connection { prefix, addr, fd } = connection;
        let Some(server) = &self.server else { return };
        if let Err(error) = server.adopt(IdleConnection {
            fd,
            prefix,
            local: addr,
        }) {
            tracing::warn!(%error, "a connection that was passed on cannot be served");
        }
    }

    fn housekeeping(&mut self) {
        self.watchdog
            .hold_back(self.config.daemon.disk_reserve_bytes);
        if self.pruned.elapsed() < UPKEEP_EVERY {
            return;
        }
        self.pruned = Instant::now();
        self.metrics.run_upkeep();
        if self.registry.running() == 0 {
            allocator::purge_all_threads();
        }
        let window = self.config.daemon.notice_window.as_millis() as u64;
        let forgotten = UnixMillis(UnixMillis::now().0.saturating_sub(window));
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.prune_active(forgotten) {
                tracing::warn!(%error, "the list of active sessions cannot be pruned");
            }
        });
    }
}
