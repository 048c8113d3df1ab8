//! All messages of the protocol between supervisor and worker.

use std::os::fd::OwnedFd;

use super::config_bytes::ConfigBytes;
use super::log_line::LineFormat;

/// A message from the supervisor to a worker.
#[derive(Debug)]
pub enum ToWorker {
    /// The first message on every link: the worker's role and what it inherits.
    Start(Start),
    /// Sent to a standby, once: the store is free, so open it and serve.
    Go {
        /// [`StartCause::Planned`], or [`StartCause::Crash`] if the previous worker died while it
        /// drained.
        cause: StartCause,
    },
    /// Sent to the current worker: the standby of this restart is ready, so drain and hand over.
    StandbyReady {
        /// The generation of the [`Replace`] that requested this standby.
        generation: u64,
    },
    /// Sent to the current worker: this restart will have no standby, so go on as if it had never
    /// been requested. May also be sent after [`ToWorker::StandbyReady`].
    StandbyFailed {
        /// The generation of the [`Replace`] that requested this standby.
        generation: u64,
        /// The cause, for humans.
        reason: String,
    },
    /// An open client connection: one of the previous worker's, or one of this worker's own that is
    /// returned because there is no standby to take it.
    Connection(Connection),
    /// Drain, send [`FromWorker::Stopped`], exit. May be sent before the worker serves, and takes
    /// precedence over a restart in progress.
    Stop,
    /// The user requested (by SIGHUP) to check the config file and the binary for changes now.
    Reload,
}

/// A message from a worker to its supervisor.
#[derive(Debug)]
pub enum FromWorker {
    /// Keep this listening socket when the worker dies or is replaced.
    Listening {
        /// The address as the config spells it; the key under which a later worker receives the
        /// socket. If a socket is kept under this key already, it stays and this one is closed.
        addr: String,
        fd: OwnedFd,
    },
    /// The worker owns the store and serves. Sent again whenever the content changes. A worker whose
    /// store does not open, and which nothing else can replace, sends it as well: it answers clients
    /// with the reason, and opens the store once it can.
    Serving(Serving),
    /// The format of the supervisor's own lines of the log, from now on. Sent before
    /// [`FromWorker::Serving`]. A supervisor that does not know it ignores it.
    LogFormat(LineFormat),
    /// Sent at the first boot, before [`FromWorker::Serving`]: this configuration passed its
    /// probation in an earlier life of the daemon. The supervisor rolls back to it if the worker's
    /// own configuration fails its probation.
    LastGood(ConfigBytes),
    /// The probation is over: the worker's configuration and binary are from now on what later
    /// workers are rolled back to.
    Proven,
    /// Start a replacement. If one is being prepared already, it is ended first: the latest
    /// request wins.
    Replace(Replace),
    /// Sent by a standby: everything that can be checked before the store is opened has been
    /// checked.
    StandbyReady,
    /// Sent by a standby: it cannot take over, and exits.
    StandbyFailed {
        /// The cause, for humans.
        reason: String,
    },
    /// Sent by the current worker: the restart is cancelled, so end the standby. There is no reply.
    CancelReplace,
    /// An open client connection for the ready standby.
    Connection(Connection),
    /// The store is closed and its lock released, and all connections are handed over. The worker
    /// exits now.
    Released,
    /// The worker has drained for good and closed the store. It exits now, and so should the
    /// supervisor.
    Stopped,
    /// The worker cannot start, has reported this to the user, and exits now.
    Fatal {
        /// The cause, for humans.
        reason: String,
        /// The exit code of the supervisor if this is the first boot.
        code: u8,
    },
    /// Sent by a worker that is ordered to serve or prepares as a standby, while it writes a damaged store
    /// anew, or compiles a plugin: it has come further since the last one, so that its time begins again. A
    /// supervisor that does not know it, or not of a standby, ignores it.
    Mending,
    /// The heartbeat. A worker that has sent it once is killed as hung if it does not send it again
    /// within [`ALIVE_TIMEOUT`](super::ALIVE_TIMEOUT).
    Alive,
}

/// A worker's role and what it inherits.
#[derive(Debug)]
pub struct Start {
    pub mode: Mode,
    pub cause: StartCause,
    /// The generation of the planned restart, if the worker is its standby.
    pub generation: Option<u64>,
    /// The supervisor's process id, which must be the worker's parent.
    pub supervisor_pid: u32,
    /// The config to run on. `None` at the first boot only: the worker then reads the file.
    pub config: Option<ConfigBytes>,
    /// The listening sockets that are kept, by the address under which they were announced.
    pub listeners: Vec<(String, OwnedFd)>,
    /// Opaque information from the previous worker; see [`Replace::info`].
    pub info: Vec<u8>,
    /// A memory file for what workers note of the writes that they acknowledge: it outlives them, and is in no
    /// folder that somebody could replace. None from an older supervisor.
    pub acknowledged: Option<OwnedFd>,
}

/// Whether a worker may open the store at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No other worker owns the store: open it and serve.
    Serve,
    /// Prepare everything but the store, send [`FromWorker::StandbyReady`], wait for
    /// [`ToWorker::Go`].
    Standby,
}

/// The reason why a worker was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartCause {
    /// The supervisor's own start.
    First,
    /// A restart that the previous worker requested.
    Planned,
    /// The previous worker died.
    Crash {
        /// Whether it died by its own doing: it exited, faulted, was killed because it hung, or
        /// by the kernel because memory had run out. `false` for a signal from outside, such as
        /// `kill -9`.
        own_doing: bool,
        /// How it died, for humans.
        detail: String,
    },
    /// The previous worker died by its own doing on a configuration or binary that had not passed
    /// probation; this one runs on those that last did.
    Rollback {
        /// How it died, for humans.
        detail: String,
    },
}

/// The state that a serving worker reports.
#[derive(Debug)]
pub struct Serving {
    /// The longest time in milliseconds that the worker needs to stop. It is killed once this and
    /// [`STOP_MARGIN`](super::STOP_MARGIN) have passed.
    pub stop_budget_ms: u64,
    /// The config that the worker runs on, with which a new worker is started after a crash.
    pub config: ConfigBytes,
    /// The listeners in use. All other kept ones are closed, except those that a standby has
    /// announced since.
    pub listeners: Vec<String>,
}

/// A planned restart.
#[derive(Debug)]
pub struct Replace {
    /// The number of the restart.
    pub generation: u64,
    /// Exactly the bytes that were validated.
    pub config: ConfigBytes,
    /// Opaque information that is passed on to the standby. At most
    /// [`MAX_INFO_BYTES`](super::MAX_INFO_BYTES).
    pub info: Vec<u8>,
}

/// An open client connection between two requests.
#[derive(Debug)]
pub struct Connection {
    /// Bytes that were received from the client and are not answered yet. At most
    /// [`MAX_PREFIX_BYTES`](super::MAX_PREFIX_BYTES).
    pub prefix: Vec<u8>,
    /// The address of the listener that accepted it, as announced.
    pub addr: String,
    pub fd: OwnedFd,
}
