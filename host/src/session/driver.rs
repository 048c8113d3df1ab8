//! The driver: the one task that owns a session. Only the driver decides, appends and publishes;
//! all other code sends it a [`DriverCommand`] or reads the store.
//!
//! ```text
//!  take commands from the mailbox -> decide (domain) -> append, sync -> publish, reply
//!        ^                                                                     |
//!        +--- the running turn ended, the gate moved, a timer <-- begin a turn +
//! ```
//!
//! A message whose sender waits for its turn needs no sync of its own (see `held` in `commit`): a
//! turn without steps costs one sync for its message, its beginning and its end together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::domain::{Digest, LogPos, MessageId, Refusal, Session, SessionId, Snapshot, UnixMillis};

use super::drain::Gate;
use super::drivers::Drivers;
use super::hold_clock::Tick;
use super::hub::Live;
use super::liveness::LivenessGuard;
use super::mailbox::{DriverCommand, Relaunched};
use super::memory_budget::Share;
use super::outcome::TurnOutcome;
use super::shared::Shared;
use crate::store::Tail;

mod batch;
mod begin;
mod cancel;
mod commands;
mod commit;
mod component;
mod end;
mod guest_task;
mod journal;
mod park;
mod repair;
mod restore;
mod run;
mod take_over;
mod timers;
mod way_back;

use batch::{CommitBatch, CommitInFlight};
use guest_task::GuestTask;
pub(in crate::session) use restore::begun_on;

/// How long no turn begins after the store has failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    id: SessionId,
    shared: Arc<Shared>,
    drivers: Drivers,
    commands: mpsc::Receiver<DriverCommand>,
    gate: watch::Receiver<Gate>,
    /// The session's state, including records that are decided but not yet written. `None`: the
    /// session does not exist.
    session: Option<Session>,
    /// Why `session` does not reflect the store; if set, it must be loaded again first.
    unread: Option<Refusal>,
    /// The end of the session's log.
    tail: Tail,
    /// The current snapshot, cached here if it is small.
    snapshot: Option<(LogPos, Arc<Snapshot>)>,
    running: Option<GuestTask>,
    /// The senders that wait for the end of their message's turn.
    waiters: Vec<(MessageId, oneshot::Sender<TurnOutcome>)>,
    /// Decided records that are held back, until `held_until` at the latest, to share the next
    /// sync.
    held: CommitBatch,
    held_until: Option<Tick>,
    /// Batches that are being written while the driver does other work, in order.
    in_flight: VecDeque<CommitInFlight>,
    /// Relaunch replies that wait until the restore has been verified.
    relaunching: Vec<oneshot::Sender<Relaunched>>,
    /// Whether the guest is known to restore in this worker: a turn or the relaunch has shown it.
    proven: bool,
    /// The snapshot, and the component whose trial on it has passed last.
    passed: Option<(LogPos, Digest)>,
    /// No turn begins before this time.
    paused_until: Option<Instant>,
    idle_since: Instant,
    /// Whether the session is counted in [`TurnGate::queued`](super::drain::TurnGate).
    waits: bool,
    /// Why the store last kept a turn from beginning.
    obstacle: Option<String>,
    /// What the open turn reserves at least of the guests' memory, because it has outgrown less.
    reserve_bytes: u64,
    /// Reports the driver's progress to the watchdog.
    heart: LivenessGuard,
    /// The driver's share of the memory budget.
    share: Share,
}

impl Driver {
    pub(super) fn new(
        id: SessionId,
        shared: Arc<Shared>,
        drivers: Drivers,
        commands: mpsc::Receiver<DriverCommand>,
    ) -> Self {
        let mut gate = shared.turns.gate.subscribe();
        // The gate may have moved before this driver subscribed: handle its current value first.
        gate.mark_changed();
        let share = shared.memory.share();
        let heart = LivenessGuard::new(id.clone(), shared.liveness.clone());
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
            passed: None,
            paused_until: None,
            idle_since: Instant::now(),
            waits: false,
            obstacle: None,
            reserve_bytes: 0,
            heart,
            share,
        }
    }

    fn now() -> UnixMillis {
        UnixMillis::now()
    }

    fn publish(&self, news: impl FnOnce() -> Live) {
        self.shared.hubs.publish(&self.id, news);
    }
}
