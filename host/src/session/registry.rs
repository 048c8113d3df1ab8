//! The front of the sessions: finds or starts the one task that owns a session, and hands it the
//! request.

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

/// Requests that wait for one session's driver before their senders wait too.
const MAILBOX: usize = 256;

/// All sessions of the daemon. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(super) shared: Arc<Shared>,
    pub(super) drivers: Drivers,
}

/// The mailboxes of the sessions in memory.
#[derive(Clone, Default)]
pub(super) struct Drivers(Arc<Mutex<HashMap<SessionId, mpsc::Sender<DriverCommand>>>>);

impl Registry {
    /// Sessions on these parts. Nothing runs before [`Registry::relaunch`] or a request.
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

    /// The replaceable parts as they are now.
    pub fn parts(&self) -> Arc<LiveConfig> {
        self.shared.parts()
    }

    /// Replaces them for every turn that begins from now on; those that run go on with theirs.
    pub fn replace_parts(&self, parts: LiveConfig) {
        self.shared.parts.replace(parts);
        // Those that sleep may have to sleep shorter; they wake up and look.
        self.shared.gate.send_modify(|_| {});
    }

    /// Creates a session, or confirms that it is there (`false`).
    pub async fn create(
        &self,
        id: &SessionId,
        new: NewSession,
    ) -> Result<(SessionView, bool), Refusal> {
        self.ask(id, |reply| DriverCommand::Create(new, reply))
            .await
    }

    /// A session as it stands.
    pub async fn view(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        queries::view(&self.shared.store, id)
    }

    /// Sessions by id.
    pub async fn list(&self, filter: &ListFilter) -> Result<ListPage, Refusal> {
        queries::list(&self.shared.store, filter)
    }

    /// The session's open turn, or the last that committed, step by step.
    pub async fn turn(&self, id: &SessionId) -> Result<TurnReport, Refusal> {
        inspect::turn(&self.shared.store, id)
    }

    /// Runs that turn again, offline and without effects.
    pub async fn replay(&self, id: &SessionId) -> Result<ReplayReport, Refusal> {
        inspect::replay(&self.shared, id).await
    }

    /// Ends a session for ever.
    pub async fn close(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        self.ask(id, DriverCommand::Close).await
    }

    /// Room in memory for a request of that size, for as long as it is read.
    pub fn room(&self, bytes: u64) -> Result<Share, Refusal> {
        self.shared.memory.room(bytes)
    }

    /// Accepts a message. When this returns it is synced.
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

    /// Accepts a message, and gives what to wait on until its turn has ended. A turn without steps
    /// is synced together with its message: when this returns, it may have ended already.
    pub async fn send_and_wait(
        &self,
        id: &SessionId,
        text: String,
        key: Option<IdempotencyKey>,
    ) -> Result<(Accepted, impl Future<Output = Result<TurnOutcome, Refusal>>), Refusal> {
        let room = self.room(text.len() as u64)?;
        let (wait, told) = oneshot::channel();
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
            let told = tokio::select! {
                biased;
                told = told => told.ok(),
                _ = handover.wait_for(Option::is_some) => None,
            };
            match told {
                Some(outcome) => Ok(outcome),
                // A duplicate, or the driver has gone: the log knows.
                None => {
                    let cursor = message.cursor().unwrap_or_default();
                    outcome::follow(self.subscription(id, cursor), &message).await
                }
            }
        };
        Ok((accepted, outcome))
    }

    /// A page of events behind `after`.
    pub async fn events(
        &self,
        id: &SessionId,
        after: u64,
        limit: usize,
    ) -> Result<SessionEvents, Refusal> {
        queries::events(&self.shared.store, id, after, limit)
    }

    /// Events behind `after`, then live.
    pub async fn subscribe(&self, id: &SessionId, after: u64) -> Result<Subscription, Refusal> {
        // Refuses what a stream could only end with.
        queries::events(&self.shared.store, id, after, 1)?;
        Ok(self.subscription(id, after))
    }

    /// Gives the open turn up, or what waits. When this returns it is synced.
    pub async fn cancel(
        &self,
        id: &SessionId,
        scope: CancelScope,
    ) -> Result<(SessionView, Cancelled), Refusal> {
        self.ask(id, |reply| DriverCommand::Cancel(scope, reply))
            .await
    }

    /// Takes a human's answer to an approval. When this returns it is synced.
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

    /// Approvals that wait, of at most `limit` sessions from behind `after`, by session; and the
    /// session to go on behind, if there may be more.
    pub async fn approvals(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<(Vec<Approval>, Option<SessionId>), Refusal> {
        let waiting = self.shared.store.approvals(after, limit);
        waiting.map_err(queries::refusal)
    }

    /// Lets a faulted session run.
    pub async fn resume(&self, id: &SessionId) -> Result<SessionView, Refusal> {
        self.ask(id, DriverCommand::Resume).await
    }

    /// Puts a dead letter back into the inbox: this one, or the last. By `force` also if its turn
    /// made calls that cannot be repeated.
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

    /// Dead letters, oldest first.
    pub async fn dead(
        &self,
        id: &SessionId,
        after: Option<&MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Refusal> {
        queries::dead(&self.shared.store, id, after, limit)
    }

    /// Open sessions of a plugin; scans the list, so for rare questions only.
    pub fn sessions_of(&self, plugin: &str) -> Result<u64, Refusal> {
        queries::count_of(&self.shared.store, plugin)
    }

    /// Turns that run now.
    pub fn running(&self) -> u64 {
        self.shared.turns.running.load(Ordering::SeqCst)
    }

    /// Sessions whose messages wait while no turn of theirs runs.
    pub fn queued(&self) -> u64 {
        self.shared.turns.queued.load(Ordering::SeqCst)
    }

    /// Messages accepted since the drain began.
    pub fn held(&self) -> u64 {
        self.shared.turns.held.load(Ordering::SeqCst)
    }

    /// Brings back what was active before, in the background of whatever clients ask meanwhile,
    /// and holds it against what the restart record says.
    pub async fn relaunch(&self, witness: RestartManifest) -> crate::domain::RelaunchReport {
        relaunch::run(self, witness).await
    }

    /// Delivers timers when they are due, for ever.
    pub async fn run_timers(&self) {
        timers::run(self).await;
    }

    /// The worker has proven itself: turns need not be counted before they begin any more.
    pub fn probation_over(&self) {
        self.shared.sync_begun.store(false, Ordering::SeqCst);
    }

    /// The sessions that a restart must bring back, as they stand.
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

    /// All sessions that have work, and of those that committed a turn within the notice window as
    /// many as a restart brings back.
    pub(super) fn active_ids(&self) -> Result<Vec<SessionId>, StoreError> {
        let parts = self.shared.parts();
        let window = parts.notice_window.as_millis() as u64;
        let since = UnixMillis(UnixMillis::now().0.saturating_sub(window));
        self.shared.store.active(since, parts.relaunch_max)
    }

    /// Whether a drain is about to begin: if so, idle sessions leave memory. Each of thousands would
    /// have to be told of the drain, and of its end, while clients wait.
    pub fn evict_idle(&self, about_to_drain: bool) {
        self.shared
            .clearing
            .store(about_to_drain, Ordering::Relaxed);
        if about_to_drain {
            // The gate stays as it is; those that sleep wake up and look.
            self.shared.gate.send_modify(|_| {});
        }
    }

    /// Lets no turn and no step begin and waits for those that run, at most for `grace`; then cuts
    /// them. A turn that wants its next step is frozen before it, and not waited for. Messages are
    /// accepted and held throughout. `active` is the number of active sessions.
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
        // While clients can still be answered: some take their time.
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

    /// Gives a drain up: turns begin again.
    pub fn cancel_drain(&self) {
        self.evict_idle(false);
        // Drivers with messages that came during the drain are still in memory and watch the gate.
        self.shared.gate.send_replace(Gate::Open);
    }

    /// Ends all streams, and the requests that wait, with the word that `generation` takes over.
    pub fn end_streams(&self, generation: Generation) {
        self.shared.handover.send_replace(Some(generation));
    }

    /// Refuses everything from now on, ends the tool servers, and returns when no driver is left, or has not left within
    /// `patience`: the store, once closed, takes nothing more from it, so it cannot acknowledge
    /// anything either.
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
            // Drivers notify as they go; the bound covers one that went between the two looks.
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
        // A driver that goes without an answer has met the end of the worker.
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
    /// The session's mailbox; starts a driver if it has none.
    fn mailbox(&self, id: &SessionId, shared: &Arc<Shared>) -> mpsc::Sender<DriverCommand> {
        let mut drivers = self.lock();
        // One whose owner is gone without a word (it has panicked) is no mailbox any more.
        if let Some(mailbox) = drivers.get(id).filter(|mailbox| !mailbox.is_closed()) {
            return mailbox.clone();
        }
        let (mailbox, commands) = mpsc::channel(MAILBOX);
        drivers.insert(id.clone(), mailbox.clone());
        let driver = Driver::new(id.clone(), shared.clone(), self.clone(), commands);
        tokio::spawn(driver.run());
        mailbox
    }

    /// Takes a driver out that has nothing to do. Refused while somebody holds its mailbox, for
    /// a message may be on its way.
    pub(super) fn retire(&self, id: &SessionId, commands: &mpsc::Receiver<DriverCommand>) -> bool {
        let mut drivers = self.lock();
        let unused = commands.is_empty() && commands.sender_strong_count() == 1;
        if unused {
            drivers.remove(id);
        }
        unused
    }

    /// Takes a driver out whose mailbox is closed: the worker leaves.
    pub(super) fn remove(&self, id: &SessionId, commands: &mpsc::Receiver<DriverCommand>) {
        if commands.is_closed() {
            self.lock().remove(id);
        }
    }

    /// Whether somebody looks after the session.
    pub(super) fn has(&self, id: &SessionId) -> bool {
        self.lock()
            .get(id)
            .is_some_and(|mailbox| !mailbox.is_closed())
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, mpsc::Sender<DriverCommand>>> {
        // A panic elsewhere cannot leave the map half-changed: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
