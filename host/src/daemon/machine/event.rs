//! The machine's events and actions. `P` is the type of a restart between its acceptance and its
//! handover, `C` of a candidate configuration, `D` of the change that the candidate makes.

use crate::domain::Generation;

/// The origin of a request to reload the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Trigger {
    /// The file watch detected a change.
    Watch,
    /// SIGHUP: like `Watch`, except that `on_config_change = "ignore"` has no effect.
    Signal,
    /// `abide restart`, which restarts even if nothing has changed.
    Operator,
    /// A damaged table was met: the next worker writes the store anew, on what runs.
    Store,
}

/// A restart or stop that is already in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum UnderWay {
    /// A restart; the successor rereads the file as soon as it serves.
    Restart(Generation),
    /// The stop of the whole daemon.
    Stop(Generation),
}

/// An input of the machine.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum RestartEvent<P, C, D> {
    /// The planner has decided about a candidate.
    Decided(C, Outcome<D>),
    /// The current action failed.
    Refused(Setback),
    /// A hot change has been applied.
    Applied,
    /// A restart has been recorded, and a standby requested from the supervisor.
    Accepted(Generation, P),
    /// The standby is ready to take over.
    StandbyReady(Generation),
    /// The standby failed, with the reason.
    StandbyFailed(Generation, String),
    /// New components have been tried; or what was found refuses the restart.
    Tried(Result<(), Setback>),
    /// The active sessions have been recorded, with their number; or the store refused the write.
    ActiveRecorded(Result<u64, Setback>),
    /// No turn runs any more: all have ended or were aborted.
    Drained,
    /// The result of the last write to the store before a handover.
    LastWritten(Result<(), Setback>),
    /// A request to stop the daemon: the stop's generation, and the reason.
    Stop(Generation, String),
    /// The probation of this worker, or of its latest hot change, is over.
    ProbationOver,
    /// A periodic tick.
    Tick {
        /// Whether the store accepts writes, as far as is known.
        store_writes: bool,
    },
}

/// The planner's decision, reduced to what the machine needs.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum Outcome<D> {
    /// The candidate means the same as the running configuration.
    Nothing,
    /// The candidate waits for `abide restart`.
    Ignored,
    /// Apply this change at once.
    Hot(D),
    /// Restart for this change.
    Restart(D),
    /// A restart is in progress, so the candidate has to wait.
    Deferred(Trigger),
    /// The daemon is stopping.
    Stopping,
    /// The candidate is unusable.
    Rejected(Setback),
}

/// The reason why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Setback {
    /// The reason for the operator, with the remedy.
    pub(in crate::daemon) reason: String,
    /// Whether the store refused a write. That is no fault of the configuration, so it is retried.
    pub(in crate::daemon) by_store: bool,
}

/// An action to perform. The actions of a step are performed in order; an event that an action
/// leads to is processed before the next action.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum RestartAction<P, C, D> {
    /// From now on treat the candidate's bytes as the running ones.
    Adopt(C),
    /// Apply a hot change: [`RestartEvent::Applied`] or [`RestartEvent::Refused`].
    Apply(D),
    /// Record a restart and request its standby: [`RestartEvent::Accepted`] or
    /// [`RestartEvent::Refused`].
    Accept(D),
    /// Log and count a refusal. Not repeated for the same reason.
    LogRefusal(String),
    /// Try the components that the restart in progress changes on sessions: eventually
    /// [`RestartEvent::Tried`].
    BeginTrial,
    /// Cancel the trial: nothing of it is wanted.
    CancelTrial,
    /// Evict idle sessions from memory, so that a drain need not wake them (`true`); or cease to
    /// (`false`).
    EvictIdle(bool),
    /// Record the active sessions for the restart in progress: [`RestartEvent::ActiveRecorded`].
    RecordActive,
    /// Record that the daemon stops, why, and the active sessions:
    /// [`RestartEvent::ActiveRecorded`].
    RecordStop(Generation, String),
    /// Stop turns and steps from beginning, given the number of active sessions, and wait for the
    /// turns that run: eventually [`RestartEvent::Drained`].
    BeginDrain(u64),
    /// Cancel the drain: turns begin again.
    CancelDrain,
    /// Notify the supervisor that the standby is no longer wanted.
    CancelReplace,
    /// Record this restart as refused, with the reason.
    RecordRefused(P, String),
    /// Write this restart's record once more, to check the store: [`RestartEvent::LastWritten`].
    WriteLast,
    /// Hand over or stop, and exit. No action follows.
    Leave(Departure<P>),
    /// Let the planner decide about a candidate again: [`RestartEvent::Decided`].
    Reconsider(Trigger, C),
    /// Reread the configuration file: [`RestartEvent::Decided`].
    Reload,
    /// Persist restart records that the store has refused.
    FlushUnpersisted,
    /// Start the probation of a hot change.
    BeginProbation,
    /// End probation: later workers fall back to the running configuration.
    Prove,
}

/// The way in which a worker ends.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum Departure<P> {
    /// A successor takes over.
    HandOver(P),
    /// The daemon stops.
    Stop(Generation),
}
