//! Why a request is not done. One typed reason each; the API has the table to statuses.

use super::{ApprovalStatus, BadSessionId, TurnFailure, UnixMillis};

/// A request that was understood and is not done; nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The id is none.
    #[error(transparent)]
    BadSessionId(#[from] BadSessionId),
    /// Nobody created it.
    #[error("there is no session `{0}`; create it with PUT /v1/sessions/{0}")]
    UnknownSession(String),
    /// It was closed.
    #[error("the session was closed at {at}; closed ids are never used again, choose another")]
    Closed {
        /// When.
        at: UnixMillis,
    },
    /// The id is taken by a session of another plugin or other arguments.
    #[error("the session exists with another {what}; choose another id, or send the same {what}")]
    Exists {
        /// `plugin` or `args`.
        what: &'static str,
    },
    /// The configuration has no such plugin.
    #[error("there is no plugin `{name}`; the configuration has {known}")]
    UnknownPlugin {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The guest's `open` failed.
    #[error("the plugin refused to open the session: {0}")]
    OpenFailed(TurnFailure),
    /// Over a limit.
    #[error("{what} has {bytes} bytes; `limits.{key}` allows {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit's key.
        key: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Too many messages wait.
    #[error("{limit} messages wait already (`limits.inbox`); send again when some were answered")]
    InboxFull {
        /// The limit.
        limit: u32,
    },
    /// All sessions together hold as much in memory as they may.
    #[error(
        "the messages that wait, of all sessions together, take as much memory as they may \
         ({limit} bytes); send again in a moment, or raise `daemon.session_memory`"
    )]
    Overloaded {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Less is free on the disk than is held back for what was accepted before.
    #[error(
        "nothing was accepted: the disk of the data folder has {free_bytes} bytes free, and \
         {reserve_bytes} are held back for what was accepted before (`daemon.disk_reserve`); free \
         some space, then send again"
    )]
    DiskNearlyFull {
        /// What is free for the daemon's user, in bytes.
        free_bytes: u64,
        /// What is held back, in bytes.
        reserve_bytes: u64,
    },
    /// The idempotency key came with another body before.
    #[error("this Idempotency-Key came with another body before; use a new key for a new message")]
    KeyReused,
    /// There is no turn to cancel.
    #[error(
        "no turn is running; there is nothing to cancel (`scope=queue` cancels what waits as well)"
    )]
    NothingRuns,
    /// There is no fault to end.
    #[error("the session is not faulted; there is nothing to resume")]
    NotFaulted,
    /// There is no such dead letter.
    #[error("there is no such dead letter; GET /v1/sessions/ID/dead lists them")]
    NoDeadLetter,
    /// A retry would do again what cannot be repeated.
    #[error(
        "its turn made {calls} call(s) that cannot be repeated and that happened, or may have; \
         look at what they did, then retry with `force` to have them made again"
    )]
    NeedsForce {
        /// How many.
        calls: u32,
    },
    /// Nobody asked this, or it went with its turn's journal.
    #[error("there is no approval `{0}`; GET /v1/approvals lists those that wait")]
    UnknownApproval(String),
    /// It was decided otherwise.
    #[error("the approval was {} before; a decision stands", .status.as_str())]
    ApprovalDecided {
        /// What became of it.
        status: ApprovalStatus,
    },
    /// Its time is over.
    #[error("the approval expired at {at}, which counts as a denial; send a message to go on")]
    ApprovalExpired {
        /// When.
        at: UnixMillis,
    },
    /// No turn is open, and none has committed.
    #[error(
        "no turn is open, and none has committed of which the log still has the journal; send a \
         message, then look again"
    )]
    NoTurn,
    /// A turn cannot be run again.
    #[error("the turn cannot be run again: {0}")]
    Unreplayable(String),
    /// Events that old are gone.
    #[error(
        "events up to {oldest} have been trimmed; the oldest cursor to follow from is {oldest}"
    )]
    Trimmed {
        /// The smallest `after` that can be served.
        oldest: u64,
    },
    /// The disk does not take it.
    #[error("nothing was accepted: {0}")]
    StoreFailed(String),
    /// What the disk gives back is not what was stored.
    #[error("{0}")]
    Unreadable(String),
    /// The session was closed while the request waited.
    #[error("the session was closed before the message was answered")]
    Gone,
    /// The worker is about to end; the client's connection goes on with its successor.
    #[error("the daemon is restarting; send again in a moment")]
    Restarting,
}
