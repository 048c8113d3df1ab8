//! The driver's event loop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{self, CommitBatch};
use super::guest_task::{self, GuestEnded, TurnEvent};
use super::{Driver, STORE_PAUSE, commands};
use crate::deliberate_bugs;
use crate::domain::{Session, SessionState};
use crate::session::drain::Gate;
use crate::session::hold_clock::{HoldClock, Tick};
use crate::session::mailbox::DriverCommand;
use crate::session::queries::refusal;
use crate::store::StoreError;

/// The maximum number of commands that are decided and synced together.
const BATCH: usize = 64;
/// The approximate memory of a session besides its texts and its snapshot, in bytes.
const DRIVER_BYTES: u64 = 4 << 10;
/// The approximate memory of a queued message besides its text, in bytes.
const QUEUED_BYTES: u64 = 256;
/// How long an idle session stays in memory while memory is scarce or a drain is about to begin.
const SCARCE_IDLE: Duration = Duration::from_millis(50);
/// The reason why a driver woke up.
enum DriverEvent {
    Commands,
    /// The mailbox is closed and empty.
    Left,
    Turn(TurnEvent),
    Synced(Result<(), StoreError>),
    Gate,
    /// The held batch has waited long enough.
    Held,
    Idle,
}

async fn sleep_until(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

async fn held_until(clock: &HoldClock, due: Option<Tick>) {
    match due {
        Some(due) => clock.until(due).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    pub(in crate::session) async fn run(mut self) {
        self.heart.pulse().works();
        Box::pin(self.load()).await;
        let mut waiting = Vec::with_capacity(BATCH);
        loop {
            self.publish_liveness();
            let woken = self.wake(&mut waiting).await;
            self.heart.pulse().works();
            match woken {
                DriverEvent::Commands => {
                    if self.unread.is_some() {
                        Box::pin(self.load()).await;
                    }
                    match &self.unread {
                        None => self.serve(&mut waiting).await,
                        Some(refusal) => commands::refuse_all(waiting.drain(..), refusal),
                    }
                    self.idle_since = Instant::now();
                }
                DriverEvent::Turn(TurnEvent::Asks(ask)) => Box::pin(self.answer(ask)).await,
                DriverEvent::Turn(TurnEvent::Ended(ended)) => {
                    self.end(*ended).await;
                    self.idle_since = Instant::now();
                }
                DriverEvent::Synced(result) => self.synced(result).await,
                DriverEvent::Gate => self.gate_moved().await,
                DriverEvent::Held => self.flush(),
                // `retire` has already removed it from the map: an entry that is there from now on
                // belongs to another driver.
                DriverEvent::Idle if self.retire() => {
                    self.shared.turns.ended.notify_waiters();
                    return;
                }
                DriverEvent::Idle => {
                    if self.unread.is_some() {
                        Box::pin(self.load()).await;
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
            None => self.idle_since + self.shared.live_config().resident_idle,
        });
        tokio::select! {
            biased;
            result = batch::synced(&mut self.in_flight), if !self.in_flight.is_empty() => {
                DriverEvent::Synced(result)
            }
            event = guest_task::next_event(&mut self.running), if self.running.is_some() => {
                DriverEvent::Turn(event)
            }
            // Before the mailbox: a client that never pauses must not delay a drain.
            changed = self.gate.changed() => {
                if changed.is_err() { DriverEvent::Left } else { DriverEvent::Gate }
            }
            // Also before the mailbox: a steady load must not hold the batch beyond its deadline.
            () = held_until(&shared.hold_clock, self.held_until), if self.held_until.is_some() => {
                DriverEvent::Held
            }
            () = sleep_until(idle_at), if self.held_until.is_none() && idle_at.is_some() => {
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
            Box::pin(self.cut()).await;
            self.flush();
        }
    }

    /// Loads the session from the store. Nothing is decided until that succeeds, because the state
    /// in memory may never have been written.
    async fn load(&mut self) {
        let (store, id) = (self.shared.store.clone(), self.id.clone());
        // May block on the store's writer, so it must not run on an async worker thread.
        let loaded = tokio::task::spawn_blocking(move || store.load_to_append(&id)).await;
        match loaded.unwrap_or(Err(StoreError::Closed)) {
            Ok((session, tail)) => {
                (self.session, self.tail) = (session, tail);
                // Dropping the waiters makes their senders read the outcome from the log, which may
                // have more or less than this driver knew.
                self.waiters.clear();
                deliberate_bugs::loaded(&mut self.session);
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
            match &self.unread {
                None => self.decide(command, &mut batch).await,
                // A command before it has met the failure.
                Some(refusal) => commands::refuse_all(std::iter::once(command), refusal),
            }
        }
        if batch.can_be_held() && *self.gate.borrow() == Gate::Open {
            return self.hold(batch);
        }
        if !self.commit(batch).await {
            return;
        }
        if created {
            self.timers_may_have_changed();
        }
        let progress = self.session.as_ref().map(|session| &session.progress);
        if progress.is_some_and(|progress| progress.closed.is_some()) {
            self.shared.standing.forget(&self.id);
        }
    }

    /// Updates the count of sessions with queued messages and no running turn.
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

    /// Reports to the watchdog whether there is work that does not run, and why.
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

    /// Updates the driver's share of the memory budget.
    fn update_memory_share(&mut self) {
        let queued = self.session.as_ref().map_or(0, |s| s.queue.len() as u64);
        let snapshot = self.snapshot.as_ref();
        let snapshot = snapshot.map_or(0, |(_, snapshot)| snapshot.data.len());
        let texts = self.tail.messages_bytes() + self.held.messages_bytes();
        let bytes = (snapshot + texts) as u64 + self.tail.points_bytes();
        self.share.set(DRIVER_BYTES + QUEUED_BYTES * queued + bytes);
    }

    /// Retires the driver if it has nothing to do and no command is on its way. If this returns
    /// `true`, the driver is no longer in the map and must exit.
    fn retire(&mut self) -> bool {
        let busy = self.unread.is_some()
            || self.running.is_some()
            || !self.in_flight.is_empty()
            || !self.held.is_empty()
            || !self.relaunching.is_empty()
            || self.session.as_ref().is_some_and(Session::has_work);
        !busy && self.drivers.retire(&self.id, &self.commands)
    }

    /// Aborts the running turn. Its `Begun` and its journal stay in the log, so that the next
    /// worker resumes it.
    async fn cut(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let ended = running.abort().await;
        self.hear_last(&mut running).await;
        match ended {
            Some(result) => self.end(GuestEnded { running, result }).await,
            // Counted before `running` drops its guard: a drain reads this count as soon as it sees
            // no turn running.
            None if !running.is_frozen() => {
                self.shared.turns.cut.fetch_add(1, Ordering::SeqCst);
            }
            None => {}
        }
    }
}
