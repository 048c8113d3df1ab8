//! The daemon's operations on all sessions at once: relaunch, drain and shutdown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::{ActiveSession, Generation, PluginTrial, Refusal, RelaunchReport};
use crate::engine::{CompileLimits, Component, LoadError};
use crate::store::StoreError;

use super::drain::{Drained, Gate};
use super::forecast::{self, NewComponent};
use super::registry::Registry;
use super::relaunch::{self, RestartManifest};
use super::shared::Shared;
use super::{queries, rollout_task, timers};

/// A handle to all sessions for the daemon's own life cycle. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle(Registry);

impl Lifecycle {
    pub fn of(registry: &Registry) -> Self {
        Self(registry.clone())
    }

    /// Brings back the sessions that were active before the restart, in the background of client
    /// requests, and compares them with the restart record.
    pub async fn relaunch(&self, manifest: RestartManifest) -> RelaunchReport {
        relaunch::run(&self.0, manifest).await
    }

    /// Finds out what becomes of sessions with components that their plugins are to have, and adds it to
    /// `found`, session by session. Changes nothing, and takes `budget` at most.
    pub async fn forecast(
        &self,
        new: Vec<NewComponent>,
        budget: Duration,
        found: &watch::Sender<Vec<PluginTrial>>,
    ) {
        forecast::run(&self.0, new, budget, found).await;
    }

    /// Checks and compiles a component, within these limits. It is not kept. Blocks.
    pub fn load_component(
        &self,
        bytes: &[u8],
        limits: CompileLimits,
    ) -> Result<Arc<Component>, LoadError> {
        self.shared().engine.load_within(bytes, limits)
    }

    /// Delivers timers when they are due; returns only when the worker ends.
    pub async fn run_timers(&self) {
        timers::run(&self.0).await;
    }

    /// Ends roll-outs of components that have proven themselves, or failed; returns only when the worker ends.
    pub async fn run_rollouts(&self) {
        rollout_task::run(&self.0).await;
    }

    /// Writes what is counted of roll-outs without the pause that they have. The next worker begins no roll-out
    /// of a plugin of which none is written.
    pub async fn keep_rollouts(&self) {
        let shared = self.shared();
        match shared.rollouts.write(&shared.store).await {
            // As long as that part is lacking, nothing is rolled out in steps.
            Ok(()) | Err(StoreError::LacksPart { .. }) => {}
            Err(error) => tracing::warn!(%error, "what is counted of roll-outs is not written"),
        }
    }

    /// Ends probation: stops syncing each `Begun` before its guest runs.
    pub fn probation_over(&self) {
        self.shared().sync_begun.store(false, Ordering::SeqCst);
    }

    /// Returns the sessions that a restart must bring back, in their current state.
    pub fn active(&self) -> Result<Vec<ActiveSession>, Refusal> {
        let store = &self.shared().store;
        let mut active = Vec::new();
        for id in self.0.active_ids().map_err(queries::refusal)? {
            let Some(session) = store.load(&id).map_err(queries::refusal)? else {
                continue;
            };
            let subscribers = self.shared().hubs.listeners(&id);
            let progress = session.progress;
            if progress.closed.is_some() {
                continue;
            }
            active.push(ActiveSession {
                id,
                turns: progress.turns,
                seq: progress.next.seq,
                cursor: progress.next.cursor,
                subscribers,
            });
        }
        Ok(active)
    }

    /// Evicts idle sessions from memory while a drain is about to begin. Otherwise thousands of
    /// drivers might have to be woken for the drain, and again for its end, while clients wait.
    pub fn evict_idle(&self, about_to_drain: bool) {
        self.shared()
            .clearing
            .store(about_to_drain, Ordering::Relaxed);
        if about_to_drain {
            // The gate keeps its value; this only wakes idle drivers, which then see `clearing`.
            self.shared().turns.gate.send_modify(|_| {});
        }
    }

    /// Ends all streams and waiting requests with the notice that `generation` takes over.
    pub fn end_streams(&self, generation: Generation) {
        self.shared().handover.send_replace(Some(generation));
    }

    /// Refuses all requests from now on, ends the tool servers and returns when all drivers have
    /// exited, at the latest after `patience`. A driver that is still there then can do no harm: a
    /// closed store takes no writes, so the driver cannot acknowledge anything.
    pub async fn shut_down(&self, patience: Duration) {
        self.shared().turns.gate.send_replace(Gate::Closing);
        let parts = self.shared().live_config();
        let gone = async {
            tokio::join!(self.drivers_gone(), parts.tools.end());
            self.keep_rollouts().await;
        };
        if tokio::time::timeout(patience, gone).await.is_err() {
            tracing::warn!("sessions or tool servers were still at work when the store closed");
        }
    }

    async fn drivers_gone(&self) {
        while !self.0.drivers.is_empty() {
            let ended = self.shared().turns.ended.notified();
            if self.0.drivers.is_empty() {
                break;
            }
            // Drivers notify when they exit; the timeout covers one that exited between the check
            // and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(10), ended).await;
        }
    }

    /// Drains all sessions; see [`TurnGate::drain`](super::drain::TurnGate::drain). Tool servers
    /// are put to rest last, while clients can still be answered, because some servers are slow to
    /// rest.
    pub async fn drain(&self, grace: Duration, active: u64) -> Drained {
        let rest = async { self.0.live_config().tools.rest().await };
        self.shared().turns.drain(grace, active, rest).await
    }

    /// Cancels a drain: turns begin again.
    pub fn cancel_drain(&self) {
        self.evict_idle(false);
        // Drivers whose messages arrived during the drain are still in memory and watch the gate.
        self.shared().turns.gate.send_replace(Gate::Open);
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}
