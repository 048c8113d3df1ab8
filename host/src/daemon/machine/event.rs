//! What happens to the machine, and what it answers. `P` stands for a restart between its acceptance
//! and its hand-over, `C` for a candidate configuration, `D` for the change that it makes.

use crate::domain::Generation;

/// Who wants the daemon to reload its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Trigger {
    /// The watch saw a change.
    Watch,
    /// SIGHUP: as the watch, but `on_config_change = "ignore"` does not hold.
    Signal,
    /// `abide restart`: restarts even if nothing changed.
    Operator,
}

/// What is under way already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum UnderWay {
    /// A restart; its successor reads the file again as soon as it serves.
    Restart(Generation),
    /// The stop of the whole daemon.
    Stop(Generation),
}

/// What happened.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum RestartEvent<P, C, D> {
    /// The planner decided about a candidate.
    Decided(C, Outcome<D>),
    /// What the action at hand was to do did not come about.
    Refused(Setback),
    /// A hot change is applied.
    Applied,
    /// A restart is recorded, and the supervisor has been asked for a standby.
    Accepted(Generation, P),
    /// The standby could take over.
    StandbyReady(Generation),
    /// There is no standby, with the reason.
    StandbyFailed(Generation, String),
    /// So many active sessions are recorded, or the store refused them.
    ActiveRecorded(Result<u64, Setback>),
    /// Nothing runs any more: turns have ended or are aborted.
    Drained,
    /// What the store did with the last write before a hand-over.
    LastWritten(Result<(), Setback>),
    /// The daemon is to stop, under this generation, and why.
    Stop(Generation, String),
    /// The time in which this worker, or its latest hot change, had to prove itself is over.
    ProbationOver,
    /// Time has passed.
    Tick {
        /// Whether the store takes writes, as far as is known.
        store_writes: bool,
    },
}

/// What the planner decided, as far as it matters here.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum Outcome<D> {
    /// The candidate means what runs already.
    Nothing,
    /// The candidate waits for `abide restart`.
    Ignored,
    /// Apply this at once.
    Hot(D),
    /// Restart for this.
    Restart(D),
    /// A restart is under way.
    Deferred(Trigger),
    /// The daemon stops.
    Stopping,
    /// The candidate cannot be run on.
    Rejected(Setback),
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Setback {
    /// For the operator, with the remedy.
    pub(in crate::daemon) reason: String,
    /// The store took no write. That says nothing against the configuration, so that it is tried
    /// again.
    pub(in crate::daemon) by_store: bool,
}

/// What to do, in this order. What an action leads to is an event, answered before the next action.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum RestartAction<P, C, D> {
    /// The candidate's bytes are what runs from now on.
    Adopt(C),
    /// Apply a hot change: [`RestartEvent::Applied`] or [`RestartEvent::Refused`].
    Apply(D),
    /// Record a restart and ask for its standby: [`RestartEvent::Accepted`] or [`RestartEvent::Refused`].
    Accept(D),
    /// Log and count that something was refused. Not repeated for the same reason.
    LogRefusal(String),
    /// Idle sessions leave memory, so that a drain need not reach them; or no more.
    EvictIdle(bool),
    /// Record what is active, for the restart under way: [`RestartEvent::ActiveRecorded`].
    RecordActive,
    /// Record that the daemon stops, and why, with what is active: [`RestartEvent::ActiveRecorded`].
    RecordStop(Generation, String),
    /// Let no turn and no step begin, with so many active sessions, and wait for those turns that
    /// run: [`RestartEvent::Drained`], in time.
    BeginDrain(u64),
    /// Turns begin again.
    CancelDrain,
    /// Tell the supervisor that no standby is wanted.
    CancelReplace,
    /// Record that this restart came to nothing, and why.
    RecordRefused(P, String),
    /// Write this restart's record once more: [`RestartEvent::LastWritten`].
    WriteLast,
    /// Hand over or stop, and exit. Nothing follows.
    Leave(Departure<P>),
    /// Have the planner decide about a candidate again: [`RestartEvent::Decided`].
    Reconsider(Trigger, C),
    /// Read the configuration file again: [`RestartEvent::Decided`].
    Reload,
    /// Persist restart records that the store has refused.
    FlushUnpersisted,
    /// Give the hot change its time to prove itself.
    BeginProbation,
    /// This worker has proven itself: what runs is what a later one falls back to.
    Prove,
}

/// How a worker leaves.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum Departure<P> {
    /// A successor takes over.
    HandOver(P),
    /// The daemon stops.
    Stop(Generation),
}
