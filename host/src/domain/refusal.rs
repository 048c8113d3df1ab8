//! The reasons for which a request is refused, each of its own type; the API maps them to statuses.

use std::time::Duration;

use super::{ApprovalStatus, BadSessionId, Digest, EventId, TimelineName, TurnFailure, UnixMillis};

/// The refusal of a request that was understood. Nothing has changed, or the variant says so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The id is invalid.
    #[error(transparent)]
    BadSessionId(#[from] BadSessionId),
    /// No such session was ever created.
    #[error("there is no session `{0}`; create it with PUT /v1/sessions/{0}")]
    UnknownSession(String),
    /// The session was closed.
    #[error("the session was closed at {at}; closed ids are never used again, choose another")]
    Closed { at: UnixMillis },
    /// The id is taken by a session of another plugin or other arguments.
    #[error("the session exists with another {what}; choose another id, or send the same {what}")]
    Exists {
        /// `plugin` or `args`.
        what: &'static str,
    },
    /// The configuration has no such plugin.
    #[error("there is no plugin `{name}`; the configuration has {known}")]
    UnknownPlugin {
        /// The requested name.
        name: String,
        /// The plugins of the configuration.
        known: String,
    },
    /// The guest's `open` failed.
    #[error("the plugin refused to open the session: {0}")]
    OpenFailed(TurnFailure),
    /// Something is over a size limit.
    #[error("{what} has {bytes} bytes; `limits.{key}` allows {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit's key.
        key: &'static str,
        /// Its size, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The inbox is full.
    #[error("{limit} messages wait already (`limits.inbox`); send again when some were answered")]
    InboxFull { limit: u32 },
    /// The messages that wait, of all sessions together, use as much memory as they may.
    #[error(
        "the messages that wait, of all sessions together, take as much memory as they may \
         ({limit} bytes); send again in a moment, or raise `daemon.session_memory`"
    )]
    Overloaded {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The disk's free space is below the reserve for what was accepted before.
    #[error(
        "nothing was accepted: the disk of the data folder has {free_bytes} bytes free, and \
         {reserve_bytes} are held back for what was accepted before (`daemon.disk_reserve`); free \
         some space, then send again"
    )]
    DiskNearlyFull {
        /// The space that is free for the daemon's user, in bytes.
        free_bytes: u64,
        /// The reserve, in bytes.
        reserve_bytes: u64,
    },
    /// The idempotency key was used before with another body.
    #[error("this Idempotency-Key came with another body before; use a new key for a new message")]
    KeyReused,
    #[error(
        "no turn is running; there is nothing to cancel (`scope=queue` cancels what waits as well)"
    )]
    NothingRuns,
    /// The session has no fault to end, and does not wait after a cut of its history.
    #[error(
        "the session is not faulted, and does not wait after a cut of its history; there is \
         nothing to resume"
    )]
    NotFaulted,
    /// The fault that was to be ended would come back at once.
    #[error("the session stays faulted, for it was tried, and cannot run yet: {reason}")]
    StillFaulted { reason: String },
    /// The session was to be tried on a component, and the machine was too busy.
    #[error(
        "it could not be found out whether the session can run: {reason}; try again in a moment"
    )]
    NothingFound { reason: String },
    /// The session runs on its plugin's component.
    #[error("the session is not pinned to an older component; there is nothing to adopt")]
    NotPinned,
    /// The session cannot run on its plugin's component.
    #[error(
        "the session stays on its older component, for its plugin's cannot carry it on: {reason}; \
         with `force` it is moved all the same: it loses that, or if its guest cannot be restored, is \
         faulted until its plugin has another one"
    )]
    CannotAdopt { reason: String },
    /// Bytes that are to be tried as a plugin are no component that can be one.
    #[error("this is no component that can be a plugin: {reason}")]
    BadComponent { reason: String },
    /// The session is in the state that it was to be rewound to.
    #[error("the session is in that state, and no turn is open; there is nothing to undo")]
    NothingToUndo,
    /// The session has no such point, or not any more.
    #[error(
        "the session has no restore point {point}; GET /v1/sessions/ID/points lists those that it \
         has (`retention.points` says how many are kept)"
    )]
    UnknownPoint {
        /// The point that was asked for.
        point: EventId,
    },
    /// The state of a point cannot be brought back.
    #[error("nothing was changed, for the state cannot be brought back: {reason}")]
    CannotReturn { reason: String },
    /// A copy was to get the id of a session that exists.
    #[error("there is a session of this id already; choose another id for the copy")]
    Taken,
    /// Exports and imports take memory of their own.
    #[error(
        "other exports, imports and forks take all memory that is set aside for them; try again in a moment"
    )]
    CopiesBusy,
    /// An export that is none, or is damaged, or does not fit.
    #[error("nothing was imported: {reason}")]
    BadExport { reason: String },
    /// An export was made by another component than those of this daemon.
    #[error(
        "nothing was imported: the session's state is of the component {component}, which is neither \
         its plugin's here nor kept; export it with its component (`--with-component`), or give the \
         plugin that component"
    )]
    ComponentMissing { component: Digest },
    /// It would fault a session while a turn of it is open.
    #[error("a turn is open; cancel it, or wait for its end, then try again")]
    TurnOpen,
    /// There is no such dead letter.
    #[error("there is no such dead letter; GET /v1/sessions/ID/dead lists them")]
    NoDeadLetter,
    /// A retry would repeat calls that cannot be repeated.
    #[error(
        "its turn made {calls} call(s) that cannot be repeated and that happened, or may have; \
         look at what they did, then retry with `force` to have them made again"
    )]
    NeedsForce {
        /// The number of such calls.
        calls: u32,
    },
    /// The history of the session was cut while its turn was open: what the turn did is not known.
    #[error(
        "the history of its session was cut while its turn was open, and calls that it made may \
         have taken effect, whether the log still shows them or not; look at what they did, then \
         retry with `force` to have them made again"
    )]
    MayHaveActed,
    /// No such approval was requested, or it was removed with its turn's journal.
    #[error("there is no approval `{0}`; GET /v1/approvals lists those that wait")]
    UnknownApproval(String),
    /// No such call is always approved.
    #[error("there is no standing approval `{0}`; GET /v1/standing-approvals lists them")]
    UnknownStanding(String),
    /// Nobody can say any more what would be approved for good.
    #[error(
        "the arguments of this call are not kept whole any more, so that it cannot be approved for good; decide \
         it once, or the next one like it"
    )]
    ArgumentsCut,
    /// See [`STANDING_MAX`](super::STANDING_MAX).
    #[error(
        "{limit} calls are always approved already, which is the limit; revoke one that is not needed"
    )]
    TooManyStanding { limit: usize },
    /// The data folder cannot hold it before this version's probation is over.
    #[error("{0}")]
    NotYet(String),
    /// The approval was decided otherwise.
    #[error("the approval was {} before; a decision stands", .status.as_str())]
    ApprovalDecided {
        /// The earlier decision.
        status: ApprovalStatus,
    },
    /// The approval has expired.
    #[error("the approval expired at {at}, which counts as a denial; send a message to go on")]
    ApprovalExpired { at: UnixMillis },
    /// The approval was asked for on an earlier timeline.
    #[error(
        "the approval `{id}` is void: the history of its session was cut since it was asked for, \
         and the turn that asked has ended; send a message to go on once the session is resumed"
    )]
    ApprovalVoid {
        /// The approval.
        id: String,
    },
    /// No turn is open, and the log has the journal of no committed one.
    #[error(
        "no turn is open, and none has committed of which the log still has the journal; send a \
         message, then look again"
    )]
    NoTurn,
    /// The turn cannot be replayed.
    #[error("the turn cannot be run again: {0}")]
    Unreplayable(String),
    /// Events after the requested cursor have been trimmed.
    #[error(
        "events up to {oldest} have been trimmed; the oldest cursor to follow from is {oldest}"
    )]
    Trimmed {
        /// The smallest `after` that can be served.
        oldest: u64,
        /// The session's present timeline; none if it is the first.
        timeline: Option<TimelineName>,
    },
    /// The log does not reach the requested position.
    #[error(
        "the session has no event {position}{}; follow from {last}{}",
        if position.timeline == *timeline {
            ""
        } else {
            " any more, as its history was cut"
        },
        timeline.as_ref().map_or(String::new(), |name| format!(" on the timeline {name}")),
    )]
    CursorAhead {
        /// The position that was asked for.
        position: EventId,
        /// The last cursor up to which the position's history counts.
        last: u64,
        /// The session's present timeline; none if it is the first.
        timeline: Option<TimelineName>,
    },
    /// The store could not write to the disk.
    #[error("nothing was accepted: {0}")]
    StoreFailed(String),
    /// The disk completes no write at present. The request may be carried out once it does.
    #[error(
        "the disk of the data folder has completed no write for {} s: nothing is acknowledged. This \
         may be carried out once the disk answers; send it again then, a message with the same \
         Idempotency-Key, which makes it count once",
        .after.as_secs()
    )]
    StoreStalled {
        /// How long it has completed none.
        after: Duration,
    },
    /// What the disk returned is not what was stored.
    #[error("{0}")]
    Unreadable(String),
    /// The session was closed while the request waited.
    #[error("the session was closed before the message was answered")]
    Gone,
    /// The worker is about to exit; the client's connection continues with the next worker.
    #[error("the daemon is restarting; send again in a moment")]
    Restarting,
}
