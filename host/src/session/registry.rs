//! The entry point to all sessions: finds or starts the one task that owns a session (its driver)
//! and passes the request to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::domain::{
    ActiveSession, Answer, Approval, ApprovalId, CancelScope, Cancelled, DeadLetter, DrainReport,
    Generation, IdempotencyKey, MessageId, Refusal, ReplayReport, SessionId, SessionView,
    TurnReport, UnixMillis,
};
use crate::engine::Engine;
use crate::store::{Store, StoreError};

use super::disk_guard::Space;
use super::driver::Driver;
use super::hub::{Hubs, Subscription};
use super::live_config::{Current, LiveConfig};
use super::liveness::LivenessTable;
use super::mailbox::{Accepted, DriverCommand, NewSession, ReplyTo};
use super::memory_budget::{Memory, Share};
use super::outcome::{self, TurnOutcome};
use super::queries::{self, ListFilter, ListPage, SessionEvents};
use super::relaunch::RestartManifest;
use super::shared::{Drained, Gate, Settings, Shared, TurnCounts};
use super::{inspect, relaunch, timers};

/// The capacity of a session's mailbox: how many requests queue for its driver before senders feel
/// backpressure.
const MAILBOX: usize = 256;

/// All sessions of the daemon. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(super) shared: Arc<Shared>,
    pub(super) drivers: Drivers,
}

/// The mailboxes of the sessions that are in memory.
#[derive(Clone, Default)]
pub(super) struct Drivers(Arc<Mutex<HashMap<SessionId, mpsc::Sender<DriverCommand>>>>);

impl Registry {
    /// Creates the registry. No session runs before [`Registry::relaunch`] or a first request.
    pub fn new(store: Store, engine: Engine, parts: LiveConfig, settings: Settings) -> Self {
        let suspicious = AtomicBool::new(settings.died_by_own_doing);
        let memory = Memory::new(settings.memory_max_bytes);
        let shared = Arc::new(Shared {
            store,
            engine,
            parts: Current::new(parts),
            settings,
            hubs: Hubs::default(),
            gate: watch::Sender::new(Gate::Open),
            handover: watch::Sender::new(None),
            sync_begun: suspicious,
            turns: TurnCounts::default(),
            memory,
            space: Space::default(),
            vitals: LivenessTable::default(),
            clearing: AtomicBool::new(false),
            timers_set: Notify::new(),
        });
        Self {
            shared,
            drivers: Drivers::default(),
        }
    }

    /// Returns the current live configuration.
    pub fn parts(&self) -> Arc<LiveConfig> {
        self.shared.parts()
    }

    /// Replaces the live configuration for every turn that begins from now on. Turns that already
    /// run keep the configuration they began with.
    pub fn replace_parts(&self, parts: LiveConfig) {
        self.shared.parts.replace(parts);
        // Idle drivers may have to leave memory sooner: wake them to recompute their deadlines.
        self.shared.gate.send_modify(|_| {});
    }

    /// Creates a session, or confirms that it already exists (`false`).
    pub async fn create(
        &self,
        id: &SessionId,
        new: NewSession,
    ) -> Result<(SessionView, bool), Refusal> {
        self.ask(id, |reply| DriverCommand::Create(new, reply))
            .await
    }

    /// Returns a session's current state.
    pub async fn view(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        queries::view(&self.shared.store, id)
    }

    /// Lists sessions, ordered by id.
    pub async fn list(&self, filter: &ListFilter) -> Result<ListPage, Refusal> {
        queries::list(&self.shared.store, filter)
    }

    /// Reports the session's open turn, or else its last committed turn, step by step.
    pub async fn turn(&self, id: &SessionId) -> Result<TurnReport, Refusal> {
        inspect::turn(&self.shared.store, id)
    }

    /// Replays the turn that [`Registry::turn`] reports, offline and without effects.
    pub async fn replay(&self, id: &SessionId) -> Result<ReplayReport, Refusal> {
        inspect::replay(&self.shared, id).await
    }

    /// Closes a session permanently.
    pub async fn close(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        self.ask(id, DriverCommand::Close).await
    }

    /// Reserves memory for a request of `bytes` while it is being read, or refuses it.
    pub fn room(&self, bytes: u64) -> Result<Share, Refusal> {
        self.shared.memory.room(bytes)
    }

    /// Accepts a message, which is synced to disk when this returns.
    pub async fn send(
        &self,
        id: &SessionId,
        text: String,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted, Refusal> {
        let _room = self.room(text.len() as u64)?;
        let command = |reply| DriverCommand::Send {
            text,
            key,
            wait: None,
            reply,
        };
        self.ask(id, command).await
    }

    /// Accepts a message and returns a future that resolves when its turn has ended. A turn without
    /// steps is synced together with its message, so it may already have ended when this returns.
    pub async fn send_and_wait(
        &self,
        id: &SessionId,
        text: String,
        key: Option<IdempotencyKey>,
    ) -> Result<(Accepted, impl Future<Output = Result<TurnOutcome, Refusal>>), Refusal> {
        let room = self.room(text.len() as u64)?;
        let (wait, ended) = oneshot::channel();
        let command = |reply| DriverCommand::Send {
            text,
            key,
            wait: Some(wait),
            reply,
        };
        let accepted = self.ask(id, command).await?;
        drop(room);
        let message = accepted.message.clone();
        let outcome = async move {
            let mut handover = self.shared.handover.subscribe();
            let outcome = tokio::select! {
                biased;
                outcome = ended => outcome.ok(),
                _ = handover.wait_for(Option::is_some) => None,
            };
            match outcome {
                Some(outcome) => Ok(outcome),
                // A duplicate, or the driver is gone: read the outcome from the log.
                None => {
                    let cursor = message.cursor().unwrap_or_default();
                    outcome::follow(self.subscription(id, cursor), &message).await
                }
            }
        };
        Ok((accepted, outcome))
    }

    /// Returns a page of the events after the cursor `after`.
    pub async fn events(
        &self,
        id: &SessionId,
        after: u64,
        limit: usize,
    ) -> Result<SessionEvents, Refusal> {
        queries::events(&self.shared.store, id, after, limit)
    }

    /// Subscribes to the events after the cursor `after`: first the stored ones, then live.
    pub async fn subscribe(&self, id: &SessionId, after: u64) -> Result<Subscription, Refusal> {
        // Refuse up front what the stream itself could only end with.
        queries::events(&self.shared.store, id, after, 1)?;
        Ok(self.subscription(id, after))
    }

    /// Cancels the open turn or the queued messages, which is synced to disk when this returns.
    pub async fn cancel(
        &self,
        id: &SessionId,
        scope: CancelScope,
    ) -> Result<(SessionView, Cancelled), Refusal> {
        self.ask(id, |reply| DriverCommand::Cancel(scope, reply))
            .await
    }

    /// Records a human's answer to an approval, which is synced to disk when this returns.
    pub async fn decide(&self, id: ApprovalId, answer: Answer) -> Result<Approval, Refusal> {
        let unknown = || Refusal::UnknownApproval(id.to_string());
        let session = id.session().ok_or_else(unknown)?;
        if self
            .shared
            .store
            .load(&session)
            .map_err(queries::refusal)?
            .is_none()
        {
            return Err(unknown());
        }
        let command = |reply| DriverCommand::Decide { id, answer, reply };
        self.ask(&session, command).await
    }

    /// Returns the pending approvals of at most `limit` sessions after `after`, ordered by session,
    /// and the session to continue after if there may be more.
    pub async fn approvals(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<(Vec<Approval>, Option<SessionId>), Refusal> {
        let waiting = self.shared.store.approvals(after, limit);
        waiting.map_err(queries::refusal)
    }

    /// Lets a faulted session run again.
    pub async fn resume(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        self.ask(id, DriverCommand::Resume).await
    }

    /// Moves a dead letter (`None`: the last one) back into the inbox. With `force`, even if its
    /// turn made calls that cannot be repeated.
    pub async fn retry(
        &self,
        id: &SessionId,
        message: Option<MessageId>,
        force: bool,
    ) -> Result<Accepted, Refusal> {
        let command = |reply| DriverCommand::Retry {
            message,
            force,
            reply,
        };
        self.ask(id, command).await
    }

    /// Returns the session's dead letters, oldest first.
    pub async fn dead(
        &self,
        id: &SessionId,
        after: Option<&MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Refusal> {
        queries::dead(&self.shared.store, id, after, limit)
    }

    /// Counts the open sessions of a plugin. Scans the whole list, so call it rarely.
    pub fn sessions_of(&self, plugin: &str) -> Result<u64, Refusal> {
        queries::count_of(&self.shared.store, plugin)
    }

    /// Returns the number of running turns.
    pub fn running(&self) -> u64 {
        self.shared.turns.running.load(Ordering::SeqCst)
    }

    /// Returns the number of sessions in memory that have queued messages and no running turn.
    pub fn queued(&self) -> u64 {
        self.shared.turns.queued.load(Ordering::SeqCst)
    }

    /// Returns the number of messages accepted since the drain began.
    pub fn held(&self) -> u64 {
        self.shared.turns.held.load(Ordering::SeqCst)
    }

    /// Brings back the sessions that were active before the restart, in the background of client
    /// requests, and compares them with the restart record.
    pub async fn relaunch(&self, witness: RestartManifest) -> crate::domain::RelaunchReport {
        relaunch::run(self, witness).await
    }

    /// Delivers timers when they are due; returns only when the worker ends.
    pub async fn run_timers(&self) {
        timers::run(self).await;
    }

    /// Ends probation: stops syncing each `Begun` before its guest runs.
    pub fn probation_over(&self) {
        self.shared.sync_begun.store(false, Ordering::SeqCst);
    }

    /// Returns the sessions that a restart must bring back, in their current state.
    pub fn active(&self) -> Result<Vec<ActiveSession>, Refusal> {
        let store = &self.shared.store;
        let mut active = Vec::new();
        for id in self.active_ids().map_err(queries::refusal)? {
            let Some(session) = store.load(&id).map_err(queries::refusal)? else {
                continue;
            };
            let subscribers = self.shared.hubs.listeners(&id);
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

    /// Returns all sessions that have work, plus sessions that committed a turn within the notice
    /// window: of these at most `relaunch_max`, as many as a restart brings back.
    pub(super) fn active_ids(&self) -> Result<Vec<SessionId>, StoreError> {
        let parts = self.shared.parts();
        let window = parts.notice_window.as_millis() as u64;
        let since = UnixMillis(UnixMillis::now().0.saturating_sub(window));
        self.shared.store.active(since, parts.relaunch_max)
    }

    /// Evicts idle sessions from memory while a drain is about to begin: else thousands of drivers
    /// might have to be woken for the drain, and for its end, while clients wait.
    pub fn evict_idle(&self, about_to_drain: bool) {
        self.shared
            .clearing
            .store(about_to_drain, Ordering::Relaxed);
        if about_to_drain {
            // The gate keeps its value; this only wakes idle drivers, which then see `clearing`.
            self.shared.gate.send_modify(|_| {});
        }
    }

    /// Stops new turns and steps from beginning and waits for running ones for at most `grace`,
    /// then aborts them. A turn that reaches its next step is frozen before it, and the drain does
    /// not wait for it. Messages are accepted and held throughout. `active` is the number of active
    /// sessions.
    pub async fn drain(&self, grace: Duration, active: u64) -> Drained {
        let since = Instant::now();
        let turns = &self.shared.turns;
        turns.cut.store(0, Ordering::SeqCst);
        turns.held.store(0, Ordering::SeqCst);
        self.shared.gate.send_replace(Gate::Draining);
        let running = self.running();
        let in_time = tokio::time::timeout(grace, self.shared.no_turn_runs()).await;
        let frozen = turns.frozen.load(Ordering::SeqCst);
        self.shared.gate.send_replace(Gate::Aborting);
        if in_time.is_err() {
            self.shared.no_turn_runs().await;
        }
        // Now, while clients can still be answered: some tool servers take their time.
        self.shared.parts().tools.rest().await;
        let cut = turns.cut.load(Ordering::SeqCst);
        let report = DrainReport {
            idle: active.saturating_sub(running),
            waited_for: running.saturating_sub(cut + frozen),
            cut,
            frozen,
            held: self.held(),
        };
        Drained {
            report,
            took: since.elapsed(),
        }
    }

    /// Cancels a drain: turns begin again.
    pub fn cancel_drain(&self) {
        self.evict_idle(false);
        // Drivers whose messages arrived during the drain are still in memory and watch the gate.
        self.shared.gate.send_replace(Gate::Open);
    }

    /// Ends all streams and waiting requests with the notice that `generation` takes over.
    pub fn end_streams(&self, generation: Generation) {
        self.shared.handover.send_replace(Some(generation));
    }

    /// Refuses all requests from now on, ends the tool servers and returns when all drivers have
    /// exited, at the latest after `patience`. A driver that is still there then can do no harm: a
    /// closed store takes no writes, so the driver cannot acknowledge anything.
    pub async fn shut_down(&self, patience: Duration) {
        self.shared.gate.send_replace(Gate::Closing);
        let parts = self.shared.parts();
        let gone = async {
            tokio::join!(self.drivers_gone(), parts.tools.end());
        };
        if tokio::time::timeout(patience, gone).await.is_err() {
            tracing::warn!("sessions or tool servers were still at work when the store closed");
        }
    }

    async fn drivers_gone(&self) {
        while !self.drivers.is_empty() {
            let ended = self.shared.turns.ended.notified();
            if self.drivers.is_empty() {
                break;
            }
            // Drivers notify when they exit; the timeout covers one that exited between the check
            // and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(10), ended).await;
        }
    }

    fn subscription(&self, id: &SessionId, after: u64) -> Subscription {
        let shared = &self.shared;
        let handover = shared.handover.subscribe();
        Subscription::new(
            id.clone(),
            after,
            &shared.hubs,
            handover,
            shared.store.clone(),
        )
    }

    pub(super) async fn ask<T>(
        &self,
        id: &SessionId,
        command: impl FnOnce(ReplyTo<T>) -> DriverCommand,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.tell(id, command(reply)).await?;
        // A driver that drops the reply was stopped by the end of the worker.
        answer.await.unwrap_or(Err(Refusal::Restarting))
    }

    pub(super) async fn tell(&self, id: &SessionId, command: DriverCommand) -> Result<(), Refusal> {
        if *self.shared.gate.borrow() == Gate::Closing {
            return Err(Refusal::Restarting);
        }
        let mailbox = self.drivers.mailbox(id, &self.shared);
        mailbox.send(command).await.map_err(|_| Refusal::Restarting)
    }
}

impl Drivers {
    /// Returns the session's mailbox; starts a driver if the session has none.
    fn mailbox(&self, id: &SessionId, shared: &Arc<Shared>) -> mpsc::Sender<DriverCommand> {
        let mut drivers = self.lock();
        // A closed mailbox belongs to a driver that panicked: replace it.
        if let Some(mailbox) = drivers.get(id).filter(|mailbox| !mailbox.is_closed()) {
            return mailbox.clone();
        }
        let (mailbox, commands) = mpsc::channel(MAILBOX);
        drivers.insert(id.clone(), mailbox.clone());
        let driver = Driver::new(id.clone(), shared.clone(), self.clone(), commands);
        tokio::spawn(driver.run());
        mailbox
    }

    /// Removes an idle driver, unless (`false`) anybody else holds its mailbox: a message may be on
    /// its way. Mailboxes are cloned only under this lock, so the count cannot grow meanwhile.
    pub(super) fn retire(&self, id: &SessionId, commands: &mpsc::Receiver<DriverCommand>) -> bool {
        let mut drivers = self.lock();
        let unused = commands.is_empty() && commands.sender_strong_count() == 1;
        if unused {
            drivers.remove(id);
        }
        unused
    }

    /// Removes a driver whose mailbox is closed because the worker shuts down.
    pub(super) fn remove(&self, id: &SessionId, commands: &mpsc::Receiver<DriverCommand>) {
        if commands.is_closed() {
            self.lock().remove(id);
        }
    }

    /// Returns whether the session has a live driver.
    pub(super) fn has(&self, id: &SessionId) -> bool {
        self.lock()
            .get(id)
            .is_some_and(|mailbox| !mailbox.is_closed())
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, mpsc::Sender<DriverCommand>>> {
        // Poisoning is harmless: every change is one call, so the map is never half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
