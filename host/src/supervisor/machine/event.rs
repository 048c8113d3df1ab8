//! What the machine is told, and what it answers.

use crate::supervisor::message::{Mode, StartCause};

/// A worker's number: counted from 1 in the order they were started, never reused.
pub(in crate::supervisor) type WorkerId = u64;
/// Milliseconds since the supervisor's start, of a clock that never goes back.
pub(in crate::supervisor) type Millis = u64;

/// What happened. `C` stands for a config.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum MachineEvent<C> {
    /// A worker said something.
    Message(WorkerId, WorkerMessage<C>),
    /// A worker closed its link.
    Closed(WorkerId),
    /// A worker broke the protocol, or does not read what it is told.
    Broken(WorkerId, String),
    /// A worker is dead and reaped, or could not be started at all.
    Gone(WorkerId, ExitStatus),
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Hangup,
    /// Time has passed.
    Tick,
}

/// A worker's message, without what is of no interest to the decision.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum WorkerMessage<C> {
    Serving {
        stop_budget: Millis,
        config: C,
    },
    /// What proved itself in an earlier life of the supervisor.
    LastGood(C),
    /// Its probation is over.
    Proven,
    Replace(Replacement<C>),
    StandbyReady,
    StandbyFailed {
        reason: String,
    },
    CancelReplace,
    Connection,
    Released,
    Stopped,
    Fatal {
        reason: String,
        code: u8,
    },
    Alive,
}

/// A restart that the current worker asked for.
#[derive(Clone, Debug)]
pub(in crate::supervisor) struct Replacement<C> {
    pub(in crate::supervisor) generation: u64,
    pub(in crate::supervisor) config: C,
    pub(in crate::supervisor) info: Vec<u8>,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum ExitStatus {
    Exited(u8),
    Signal {
        number: u8,
        name: String,
        /// A signal that a process brings on itself.
        fault: bool,
    },
    NotStarted(String),
}

/// What to do. Messages "at hand" are those of the event that is being answered.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum Action<C> {
    /// Start a worker and tell it so.
    Spawn(WorkerId, SpawnMode<C>),
    /// Tell a worker.
    Send(WorkerId, SupervisorMessage),
    /// Pass the connection at hand on to this worker.
    Relay(WorkerId),
    /// Close the listeners that the `Serving` at hand does not name.
    Settle(WorkerId),
    /// SIGKILL to a worker and its process group.
    Kill(WorkerId),
    /// End the processes that dead workers left behind, and those that this one still has.
    Sweep(Option<WorkerId>),
    /// A line for the log, about a worker or all.
    Log(Option<WorkerId>, String),
    /// End the supervisor. Nothing follows.
    Exit(u8),
}

/// What a worker is started as.
#[derive(Clone, Debug)]
pub(in crate::supervisor) struct SpawnMode<C> {
    pub(in crate::supervisor) mode: Mode,
    pub(in crate::supervisor) cause: StartCause,
    pub(in crate::supervisor) generation: Option<u64>,
    pub(in crate::supervisor) config: Option<C>,
    pub(in crate::supervisor) info: Vec<u8>,
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum SupervisorMessage {
    Go(StartCause),
    StandbyReady { generation: u64 },
    StandbyFailed { generation: u64, reason: String },
    Stop,
    Reload,
}
