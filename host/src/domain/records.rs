//! The records of a session's log. Bytes on disk are forever: each kind has a number that is never
//! given to another, fields are only ever added (with a default), and payloads are MessagePack
//! maps by field name.
//!
//! | number | kind | since format |
//! |---|---|---|
//! | 1 | `Created` | 1 |
//! | 2 | `Received` | 1 |
//! | 3 | `Begun` | 1 |
//! | 4 | `Planned` | 1 |
//! | 5 | `Done` | 1 |
//! | 6 | `Ended` | 1 |
//! | 7 | `Relabelled` | 1 |
//! | 8 | `Faulted` | 1 |
//! | 9 | `Resumed` | 1 |
//! | 10 | `Discarded` | 1 |
//! | 11 | `Requeued` | 1 |
//! | 12 | `Closed` | 1 |
//! | 13 | `Asked` | 1 |
//! | 14 | `Decided` | 1 |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::steps::one_line;
use super::{
    ApprovalId, ApprovalStatus, Asked, Digest, Effect, Generation, GuestLimits, Message, MessageId,
    ModelUsage, Notice, StepCallName, StepError, StepResult, UnixMillis,
};

/// The longest text of a turn's message that a step keeps, in bytes.
const ABOUT_BYTES: usize = 120;

/// One atomic entry of a session's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The session exists, its guest has opened.
    Created(Created),
    /// A message was accepted into the inbox.
    Received(Received),
    /// A turn (or a further attempt of it) begins.
    Begun(Begun),
    /// A step of the open turn begins.
    Planned(Planned),
    /// A part of a step has its result.
    Done(StepDone),
    /// The turn committed or failed.
    Ended(TurnEnded),
    /// The client changed the session's labels.
    Relabelled(Relabelled),
    /// The session cannot run until somebody acts.
    Faulted(Faulted),
    /// It may run again.
    Resumed(Resumed),
    /// A queued message became a dead letter without a turn.
    Discarded(Discarded),
    /// A dead letter went back into the inbox, behind what waits there.
    Requeued(Requeued),
    /// The session is over. Nothing follows.
    Closed(Closed),
    /// A tool call of the open turn waits for a human.
    Asked(Asked),
    /// It waits no longer.
    Decided(Decided),
}

/// See [`Record::Created`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// The plugin's name.
    pub plugin: String,
    /// The client's arguments, one JSON value.
    pub args: String,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    /// The generation that created it.
    pub generation: Generation,
    /// The component whose `open` ran.
    pub component: Digest,
    /// The schema of the snapshot that stands with this record.
    pub schema: u32,
    /// What `open` said.
    pub outputs: Vec<Output>,
    /// Timers that `open` set.
    pub timers: Vec<TimerOp>,
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Received`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The client's idempotency key and the digest of the body that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
}

/// A client's name for a request, so that sending it twice does it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// As in the header.
    pub key: String,
    /// Of the request's body.
    pub body: Digest,
}

/// See [`Record::Begun`]. With the snapshot before it and the steps after it, it determines all
/// that the guest does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The turn's number in the session, from 1.
    pub turn: u64,
    /// The message it consumes.
    pub message: MessageId,
    /// From 1; a further attempt starts over.
    pub attempt: u32,
    /// Workers that died by their own doing while this turn was open.
    pub deaths: u32,
    /// The recovery message in front of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// The guest's clock at the start.
    pub now: UnixMillis,
    /// The seed of the guest's randomness.
    pub seed: u64,
    /// The component that runs it.
    pub component: Digest,
    /// The limits that its guest can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<GuestLimits>,
    /// The generation whose coming the guest knows of: the one that began this attempt, or the
    /// attempt that this one resumes.
    pub generation: Generation,
    /// The generation that goes on with an interrupted attempt: all else stands as it was, and the
    /// steps are answered from the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_in: Option<Generation>,
}

impl Begun {
    /// The generation that runs this attempt.
    pub fn runs_in(&self) -> Generation {
        self.resumed_in.unwrap_or(self.generation)
    }
}

/// See [`Record::Planned`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// The turn.
    pub turn: u64,
    /// The step's number in the turn, from 1.
    pub step: u32,
    /// What the guest asked for.
    pub call: StepCallName,
    /// What its parts do outside, in order; one, but for several tool calls at once.
    pub effects: Vec<Effect>,
    /// Of several tool calls at once, each as the guest asked for it, shortened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// Where it may change something outside: what the turn's message says, shortened. Kept here
    /// and not with the message, for most turns change nothing and should not pay for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// When.
    pub at: UnixMillis,
}

impl Planned {
    /// As much of a message as [`Planned::about`] reads, in bytes: blanks are left out.
    pub fn opening(message: &str) -> &str {
        &message[..message.floor_char_boundary(4 * ABOUT_BYTES)]
    }

    /// What a step with these effects says of its turn's message.
    pub fn about(effects: &[Effect], message: &str) -> String {
        match effects.iter().any(Effect::changes) {
            true => one_line(message, ABOUT_BYTES),
            false => String::new(),
        }
    }

    /// What the guest asked of a part, as far as that is recorded.
    pub(super) fn asked(&self, part: u32, effect: &Effect) -> String {
        match self.parts.get(part as usize) {
            Some(asked) => asked.clone(),
            // Its text is of all of them together.
            None if self.effects.len() > 1 => effect.name().to_owned(),
            None => self.call.text.clone(),
        }
    }
}

/// See [`Record::Done`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepDone {
    /// The turn.
    pub turn: u64,
    /// The step.
    pub step: u32,
    /// Which part of it, from 0.
    pub part: u32,
    /// The tool that was called, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// What it gave; a part of several tool calls, what one call gives.
    pub result: Result<StepResult, StepError>,
    /// How long it took, in milliseconds: the guest's clock moves on by it.
    pub took_ms: u64,
    /// When.
    pub at: UnixMillis,
}

impl StepDone {
    /// About what its result weighs, in bytes.
    pub fn bytes(&self) -> u64 {
        self.result.as_ref().map_or(0, StepResult::bytes)
    }
}

/// See [`Record::Ended`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnEnded {
    /// The turn.
    pub turn: u64,
    /// The message that it consumed.
    pub message: MessageId,
    /// How it ended.
    pub end: TurnEnd,
    /// Parts of its steps that were begun and must not be begun again; counted for a failed turn,
    /// whose message somebody may want to try again.
    #[serde(default)]
    pub effects: u32,
    /// What its model calls cost.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
    /// When.
    pub at: UnixMillis,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TurnEnd {
    /// It committed; a snapshot stands with this record.
    Completed {
        /// The recovery message in front of its input.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notice: Option<Notice>,
        /// Recovery messages that it took from the inbox while it ran.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        further_notices: Vec<Notice>,
        /// The component that wrote the snapshot.
        component: Digest,
        /// The snapshot's schema.
        schema: u32,
        /// What it said.
        outputs: Vec<Output>,
        /// What became of its timers.
        timers: Vec<TimerOp>,
        /// Further messages that it took from the inbox while it ran.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        received: Vec<MessageId>,
        /// The generation of its `Begun`.
        generation: Generation,
        /// CRC-32 (IEEE) of the snapshot's data, to know it by when it is made again.
        #[serde(default)]
        crc: Option<u32>,
    },
    /// It failed: the state stays, the message is a dead letter.
    Failed(TurnFailure),
}

/// Something that a guest said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// A text, as the assistant.
    Text(String),
    /// An event for programs.
    Event {
        /// The guest's name for it.
        name: String,
        /// One JSON value.
        data: String,
    },
}

/// A change to a session's timers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerOp {
    /// Set, in place of one of the same name.
    Set(Timer),
    /// Forgotten.
    Cancel {
        /// The timer's name.
        name: String,
    },
}

/// A message to oneself, later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Unique in the session.
    pub name: String,
    /// When it is due.
    pub due: UnixMillis,
    /// The message's text.
    pub text: String,
}

/// Why a turn failed or a message was discarded.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema,
)]
#[error("{text}")]
pub struct TurnFailure {
    /// For programs.
    pub code: FailureCode,
    /// For humans.
    pub text: String,
}

/// The kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The guest trapped, or exited.
    Trap,
    /// The guest went over a limit.
    Limit,
    /// The turn took too long.
    Timeout,
    /// The guest returned an error.
    Guest,
    /// The guest could not be restored from its snapshot.
    Restore,
    /// Run again, the guest did something else.
    Divergence,
    /// Somebody cancelled it.
    Cancelled,
    /// The session was closed.
    Closed,
}

/// See [`Record::Relabelled`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relabelled {
    /// All labels from now on.
    pub labels: BTreeMap<String, String>,
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Faulted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Faulted {
    /// Why.
    pub fault: Fault,
    /// When.
    pub at: UnixMillis,
}

/// Why a session cannot run until somebody acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// For programs.
    pub code: FaultCode,
    /// For humans.
    pub text: String,
    /// The component that it happened with; another one is given a try.
    pub component: Option<Digest>,
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// Its open turn took the worker down three times.
    KillsWorker,
    /// Its guest cannot be restored from its snapshot.
    Restore,
    /// Its plugin is not configured, or its component is missing or refused.
    Plugin,
}

/// See [`Record::Resumed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Discarded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discarded {
    /// The message.
    pub message: MessageId,
    /// Why.
    pub failure: TurnFailure,
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Requeued`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requeued {
    /// The message, under its old id.
    pub message: Message,
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Closed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// When.
    pub at: UnixMillis,
}

/// See [`Record::Decided`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// The approval.
    pub id: ApprovalId,
    /// The turn that asked.
    pub turn: u64,
    /// The step.
    pub step: u32,
    /// The tool.
    pub tool: String,
    /// What became of it.
    pub status: ApprovalStatus,
    /// Who decided, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: UnixMillis,
}

/// A message that no turn consumed, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// Why.
    pub reason: TurnFailure,
    /// The turn that failed on it; none if it never had one.
    pub turn: Option<u64>,
    /// Calls of that turn that happened, or may have happened, and cannot be repeated: a retry
    /// would make them once more.
    #[serde(default)]
    pub effects: u32,
    /// When it died.
    pub at: UnixMillis,
}
