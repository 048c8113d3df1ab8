//! A planned restart, from its acceptance to the last word of the old worker; and the stop, which
//! takes the same drain.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::api::ControlRequest;
use crate::api::server::IdleConnection;
use crate::domain::{
    Cause, DrainReport, Generation, PastRestart, RestartRecord, RestartStatus, UnixMillis,
};
use crate::failpoint;
use crate::session::Drained;
use crate::store::Store;
use crate::supervisor::{Connection, FromWorker, Replace};

use super::generation::record;
use super::launch_spec::LaunchSpec;
use super::plan::{Rejection, UnderWay};
use super::state::{Daemon, DrainGoal, Phase, PlannedRestart, VERSION, persist};

/// How long connections may linger at the hand-over: to finish their response, or to send the
/// first bytes of a request.
const LINGER: Duration = Duration::from_millis(250);

/// How long sessions may take to see that the worker leaves.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// The restarts that sessions may have to be told of, this life's own included.
pub(super) fn past(store: &Store, current: &RestartRecord) -> Vec<PastRestart> {
    let mut past = store.past_restarts().unwrap_or_else(|error| {
        tracing::error!(%error, "past restarts cannot be read; sessions are told of this one only");
        Vec::new()
    });
    past.retain(|restart| restart.generation < current.generation);
    past.push(PastRestart {
        generation: current.generation,
        cause: current.cause,
        at: current.at,
    });
    past
}

impl Daemon {
    pub(super) fn next_generation(&self) -> Generation {
        let last = self.store.last_generation().ok().flatten();
        last.unwrap_or_default().max(self.record.generation).next()
    }

    /// Numbers the restart, puts it down, and has a standby started on these very bytes.
    pub(super) async fn accept(
        &mut self,
        record: RestartRecord,
        handed: LaunchSpec,
    ) -> Result<(), Rejection> {
        let config = handed.to_memfd()?;
        if let Err(error) = persist(&self.store, record.clone()).await {
            self.waits_for_store = true;
            return Err(Rejection::Unrecorded {
                doing: "the restart cannot be recorded",
                reason: error,
            });
        }
        let generation = record.generation;
        tracing::info!(
            generation = generation.0, trigger = %record.trigger,
            "configuration accepted; a standby is being prepared"
        );
        let replace = Replace {
            generation: generation.0,
            config,
            info: Vec::new(),
        };
        self.link
            .send(FromWorker::Replace(replace))
            .map_err(|error| Rejection::Supervisor(error.to_string()))?;
        self.last_error = None;
        self.phase = Phase::Preparing(Box::new(PlannedRestart {
            record,
            accepted: Instant::now(),
        }));
        Ok(())
    }

    /// There is no successor: everything goes on as if nobody had asked.
    pub(super) async fn standby_failed(&mut self, generation: Generation, reason: String) {
        let planned = match std::mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Preparing(planned) if planned.record.generation == generation => planned,
            Phase::Draining {
                goal: DrainGoal::HandOver(planned),
                task,
                ..
            } if planned.record.generation == generation => {
                task.abort();
                // Ended for sure, so that it cannot close the gate behind us.
                let _ = task.await;
                self.registry.cancel_drain();
                planned
            }
            other => return self.phase = other,
        };
        if failpoint::bug("restart-anyway") {
            std::process::exit(1);
        }
        self.refuse(&Rejection::Standby(reason.clone()));
        self.refused(planned, reason).await;
        self.take_over_pending().await;
    }

    pub(super) async fn refused(&self, planned: Box<PlannedRestart>, reason: String) {
        let status = RestartStatus::Refused;
        self.persist_restart(&RestartRecord {
            status,
            reason: Some(reason),
            ..planned.record
        })
        .await;
    }

    /// The successor is ready: no turn begins from here on.
    pub(super) async fn standby_ready(&mut self, generation: Generation) {
        let mut planned = match std::mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Preparing(planned) if planned.record.generation == generation => planned,
            other => return self.phase = other,
        };
        planned.record.phases.standby_ms = planned.accepted.elapsed().as_millis() as u64;
        self.registry.evict_idle(true);
        // What is active is put down before the wait: a service manager may kill us during it.
        match self.witness(&mut planned.record).await {
            Ok(active) => self.begin_drain(DrainGoal::HandOver(planned), active),
            Err(reason) => {
                self.registry.evict_idle(false);
                // Nothing was drained yet, and nothing shall be that cannot be put down.
                let rejection = Rejection::Unrecorded {
                    doing: "the drain cannot be recorded",
                    reason,
                };
                // An error means that the supervisor is gone; the loop will notice.
                let _ = self.link.send(FromWorker::CancelReplace);
                self.waits_for_store = true;
                self.refuse(&rejection);
                self.refused(planned, rejection.to_string()).await;
                self.take_over_pending().await;
            }
        }
    }

    async fn witness(&self, record: &mut RestartRecord) -> Result<u64, String> {
        let registry = self.registry.clone();
        let active = tokio::task::spawn_blocking(move || registry.active());
        let active = active
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        record.active = active.len() as u64;
        let (store, generation) = (self.store.clone(), record.generation);
        let put = move || store.put_active_sessions(generation, &active);
        let put = tokio::task::spawn_blocking(put).await;
        put.map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        persist(&self.store, record.clone()).await?;
        // What the store would have to do at its closing, while clients wait, is done beforehand.
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || store.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the store cannot be flushed ahead"),
            Err(error) => tracing::warn!(%error, "the store's flush ended early"),
        }
        Ok(record.active)
    }

    fn begin_drain(&mut self, goal: DrainGoal, active: u64) {
        let grace = self.config.daemon.grace_period;
        tracing::info!(
            active,
            running = self.registry.running(),
            ?grace,
            "draining"
        );
        let registry = self.registry.clone();
        let task = tokio::spawn(async move { registry.drain(grace, active).await });
        self.phase = Phase::Draining {
            goal,
            task,
            since: UnixMillis::now(),
        };
    }

    /// The daemon is to stop: a restart that is under way is given up, a drain goes on. None where
    /// a successor takes over already: it is the one to stop.
    pub(super) async fn begin_stop(&mut self, why: &str) -> Option<Generation> {
        let (given_up, task) = match std::mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Serving => (None, None),
            Phase::Preparing(planned) => (Some(planned), None),
            Phase::Draining {
                goal: DrainGoal::HandOver(planned),
                task,
                since,
            } => (Some(planned), Some((task, since))),
            Phase::Draining {
                goal: DrainGoal::Stop(generation),
                task,
                since,
            } => {
                let goal = DrainGoal::Stop(generation);
                self.phase = Phase::Draining { goal, task, since };
                return Some(generation);
            }
            Phase::Leaving(under_way) => {
                self.phase = Phase::Leaving(under_way);
                return match under_way {
                    UnderWay::Stop(generation) => Some(generation),
                    UnderWay::Restart(_) => None,
                };
            }
        };
        if let Some(planned) = given_up {
            // An error means that the supervisor is gone; the loop will notice.
            let _ = self.link.send(FromWorker::CancelReplace);
            self.refused(planned, format!("given up: {why}")).await;
        }
        let generation = self.next_generation();
        let goal = DrainGoal::Stop(generation);
        let mut stop = record(generation, Cause::Operator, why, VERSION, UnixMillis::now());
        stop.config_from = Some(self.config.digest);
        let active = self.witness(&mut stop).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the stop cannot be put down; stopping all the same");
            0
        });
        match task {
            Some((task, since)) => self.phase = Phase::Draining { goal, task, since },
            None => self.begin_drain(goal, active),
        }
        Some(generation)
    }

    /// Nothing runs any more: hand over or stop, and end.
    pub(super) async fn leave(
        mut self,
        drained: Drained,
        requests: &mut mpsc::Receiver<ControlRequest>,
    ) -> ExitCode {
        let Drained { report, took } = drained;
        let DrainReport {
            idle,
            waited_for,
            cut,
            held,
            ..
        } = report;
        tracing::info!(idle, waited_for, cut, held, ?took, "drained");
        let phase = std::mem::replace(&mut self.phase, Phase::Serving);
        let Phase::Draining { goal, .. } = phase else {
            return ExitCode::FAILURE;
        };
        let (mut record, stopping) = match goal {
            DrainGoal::HandOver(planned) => {
                self.phase = Phase::Leaving(UnderWay::Restart(planned.record.generation));
                (planned.record, false)
            }
            DrainGoal::Stop(generation) => {
                self.phase = Phase::Leaving(UnderWay::Stop(generation));
                let stored = self.store.restart(generation).ok().flatten();
                let new = || {
                    record(
                        generation,
                        Cause::Operator,
                        "stop",
                        VERSION,
                        UnixMillis::now(),
                    )
                };
                (stored.unwrap_or_else(new), true)
            }
        };
        record.drain = report;
        record.phases.drain_ms = took.as_millis() as u64;
        record.handover_at = Some(UnixMillis::now());
        if stopping {
            record.status = RestartStatus::Stopped;
            record.handover_at = None;
        }
        self.registry.end_streams(record.generation);
        let connections = self.end_serving(requests).await;
        if !stopping {
            for idle in connections {
                let connection = Connection {
                    prefix: idle.prefix,
                    addr: idle.local,
                    fd: idle.fd,
                };
                if let Err(error) = self.link.send(FromWorker::Connection(connection)) {
                    tracing::warn!(%error, "a client's connection could not be passed on");
                }
            }
        }
        self.registry.shut_down(LEAVE_PATIENCE).await;
        if self.record.status == RestartStatus::Probation {
            // It served to its planned end.
            self.record.status = RestartStatus::Completed;
            self.persist_restart(&self.record).await;
        }
        record.drain.held = self.registry.held();
        self.persist_restart(&record).await;
        let store = self.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the store's closing failed");
        }
        let last_word = if stopping {
            FromWorker::Stopped
        } else {
            FromWorker::Released
        };
        match self.link.send(last_word) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the supervisor is gone");
                ExitCode::FAILURE
            }
        }
    }

    /// Lets every connection have its answer, and gives those that are idle. Answers that this loop
    /// has to give are given meanwhile, or their clients would be cut off, and all others wait for
    /// that.
    async fn end_serving(
        &mut self,
        requests: &mut mpsc::Receiver<ControlRequest>,
    ) -> Vec<IdleConnection> {
        let Some(server) = self.server.take() else {
            return Vec::new();
        };
        let handing_over = server.hand_over(LINGER);
        tokio::pin!(handing_over);
        loop {
            tokio::select! {
                connections = &mut handing_over => return connections,
                Some(request) = requests.recv() => self.answer(request).await,
            }
        }
    }
}
