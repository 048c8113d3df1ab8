//! What supervisor and worker say to each other: every message of the protocol, in one place.

use std::os::fd::OwnedFd;

use super::config_bytes::ConfigBytes;

/// What the supervisor says to a worker.
#[derive(Debug)]
pub enum ToWorker {
    /// The first message on every link: who the worker is and what it inherits.
    Start(Start),
    /// To a standby, once: the store is free, open it and serve.
    Go {
        /// [`StartCause::Planned`], or [`StartCause::Crash`] if the worker before it died while it
        /// drained.
        cause: StartCause,
    },
    /// To the current worker: the standby of this restart is ready, drain and hand over.
    StandbyReady {
        /// The generation of the [`Replace`] that asked for this standby.
        generation: u64,
    },
    /// To the current worker: there will be no standby of this restart; go on as if it had never
    /// been asked for. May also come after [`ToWorker::StandbyReady`].
    StandbyFailed {
        /// The generation of the [`Replace`] that asked for this standby.
        generation: u64,
        /// Why, for people.
        reason: String,
    },
    /// An open client connection: from the worker before this one, or this worker's own handed
    /// back because nobody is there to take it.
    Connection(Connection),
    /// Drain, say [`FromWorker::Stopped`], exit. May come before the worker serves, and takes
    /// precedence over a restart in progress.
    Stop,
    /// Somebody asked (SIGHUP) to look at the config file and the binary now.
    Reload,
}

/// What a worker says to its supervisor.
#[derive(Debug)]
pub enum FromWorker {
    /// Keep this listening socket over my death and my replacement.
    Listening {
        /// The address as the config spells it; the key under which a later worker is given the
        /// socket. One that is kept already under this key stays, and this one is closed.
        addr: String,
        /// The socket.
        fd: OwnedFd,
    },
    /// I own the store and serve. Said again whenever what it tells has changed.
    Serving(Serving),
    /// At the first boot, before [`FromWorker::Serving`]: this configuration proved itself in an
    /// earlier life of the daemon. It is what is gone back to if mine does not.
    LastGood(ConfigBytes),
    /// My probation is over: what I serve on is what later ones are rolled back to.
    Proven,
    /// Start my replacement. While one is being prepared already, it is ended first: the latest
    /// wins.
    Replace(Replace),
    /// From a standby: all that can be checked before the store is opened has been.
    StandbyReady,
    /// From a standby: I cannot take over, and exit.
    StandbyFailed {
        /// Why, for people.
        reason: String,
    },
    /// From the current worker: I give the restart up, end the standby. No answer follows.
    CancelReplace,
    /// An open client connection for the ready standby.
    Connection(Connection),
    /// The store is closed and its lock released, all connections are handed over; I exit now.
    Released,
    /// Drained for good and the store closed; I exit now, and so should the supervisor.
    Stopped,
    /// I cannot start, have said so to the user, and exit now.
    Fatal {
        /// Why, for people.
        reason: String,
        /// The exit code of the supervisor if this is the first boot.
        code: u8,
    },
    /// I am not stuck. A worker that has said so once is ended as hung when it then stays silent
    /// for [`ALIVE_TIMEOUT`](super::ALIVE_TIMEOUT).
    Alive,
}

/// Who a worker is and what it inherits.
#[derive(Debug)]
pub struct Start {
    /// Whether it may open the store at once.
    pub mode: Mode,
    /// Why it was started.
    pub cause: StartCause,
    /// The generation of the planned restart that it is the standby of.
    pub generation: Option<u64>,
    /// The supervisor's process id, which must be the worker's parent.
    pub supervisor_pid: u32,
    /// The config to run on. `None` at the first boot only: the worker then reads the file.
    pub config: Option<ConfigBytes>,
    /// The listening sockets that are kept, by the address that they were announced under.
    pub listeners: Vec<(String, OwnedFd)>,
    /// What the worker before it had to say, unread by the supervisor; see [`Replace::info`].
    pub info: Vec<u8>,
}

/// Whether a worker may open the store at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody else owns the store: open it and serve.
    Serve,
    /// Prepare all but the store, say [`FromWorker::StandbyReady`], wait for [`ToWorker::Go`].
    Standby,
}

/// Why a worker was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartCause {
    /// The supervisor's own start.
    First,
    /// A restart that the worker before it planned.
    Planned,
    /// The worker before it died.
    Crash {
        /// Whether it died by its own doing: it exited, faulted, or was ended for hanging.
        /// `false` for a signal from outside, as `kill -9` or the kernel's lack of memory.
        own_doing: bool,
        /// How it died, for people.
        detail: String,
    },
    /// The worker before it died by its own doing on a configuration or binary that had not proven
    /// itself; this one runs on those that last did.
    Rollback {
        /// How it died, for people.
        detail: String,
    },
}

/// What a worker serves.
#[derive(Debug)]
pub struct Serving {
    /// The longest time in milliseconds that the worker needs to stop. The supervisor adds
    /// [`STOP_MARGIN`](super::STOP_MARGIN) and then ends it.
    pub stop_budget_ms: u64,
    /// The config that it runs on: what it is started anew with after a crash.
    pub config: ConfigBytes,
    /// The listeners in use. Others that are kept are closed, but for those which a standby has
    /// announced since.
    pub listeners: Vec<String>,
}

/// A planned restart.
#[derive(Debug)]
pub struct Replace {
    /// The restart's number.
    pub generation: u64,
    /// The very bytes that were validated.
    pub config: ConfigBytes,
    /// Passed on to the standby unread. At most [`MAX_INFO_BYTES`](super::MAX_INFO_BYTES).
    pub info: Vec<u8>,
}

/// An open client connection between two requests.
#[derive(Debug)]
pub struct Connection {
    /// What the client has sent already and nobody has answered. At most
    /// [`MAX_PREFIX_BYTES`](super::MAX_PREFIX_BYTES).
    pub prefix: Vec<u8>,
    /// The address of the listener that it came in by, as announced.
    pub addr: String,
    /// The socket.
    pub fd: OwnedFd,
}
