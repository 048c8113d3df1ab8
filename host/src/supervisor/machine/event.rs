//! The events that go into the machine, and the actions that come out.

use crate::supervisor::message::{Mode, StartCause};

/// A worker's number: counted from 1 in the order of their starts, never reused.
pub(in crate::supervisor) type WorkerId = u64;
/// Milliseconds since the supervisor's start, from a monotonic clock.
pub(in crate::supervisor) type Millis = u64;

/// An event. `C` is the type of a worker's config.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum MachineEvent<C> {
    /// A worker sent a message.
    Message(WorkerId, WorkerMessage<C>),
    /// A worker closed its link.
    Closed(WorkerId),
    /// A worker violated the protocol, or does not read what it is sent; the reason.
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

/// A worker's message, without the parts that do not affect decisions.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum WorkerMessage<C> {
    Serving {
        stop_budget: Millis,
        config: C,
    },
    /// The config that last passed its probation in an earlier life of the supervisor.
    LastGood(C),
    /// The worker's probation is over.
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
    Mending,
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
        /// Whether a process brings this signal upon itself, such as SIGSEGV or SIGABRT.
        fault: bool,
    },
    /// Killed by the kernel's out-of-memory killer.
    OutOfMemory,
    /// SIGKILL, where nothing tells whether a human sent it or the kernel.
    Unaccounted,
    NotStarted(String),
}

/// An action for the supervisor to execute. A message "at hand" is that of the event to which the
/// action responds.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum Action<C> {
    /// Start a worker and send it `Start`.
    Spawn(WorkerId, SpawnMode<C>),
    Send(WorkerId, SupervisorMessage),
    /// Pass the connection at hand on to this worker.
    Relay(WorkerId),
    /// Close the listeners that the `Serving` message at hand does not name.
    Settle(WorkerId),
    /// Send SIGKILL to a worker and its process group.
    Kill(WorkerId),
    /// Kill the processes that dead workers have left behind, and the descendants of the given
    /// worker.
    Sweep(Option<WorkerId>),
    /// Log a line, about a worker if one is given.
    Log(Option<WorkerId>, String),
    /// Exit the supervisor. No action follows.
    Exit(u8),
}

/// The role and the inputs of a worker that is started.
#[derive(Clone, Debug)]
pub(in crate::supervisor) struct SpawnMode<C> {
    pub(in crate::supervisor) mode: Mode,
    pub(in crate::supervisor) cause: StartCause,
    pub(in crate::supervisor) generation: Option<u64>,
    pub(in crate::supervisor) config: Option<C>,
    pub(in crate::supervisor) info: Vec<u8>,
}

/// A message that the machine sends to a worker.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum SupervisorMessage {
    Go(StartCause),
    StandbyReady { generation: u64 },
    StandbyFailed { generation: u64, reason: String },
    Stop,
    Reload,
}
