//! The one task that owns a session. It alone decides, appends and publishes; everybody else
//! sends it a [`Command`] or reads the store.
//!
//! ```text
//!  take what waits in the mailbox -> decide (domain) -> append, synced -> publish, answer
//!        ^                                                                     |
//!        +---- the running turn ended, the gate moved, a timer <--- begin <----+
//! ```
//!
//! A message whose sender waits for its turn needs no sync of its own (`commit`, held): a turn
//! without steps costs one sync for message, beginning and end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::domain::{
    LogPos, MessageId, Refusal, Session, SessionId, SessionState, Snapshot, UnixMillis,
};

use super::hub::Live;
use super::liveness::LivenessGuard;
use super::mailbox::{DriverCommand, Relaunched};
use super::memory_budget::Share;
use super::outcome::TurnOutcome;
use super::queries::refusal;
use super::registry::Drivers;
use super::shared::{Gate, Shared};
use crate::failpoint;
use crate::store::{StoreError, Tail};

mod begin;
mod cancel;
mod commands;
mod commit;
mod end;
mod journal;
mod park;
mod repair;

use begin::{GuestEnded, GuestTask, TurnEvent};
use commit::{CommitBatch, CommitInFlight};

/// Requests that are decided and synced together.
const BATCH: usize = 64;
/// About what a session in memory takes besides its texts and its snapshot, and about what a
/// message that waits takes besides its text; in bytes.
const DRIVER_BYTES: u64 = 4 << 10;
const QUEUED_BYTES: u64 = 256;
/// How long an idle session stays in memory where that is scarce, or a drain is about to begin.
const SCARCE_IDLE: Duration = Duration::from_millis(50);
/// After the store refused a write, so long no turn begins.
const STORE_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    id: SessionId,
    shared: Arc<Shared>,
    drivers: Drivers,
    commands: mpsc::Receiver<DriverCommand>,
    gate: watch::Receiver<Gate>,
    /// As the log stands, records of the batch at hand included. None: it does not exist.
    session: Option<Session>,
    /// Why `session` is not what the store has.
    unread: Option<Refusal>,
    /// Where its log ends.
    tail: Tail,
    /// The present snapshot, while it is small and the driver lives.
    snapshot: Option<(LogPos, Arc<Snapshot>)>,
    running: Option<GuestTask>,
    /// Who waits for the end of a message's turn.
    waiters: Vec<(MessageId, oneshot::Sender<TurnOutcome>)>,
    /// Decided, and kept back until then: it rides on the next sync.
    held: CommitBatch,
    held_until: Option<Instant>,
    /// What is on its way to the disk while nobody waits for it, in order.
    in_flight: VecDeque<CommitInFlight>,
    /// Answers that wait until the restore has been tried.
    relaunching: Vec<oneshot::Sender<Relaunched>>,
    /// The guest has been restored in this worker: by a turn or by the relaunch.
    proven: bool,
    /// No turn begins before.
    paused_until: Option<Instant>,
    idle_since: Instant,
    /// Counted among those that wait.
    waits: bool,
    /// Why the store kept a turn from beginning when it last did.
    obstacle: Option<String>,
    /// Where the watchdog sees it.
    heart: LivenessGuard,
    /// What it holds in memory.
    share: Share,
}

/// Why a driver woke up.
enum DriverEvent {
    Commands,
    /// The mailbox is closed and empty.
    Left,
    Turn(TurnEvent),
    Synced(Result<(), StoreError>),
    Gate,
    /// What is held has waited long enough.
    Held,
    Idle,
}

async fn sleep_until(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    pub(super) fn new(
        id: SessionId,
        shared: Arc<Shared>,
        drivers: Drivers,
        commands: mpsc::Receiver<DriverCommand>,
    ) -> Self {
        let mut gate = shared.gate.subscribe();
        // The gate may have moved since somebody looked for this driver and found none.
        gate.mark_changed();
        let share = shared.memory.share();
        let heart = LivenessGuard::new(id.clone(), shared.clone());
        Self {
            id,
            shared,
            drivers,
            commands,
            gate,
            session: None,
            unread: None,
            tail: Tail::default(),
            snapshot: None,
            running: None,
            waiters: Vec::new(),
            held: CommitBatch::default(),
            held_until: None,
            in_flight: VecDeque::new(),
            relaunching: Vec::new(),
            proven: false,
            paused_until: None,
            idle_since: Instant::now(),
            waits: false,
            obstacle: None,
            heart,
            share,
        }
    }

    pub(super) async fn run(mut self) {
        self.heart.pulse().works();
        self.load().await;
        let mut waiting = Vec::with_capacity(BATCH);
        loop {
            self.publish_liveness();
            let woken = self.wake(&mut waiting).await;
            self.heart.pulse().works();
            match woken {
                DriverEvent::Commands => {
                    if self.unread.is_some() {
                        self.load().await;
                    }
                    match &self.unread {
                        None => self.serve(&mut waiting).await,
                        Some(refusal) => commands::refuse_all(waiting.drain(..), refusal),
                    }
                    self.idle_since = Instant::now();
                }
                DriverEvent::Turn(TurnEvent::Asks(ask)) => self.answer(ask).await,
                DriverEvent::Turn(TurnEvent::Ended(ended)) => {
                    self.end(*ended).await;
                    self.idle_since = Instant::now();
                }
                DriverEvent::Synced(result) => self.synced(result).await,
                DriverEvent::Gate => self.gate_moved().await,
                DriverEvent::Held => self.flush(),
                // Out of the map already: what stands there from now on is another driver's.
                DriverEvent::Idle if self.retire() => {
                    self.shared.turns.ended.notify_waiters();
                    return;
                }
                DriverEvent::Idle => {
                    if self.unread.is_some() {
                        self.load().await;
                    }
                    self.idle_since = Instant::now();
                }
                DriverEvent::Left => break,
            }
            if self.unread.is_none() {
                self.begin().await;
            }
            self.count_waiting();
            self.update_memory_share();
        }
        self.settle().await;
        self.drivers.remove(&self.id, &self.commands);
        self.shared.turns.ended.notify_waiters();
    }

    async fn wake(&mut self, waiting: &mut Vec<DriverCommand>) -> DriverEvent {
        let shared = &self.shared;
        let hurry = || shared.memory.is_scarce() || shared.clearing.load(Ordering::Relaxed);
        let idle_at = self.running.is_none().then(|| match self.paused_until {
            Some(until) => until,
            None if hurry() => self.idle_since + SCARCE_IDLE,
            None => self.idle_since + self.shared.parts().resident_idle,
        });
        let alarm = self.held_until.or(idle_at);
        tokio::select! {
            biased;
            result = commit::synced(&mut self.in_flight), if !self.in_flight.is_empty() => {
                DriverEvent::Synced(result)
            }
            heard = begin::next_event(&mut self.running), if self.running.is_some() => {
                DriverEvent::Turn(heard)
            }
            // Before the mailbox: a client that never pauses must not outshout a drain.
            changed = self.gate.changed() => {
                if changed.is_err() { DriverEvent::Left } else { DriverEvent::Gate }
            }
            // Before the mailbox as well: it has been held for long enough.
            () = sleep_until(alarm), if alarm.is_some() => {
                if self.held_until.is_some() {
                    return DriverEvent::Held;
                }
                self.paused_until = None;
                DriverEvent::Idle
            }
            count = self.commands.recv_many(waiting, BATCH) => {
                if count == 0 { DriverEvent::Left } else { DriverEvent::Commands }
            }
        }
    }

    async fn gate_moved(&mut self) {
        let gate = *self.gate.borrow_and_update();
        if gate == Gate::Closing {
            self.commands.close();
        }
        if gate >= Gate::Aborting {
            self.cut().await;
            self.flush();
        }
    }

    /// Reads the session as it stands in the store. Until that succeeds nothing is decided, for
    /// what is in memory may never have been written.
    async fn load(&mut self) {
        let (store, id) = (self.shared.store.clone(), self.id.clone());
        // May wait for the writer, so not on a thread that serves others.
        let loaded = tokio::task::spawn_blocking(move || store.load_to_append(&id)).await;
        match loaded.unwrap_or(Err(StoreError::Closed)) {
            Ok((session, tail)) => {
                (self.session, self.tail) = (session, tail);
                // Who waits asks the log, which may know more or less than was said here.
                self.waiters.clear();
                if failpoint::bug("cursor-gap")
                    && let Some(session) = &mut self.session
                {
                    session.progress.next.cursor += 1;
                }
                self.unread = None;
                self.count_death().await;
            }
            Err(error) => {
                tracing::error!(session = %self.id, %error, "the session cannot be read");
                self.paused_until = Some(Instant::now() + STORE_PAUSE);
                self.unread = Some(refusal(error));
            }
        }
    }

    async fn serve(&mut self, waiting: &mut Vec<DriverCommand>) {
        let mut batch = CommitBatch::default();
        let created = self.session.is_none();
        for command in waiting.drain(..) {
            self.decide(command, &mut batch).await;
        }
        if batch.can_be_held() && *self.gate.borrow() == Gate::Open {
            return self.hold(batch);
        }
        if self.commit(batch).await && created {
            self.timers_may_have_changed();
        }
    }

    /// Keeps the count of sessions that wait.
    fn count_waiting(&mut self) {
        let waits = self.running.is_none()
            && self
                .session
                .as_ref()
                .is_some_and(|session| session.state() == SessionState::Queued);
        if waits != self.waits {
            let queued = &self.shared.turns.queued;
            if waits {
                queued.fetch_add(1, Ordering::SeqCst)
            } else {
                queued.fetch_sub(1, Ordering::SeqCst)
            };
            self.waits = waits;
        }
    }

    /// Shows the watchdog whether it has work that does not run, and why.
    fn publish_liveness(&self) {
        let waits = match &self.session {
            _ if self.unread.is_some() => true,
            Some(session) => self.running.is_none() && session.has_work(),
            None => false,
        };
        self.heart.pulse().rests(waits, || match &self.unread {
            Some(refusal) => Some(refusal.to_string()),
            None => self.obstacle.clone(),
        });
    }

    /// Tells what it holds in memory.
    fn update_memory_share(&mut self) {
        let queued = self.session.as_ref().map_or(0, |s| s.queue.len() as u64);
        let snapshot = self.snapshot.as_ref();
        let snapshot = snapshot.map_or(0, |(_, snapshot)| snapshot.data.len());
        let texts = self.tail.messages_bytes() + self.held.messages_bytes();
        let bytes = (snapshot + texts) as u64;
        self.share.set(DRIVER_BYTES + QUEUED_BYTES * queued + bytes);
    }

    /// Whether the driver may go: nothing to do, nobody on the way, and it has left the map.
    fn retire(&mut self) -> bool {
        let busy = self.unread.is_some()
            || self.running.is_some()
            || !self.in_flight.is_empty()
            || !self.held.is_empty()
            || !self.relaunching.is_empty()
            || self.session.as_ref().is_some_and(Session::has_work);
        !busy && self.drivers.retire(&self.id, &self.commands)
    }

    /// Ends the running turn where it stands. Its `Begun` and its journal stay: the next worker goes
    /// on with it.
    async fn cut(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let ended = running.abort().await;
        self.hear_last(&mut running).await;
        match ended {
            Some(result) => self.end(GuestEnded { running, result }).await,
            // Counted before it is let go: a drain that finds no turn running reads the count.
            None if !running.is_frozen() => {
                self.shared.turns.cut.fetch_add(1, Ordering::SeqCst);
            }
            None => {}
        }
    }

    fn now() -> UnixMillis {
        UnixMillis::now()
    }

    fn publish(&self, news: impl FnOnce() -> Live) {
        self.shared.hubs.publish(&self.id, news);
    }
}
