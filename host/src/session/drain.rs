//! The drain: the gate that it closes, the turns that it counts, and the guard that counts them.
//!
//! ```text
//!   Open ------> Draining ------> Aborting ------> Closing
//!   turns begin  no turn and no   running turns    drivers refuse
//!     ^          step begins      are aborted      requests and exit
//!     |             |                |
//!     +-------------+----------------+
//!          the drain is cancelled
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::sync::{Notify, watch};

use super::liveness::Liveness;
use crate::domain::DrainReport;

/// The progress of a drain; see the diagram above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    /// Turns begin.
    Open,
    /// No turn and no step begins. Steps in flight may end, and so may turns that need no further
    /// step. Messages are accepted and held.
    Draining,
    /// Turns that still run are aborted. Messages are still accepted and held.
    Aborting,
    /// Nothing is accepted: the store is about to close.
    Closing,
}

/// The gate, and the counters of current turns and of a drain's progress.
pub(super) struct TurnGate {
    pub(super) gate: watch::Sender<Gate>,
    pub(super) running: AtomicU64,
    /// Turns that wait before a step because the gate is not open; not included in `running`.
    pub(super) frozen: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) held: AtomicU64,
    /// Sessions in memory that have queued messages and no running turn.
    pub(super) queued: AtomicU64,
    /// Notified when a turn or a driver ends.
    pub(super) ended: Notify,
}

/// Counts a turn as running or as frozen for as long as the guard lives.
pub(super) struct TurnGuard {
    turns: Arc<TurnGate>,
    /// Where the watchdog reads the turn's progress.
    pub(super) pulse: Arc<Liveness>,
    frozen: AtomicBool,
}

impl TurnGate {
    pub(super) fn new() -> Self {
        Self {
            gate: watch::Sender::new(Gate::Open),
            running: AtomicU64::new(0),
            frozen: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            held: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            ended: Notify::new(),
        }
    }

    /// Counts one more running turn, if turns may begin. It increments the count first and reads
    /// the gate second, so that no turn can begin after a drain has seen a count of zero.
    pub(super) fn begin_turn(
        self: &Arc<Self>,
        pulse: &Arc<Liveness>,
        turn: u64,
    ) -> Option<TurnGuard> {
        self.running.fetch_add(1, Ordering::SeqCst);
        pulse.turn_begins(turn);
        let guard = TurnGuard {
            turns: self.clone(),
            pulse: pulse.clone(),
            frozen: AtomicBool::new(false),
        };
        (*self.gate.borrow() == Gate::Open).then_some(guard)
    }

    /// Waits until no turn runs.
    async fn no_turn_runs(&self) {
        loop {
            // Registered before the count is read, so that no notification is missed.
            let ended = self.ended.notified();
            if self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Stops new turns and steps from beginning and waits for running ones for at most `grace`,
    /// then aborts them, and awaits `rest` while clients can still be answered. A turn that reaches
    /// its next step is frozen before it, and the drain does not wait for it. Messages are accepted
    /// and held throughout. `active` is the number of active sessions.
    pub(super) async fn drain(
        &self,
        grace: Duration,
        active: u64,
        rest: impl Future<Output = ()>,
    ) -> Drained {
        let since = Instant::now();
        self.cut.store(0, Ordering::SeqCst);
        self.held.store(0, Ordering::SeqCst);
        // The count is read after the gate has closed: a turn that begins counts itself first and
        // reads the gate second.
        self.gate.send_replace(Gate::Draining);
        let running = self.running.load(Ordering::SeqCst);
        let in_time = tokio::time::timeout(grace, self.no_turn_runs()).await;
        let frozen = self.frozen.load(Ordering::SeqCst);
        self.gate.send_replace(Gate::Aborting);
        if in_time.is_err() {
            self.no_turn_runs().await;
        }
        rest.await;
        let cut = self.cut.load(Ordering::SeqCst);
        let report = DrainReport {
            idle: active.saturating_sub(running),
            waited_for: running.saturating_sub(cut + frozen),
            cut,
            frozen,
            held: self.held.load(Ordering::SeqCst),
        };
        Drained {
            report,
            took: since.elapsed(),
        }
    }
}

impl TurnGuard {
    /// Passes the barrier before a step: returns at once while the gate is open. Otherwise the turn
    /// is frozen here, and no drain waits for it: its journal holds its whole state. It continues
    /// if the drain is cancelled.
    pub(super) async fn pass(&self) {
        let mut gate = self.turns.gate.subscribe();
        let turns = &self.turns;
        // As in `begin_turn`, count first and read the gate second: `running` is incremented before
        // the loop checks the gate again.
        while *gate.borrow_and_update() != Gate::Open {
            self.frozen.store(true, Ordering::SeqCst);
            turns.frozen.fetch_add(1, Ordering::SeqCst);
            turns.running.fetch_sub(1, Ordering::SeqCst);
            turns.ended.notify_waiters();
            if gate.wait_for(|gate| *gate == Gate::Open).await.is_err() {
                // The worker has ended, and this turn with it.
                std::future::pending::<()>().await;
            }
            turns.running.fetch_add(1, Ordering::SeqCst);
            turns.frozen.fetch_sub(1, Ordering::SeqCst);
            self.frozen.store(false, Ordering::SeqCst);
        }
    }

    /// Waits for a place to run in. If the gate closes meanwhile, the turn freezes instead: a drain
    /// must not wait for places that frozen turns hold.
    pub(super) async fn until_free<T>(&self, room: impl Future<Output = T>) -> T {
        tokio::pin!(room);
        let is_open = *self.turns.gate.borrow() == Gate::Open;
        // Mostly there is one, and nothing to wait for.
        if is_open && let Some(room) = room.as_mut().now_or_never() {
            return room;
        }
        let mut gate = self.turns.gate.subscribe();
        loop {
            self.pass().await;
            let closed = async {
                if gate.wait_for(|gate| *gate != Gate::Open).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                room = &mut room => return room,
                () = closed => {}
            }
        }
    }

    /// Does something that has no effects. If the gate closes meanwhile, it is dropped and the turn freezes;
    /// it is begun anew if the drain is cancelled.
    pub(super) async fn unless_drained<T, F: Future<Output = T>>(
        &self,
        begin: impl Fn() -> F,
    ) -> T {
        loop {
            self.pass().await;
            let mut gate = self.turns.gate.subscribe();
            let closed = async {
                if gate.wait_for(|gate| *gate != Gate::Open).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                done = begin() => return done,
                () = closed => {}
            }
        }
    }

    /// Returns whether the turn waits before a step that may not begin.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        let turns = &self.turns;
        let count = match self.is_frozen() {
            true => &turns.frozen,
            false => &turns.running,
        };
        count.fetch_sub(1, Ordering::SeqCst);
        self.pulse.turn_ends();
        turns.ended.notify_waiters();
    }
}

/// The result of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The report for the restart record.
    pub report: DrainReport,
    /// How long the drain took.
    pub took: Duration,
}
