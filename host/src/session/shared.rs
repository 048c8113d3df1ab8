//! The state that all drivers share, and the gate that a drain closes.
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
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::disk_guard::Space;
use super::hub::Hubs;
use super::live_config::{Current, LiveConfig};
use super::liveness::{Liveness, LivenessTable};
use super::memory_budget::Memory;
use crate::domain::{DrainReport, Generation, PastRestart};
use crate::engine::Engine;
use crate::store::Store;

/// The progress of a drain; see the diagram above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
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

/// The facts about the daemon that sessions need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The generation of this worker.
    pub generation: Generation,
    /// The restarts up to this one, oldest first.
    pub restarts: Vec<PastRestart>,
    /// The generation of the worker before this one.
    pub previous: Generation,
    /// Whether the previous worker caused its own death.
    pub died_by_own_doing: bool,
    /// The memory that all sessions together may hold, in bytes.
    pub memory_max_bytes: u64,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) engine: Engine,
    pub(super) parts: Current,
    pub(super) settings: Settings,
    pub(super) hubs: Hubs,
    pub(super) gate: watch::Sender<Gate>,
    /// The generation that takes over; set once streams must end.
    pub(super) handover: watch::Sender<Option<Generation>>,
    /// Whether each `Begun` is synced before its guest runs: the previous worker caused its own
    /// death, and this one is still in probation.
    pub(super) sync_begun: AtomicBool,
    pub(super) turns: TurnCounts,
    pub(super) memory: Memory,
    pub(super) space: Space,
    pub(super) vitals: LivenessTable,
    /// Whether a drain is about to begin. Idle sessions then leave memory while clients are still
    /// served, so that the drain does not have to deal with them.
    pub(super) clearing: AtomicBool,
    /// Notified when timers were set, so that the timer loop reads the next due time again.
    pub(super) timers_set: Notify,
}

/// Counters of current turns and of a drain's progress.
#[derive(Default)]
pub(super) struct TurnCounts {
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
    shared: Arc<Shared>,
    /// Where the watchdog reads the turn's progress.
    pub(super) pulse: Arc<Liveness>,
    frozen: AtomicBool,
}

impl Shared {
    /// Returns the current live configuration: keep the `Arc` for as long as it must not change.
    pub(super) fn parts(&self) -> Arc<LiveConfig> {
        self.parts.get()
    }

    /// Counts one more running turn, if turns may begin. It increments the count first and reads
    /// the gate second, so that no turn can begin after a drain has seen a count of zero.
    pub(super) fn begin_turn(
        self: &Arc<Self>,
        pulse: &Arc<Liveness>,
        turn: u64,
    ) -> Option<TurnGuard> {
        self.turns.running.fetch_add(1, Ordering::SeqCst);
        pulse.turn_begins(turn);
        let guard = TurnGuard {
            shared: self.clone(),
            pulse: pulse.clone(),
            frozen: AtomicBool::new(false),
        };
        (*self.gate.borrow() == Gate::Open).then_some(guard)
    }

    /// Waits until no turn runs.
    pub(super) async fn no_turn_runs(&self) {
        loop {
            // Registered before the count is read, so that no notification is missed.
            let ended = self.turns.ended.notified();
            if self.turns.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl TurnGuard {
    /// Passes the barrier before a step: returns at once while the gate is open. Otherwise the turn
    /// is frozen here, and no drain waits for it: its journal holds its whole state. It continues
    /// if the drain is cancelled.
    pub(super) async fn pass(&self) {
        let mut gate = self.shared.gate.subscribe();
        let turns = &self.shared.turns;
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
        let mut gate = self.shared.gate.subscribe();
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

    /// Returns whether the turn waits before a step that may not begin.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        let turns = &self.shared.turns;
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
