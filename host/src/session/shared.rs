//! What all drivers share: the parts they use, and the gate that a drain closes.
//!
//! ```text
//!   Open ----> Draining ----> Cut ----> Leaving
//!     ^  begins   no turn and   running    drivers refuse
//!     |  turns    no step       turns are  and go
//!     +--------- begins        cut
//!       given up
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

/// How far a drain is; see the drawing above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Turns begin.
    Open,
    /// No turn and no step begins; turns that need none may end, steps in flight too. Messages are
    /// accepted and held.
    Draining,
    /// No turn runs. Messages are still accepted and held.
    Aborting,
    /// Nothing is accepted: the store is about to close.
    Closing,
}

/// What the sessions need to know of their daemon.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This worker's.
    pub generation: Generation,
    /// The restarts up to this one, oldest first.
    pub restarts: Vec<PastRestart>,
    /// The generation of the worker before this one.
    pub previous: Generation,
    /// Whether that one died by its own doing.
    pub died_by_own_doing: bool,
    /// What sessions may hold in memory together, in bytes.
    pub memory_max_bytes: u64,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) engine: Engine,
    pub(super) parts: Current,
    pub(super) settings: Settings,
    pub(super) hubs: Hubs,
    pub(super) gate: watch::Sender<Gate>,
    /// The generation that takes over, once streams shall end.
    pub(super) handover: watch::Sender<Option<Generation>>,
    /// Each `Begun` is synced before its guest runs: the worker before this one died by its own
    /// doing, and this one has not proven itself yet.
    pub(super) sync_begun: AtomicBool,
    pub(super) turns: TurnCounts,
    pub(super) memory: Memory,
    pub(super) space: Space,
    pub(super) vitals: LivenessTable,
    /// A drain is about to begin: what is idle leaves memory now, while clients are served, and is
    /// not in the way then.
    pub(super) clearing: AtomicBool,
    /// Timers were set; the clockwork looks again.
    pub(super) timers_set: Notify,
}

/// What runs now, and what a drain has seen.
#[derive(Default)]
pub(super) struct TurnCounts {
    pub(super) running: AtomicU64,
    /// Turns that stand before a step which the gate does not let begin; not among `running`.
    pub(super) frozen: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) held: AtomicU64,
    /// Sessions in memory whose messages wait while no turn of theirs runs.
    pub(super) queued: AtomicU64,
    /// Something ended.
    pub(super) ended: Notify,
}

/// Counts a turn for as long as it lives, among those that run or those that are frozen.
pub(super) struct TurnGuard {
    shared: Arc<Shared>,
    /// Where the watchdog sees it.
    pub(super) pulse: Arc<Liveness>,
    frozen: AtomicBool,
}

impl Shared {
    /// The replaceable parts as they are now: hold on to them for as long as they must not change.
    pub(super) fn parts(&self) -> Arc<LiveConfig> {
        self.parts.get()
    }

    /// Counts one more running turn, if turns may begin. The order (count, then look at the gate)
    /// makes sure that a drain which has seen a count of zero sees no turn begin after.
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
            let ended = self.turns.ended.notified();
            if self.turns.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl TurnGuard {
    /// The barrier before a step: passes while the gate is open. Else the turn is frozen here, for
    /// its journal is its state, and nobody waits for it; it goes on if the drain is given up.
    pub(super) async fn pass(&self) {
        let mut gate = self.shared.gate.subscribe();
        let turns = &self.shared.turns;
        // As in `begin_turn`: counted first, then looked at.
        while *gate.borrow_and_update() != Gate::Open {
            self.frozen.store(true, Ordering::SeqCst);
            turns.frozen.fetch_add(1, Ordering::SeqCst);
            turns.running.fetch_sub(1, Ordering::SeqCst);
            turns.ended.notify_waiters();
            if gate.wait_for(|gate| *gate == Gate::Open).await.is_err() {
                // The worker is gone; so is this turn.
                std::future::pending::<()>().await;
            }
            turns.running.fetch_add(1, Ordering::SeqCst);
            turns.frozen.fetch_sub(1, Ordering::SeqCst);
            self.frozen.store(false, Ordering::SeqCst);
        }
    }

    /// Waits for room to run in. A drain does not wait for that: frozen turns hold what room there
    /// is.
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

    /// Whether the turn stands before a step that may not begin.
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

/// What a drain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// For the restart record.
    pub report: DrainReport,
    /// How long it took.
    pub took: Duration,
}
