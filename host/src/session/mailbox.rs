//! All messages that a driver receives: commands from the registry, and requests from its own
//! running turn.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::outcome::TurnOutcome;
use crate::domain::{
    Answer, Approval, ApprovalId, CancelScope, Cancelled, EventId, Extent, FromInbox, MessageId,
    NewMessage, Record, Refusal, Replacement, RewoundTo, SessionCopy, SessionView, TimelineName,
    TurnFailure,
};

/// The channel for a command's reply.
pub(super) type ReplyTo<T> = oneshot::Sender<Result<T, Refusal>>;

/// A client's parameters for a new session.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSession {
    pub plugin: String,
    /// The arguments for the guest.
    pub args: serde_json::Value,
    /// The labels; `None` leaves those of an existing session unchanged.
    pub labels: Option<BTreeMap<String, String>>,
}

/// An accepted message: it is synced to disk and cannot be lost any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub message: MessageId,
    /// The cursor to follow from: all events that the message causes come after it.
    pub cursor: u64,
    /// The timeline of that cursor; none if it is the session's first.
    pub timeline: Option<TimelineName>,
    /// Whether the message had already been accepted under the same idempotency key.
    pub duplicate: bool,
}

/// What becomes of a session that its plugin's component does not carry on as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It stays where it is.
    Whole,
    /// It goes over all the same; if its guest cannot be restored it is faulted.
    ByForce,
    /// It is faulted.
    OrFault,
}

/// A command to a session's driver.
pub(super) enum DriverCommand {
    /// Create the session, or confirm that it exists.
    Create(NewSession, ReplyTo<(SessionView, bool)>),
    /// Accept a message.
    Send {
        message: NewMessage,
        /// Receives the outcome when the message's turn has ended. Dropped without an outcome where
        /// the sender must read it from the log.
        wait: Option<oneshot::Sender<TurnOutcome>>,
        reply: ReplyTo<Accepted>,
    },
    /// Close the session permanently.
    Close(ReplyTo<SessionView>),
    /// Cancel the open turn or the queued messages.
    Cancel(CancelScope, ReplyTo<(SessionView, Cancelled)>),
    /// Let a session run again that is faulted, or waits after a cut of its history.
    Resume(ReplyTo<SessionView>),
    /// Have the session run on its plugin's component again.
    Adopt {
        adoption: Adoption,
        reply: ReplyTo<SessionView>,
    },
    /// Move a dead letter (`None`: the last one) back into the inbox.
    Retry {
        message: Option<MessageId>,
        /// Retry even if the turn made calls that cannot be repeated.
        force: bool,
        reply: ReplyTo<Accepted>,
    },
    /// Record a human's answer to an approval and reply with the approval's resulting state.
    Decide {
        id: ApprovalId,
        answer: Answer,
        reply: ReplyTo<Approval>,
    },
    /// Bring back an earlier state.
    Rewind {
        to: EventId,
        /// Who asks for it.
        by: Option<String>,
        reply: ReplyTo<(SessionView, RewoundTo)>,
    },
    /// Read what a copy of the session takes along: as it is, or as it was at a point.
    Copy {
        at: Option<EventId>,
        reply: ReplyTo<SessionCopy>,
    },
    /// Create the session as a copy of another one.
    BeginCopy {
        copy: Box<SessionCopy>,
        how: Replacement,
        /// Who asks for it.
        by: Option<String>,
        reply: ReplyTo<SessionView>,
    },
    /// Deliver the due timers and end the expired approvals.
    FireTimers(oneshot::Sender<()>),
    /// Come back after a restart: resume the open turn, or verify that the guest restores.
    Relaunch(oneshot::Sender<Relaunched>),
}

/// A request of a running turn to the driver of its session. If the reply never comes, the turn is
/// being aborted.
pub(super) enum DriverRequest {
    /// Append these records to the log.
    Record {
        records: Vec<Record>,
        urgency: Urgency,
        /// An error is the reason why the turn must not continue.
        reply: oneshot::Sender<Result<(), TurnFailure>>,
    },
    /// Ask a human and drop the turn; it begins again once all approvals are decided. There is no
    /// reply.
    Park { records: Vec<Record> },
    /// Take the messages that arrived since the turn began.
    Receive { reply: oneshot::Sender<FromInbox> },
}

/// How soon a turn's records must be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Before the reply: what follows must not happen unless the records are on disk.
    First,
    /// As soon as the disk is free.
    Soon,
    /// Together with any next write to the store.
    Lazy,
}

/// The result of a session's relaunch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relaunched {
    /// The session's progress, to compare with the restart manifest.
    pub(super) extent: Extent,
    /// Whether an open turn runs again.
    pub(super) resumed: bool,
    /// Whether the session is faulted.
    pub(super) faulted: bool,
    /// Whether it stays on an older component than its plugin's.
    pub(super) pinned: bool,
}
