//! Every message that a driver gets, in one place: what everybody may ask of it, and what its own
//! turn may.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::outcome::TurnOutcome;
use crate::domain::{
    Answer, Approval, ApprovalId, CancelScope, Cancelled, Extent, FromInbox, IdempotencyKey,
    MessageId, Record, Refusal, SessionView, TurnFailure,
};

/// Where an answer goes.
pub(super) type ReplyTo<T> = oneshot::Sender<Result<T, Refusal>>;

/// What a client says of the session it wants.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSession {
    /// The plugin's name.
    pub plugin: String,
    /// The guest's arguments.
    pub args: serde_json::Value,
    /// Labels; none leaves those of an existing session alone.
    pub labels: Option<BTreeMap<String, String>>,
}

/// An accepted message: synced, and never lost from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub message: MessageId,
    /// The cursor to follow from: all that comes of the message comes after it.
    pub cursor: u64,
    /// It had been accepted before, under the same key.
    pub duplicate: bool,
}

/// What a driver is asked to do.
pub(super) enum DriverCommand {
    /// Create the session, or confirm that it is there.
    Create(NewSession, ReplyTo<(SessionView, bool)>),
    /// Accept a message.
    Send {
        text: String,
        key: Option<IdempotencyKey>,
        /// Told when its turn has ended. Dropped where somebody else must be asked.
        wait: Option<oneshot::Sender<TurnOutcome>>,
        reply: ReplyTo<Accepted>,
    },
    /// End the session for ever.
    Close(ReplyTo<SessionView>),
    /// Give the open turn up, or what waits.
    Cancel(CancelScope, ReplyTo<(SessionView, Cancelled)>),
    /// Let a faulted session run.
    Resume(ReplyTo<SessionView>),
    /// Put a dead letter (none: the last one) back into the inbox.
    Retry {
        message: Option<MessageId>,
        /// Also if that repeats what cannot be repeated.
        force: bool,
        reply: ReplyTo<Accepted>,
    },
    /// Take a human's answer to an approval; gives it as it stands then.
    Decide {
        id: ApprovalId,
        answer: Answer,
        reply: ReplyTo<Approval>,
    },
    /// Deliver the timers that are due, and end the approvals that have expired.
    FireTimers(oneshot::Sender<()>),
    /// Come back after a restart: go on with what was open, or prove that the guest restores.
    Relaunch(oneshot::Sender<Relaunched>),
}

/// What a running turn asks of the driver that owns its session. An answer that never comes means
/// that the turn is being cut.
pub(super) enum DriverRequest {
    /// Put these records into the log.
    Record {
        records: Vec<Record>,
        urgency: Urgency,
        /// The reason why the turn must not go on, if there is one.
        reply: oneshot::Sender<Result<(), TurnFailure>>,
    },
    /// Ask a human, and drop the turn: it is begun again when all is decided. Never answered.
    Park { records: Vec<Record> },
    /// The messages that came since the turn began.
    Receive { reply: oneshot::Sender<FromInbox> },
}

/// How soon a turn's record is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Before the answer: what follows must not happen without it.
    First,
    /// As soon as the disk is free.
    Soon,
    /// With the next write of anybody.
    Lazy,
}

/// How a session came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relaunched {
    /// How far it has come, for the witness.
    pub(super) extent: Extent,
    /// An open turn runs again.
    pub(super) resumed: bool,
    /// It is faulted.
    pub(super) faulted: bool,
}
