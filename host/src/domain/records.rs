//! The records of a session's log. Bytes on disk are forever: the number of a kind is never reused,
//! fields are only ever added (with a default), and payloads are MessagePack maps by field name.
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
//! | 15 | `Cut` | raised by whoever writes one |
//! | 17 | `Rewound` | the part `points` |
//! | 18 | `Origin` | the part `points` |
//! | 19 | `Moved` | the part `components` |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::shorten::one_line;
use super::{
    ApprovalId, ApprovalStatus, CutCause, Digest, Effect, Generation, GuestLimits, Message,
    MessageId, ModelUsage, Notice, Origin, Rewound, StepCallName, StepError, StepResult,
    TimelineName, TimerOp, TurnFailure, UnixMillis,
};

/// The longest text of a turn's message that a step records, in bytes.
const ABOUT_BYTES: usize = 120;

/// One atomic entry of a session's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The session was created; its guest's `open` has succeeded.
    Created(Created),
    /// A message was accepted into the inbox.
    Received(Received),
    /// A turn (or a further attempt of it) begins.
    Begun(Begun),
    /// A step of the open turn begins.
    Planned(Planned),
    /// A part of a step is done.
    Done(StepDone),
    /// The turn committed or failed.
    Ended(TurnEnded),
    /// The client changed the session's labels.
    Relabelled(Relabelled),
    /// The session cannot run until an operator acts.
    Faulted(Faulted),
    /// The faulted session may run again.
    Resumed(Resumed),
    /// A queued message became a dead letter without having had a turn.
    Discarded(Discarded),
    /// A dead letter went back to the end of the inbox.
    Requeued(Requeued),
    /// The session was closed. No record follows.
    Closed(Closed),
    /// A tool call of the open turn waits for a human's decision.
    Asked(Asked),
    /// The approval was decided.
    Decided(Decided),
    /// History after this point was lost: a new timeline begins.
    ///
    /// Older versions cannot read it. Only what recovers a store at its opening writes one, by
    /// [`Session::cut`](super::Session::cut), after it has raised the store's format.
    Cut(Cut),
    /// From here on the session runs on another component.
    Moved(Moved),
    /// The session's state is that of an earlier point.
    Rewound(Rewound),
    /// All records before are those of the session that this one is a copy of; here it begins itself.
    Origin(Origin),
}

/// See [`Record::Created`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub plugin: String,
    /// The client's arguments, as one JSON value.
    pub args: String,
    pub labels: BTreeMap<String, String>,
    /// The generation that created it.
    pub generation: Generation,
    /// The component whose `open` ran.
    pub component: Digest,
    /// The schema of the snapshot that is stored with this record.
    pub schema: u32,
    /// What `open` emitted.
    pub outputs: Vec<Output>,
    /// Timers that `open` set.
    pub timers: Vec<TimerOp>,
    pub at: UnixMillis,
}

/// See [`Record::Received`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    pub message: Message,
    /// The client's idempotency key and the digest of the body that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// The authenticated client that sent it: an access token's name, `config` for the holder of the
    /// token that the configuration names, or `@local` for one at the local socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
}

/// A client's name for a request, so that sending it twice has an effect only once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// The key, as in the header.
    pub key: String,
    /// The digest of the request's body.
    pub body: Digest,
}

/// See [`Record::Begun`]. With the snapshot before it and the steps after it, it determines
/// everything that the guest does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The turn's number in the session, from 1.
    pub turn: u64,
    /// The message that it consumes.
    pub message: MessageId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The number of workers that died by their own doing while this turn was open.
    pub deaths: u32,
    /// The notice in front of the input, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// The guest's clock at the start.
    pub now: UnixMillis,
    /// The seed of the guest's randomness.
    pub seed: u64,
    /// The component that runs it.
    pub component: Digest,
    /// The limits that its guest can observe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<GuestLimits>,
    /// The generation that the guest knows: that of the worker that began this attempt, or the
    /// attempt that this one resumes.
    pub generation: Generation,
    /// The generation that resumes an interrupted attempt, if this is one: all other fields are
    /// those of the interrupted attempt, and the steps are answered from the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_in: Option<Generation>,
}

impl Begun {
    pub fn runs_in(&self) -> Generation {
        self.resumed_in.unwrap_or(self.generation)
    }
}

/// See [`Record::Planned`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub turn: u64,
    /// The step's number in the turn, from 1.
    pub step: u32,
    /// The call that the guest made.
    pub call: StepCallName,
    /// The effects of its parts, in order; one, except for several tool calls at once.
    pub effects: Vec<Effect>,
    /// For several tool calls at once: each call as the guest made it, shortened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// The text of the turn's message, shortened, if the step may change something outside. It is
    /// recorded here and not with the message, as most turns change nothing and should not pay for
    /// it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    pub at: UnixMillis,
}

impl Planned {
    /// Returns the start of a message that [`Planned::about`] reads. It is longer than the result,
    /// as blanks are left out of that.
    pub fn opening(message: &str) -> &str {
        &message[..message.floor_char_boundary(4 * ABOUT_BYTES)]
    }

    /// Returns what a step with these effects records of its turn's message.
    pub fn about(effects: &[Effect], message: &str) -> String {
        match effects.iter().any(Effect::changes) {
            true => one_line(message, ABOUT_BYTES),
            false => String::new(),
        }
    }

    /// Returns the call of a part as the guest made it, as far as that is recorded.
    pub(super) fn asked(&self, part: u32, effect: &Effect) -> String {
        match self.parts.get(part as usize) {
            Some(asked) => asked.clone(),
            // The text covers all calls together.
            None if self.effects.len() > 1 => effect.name().to_owned(),
            None => self.call.text.clone(),
        }
    }
}

/// See [`Record::Done`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepDone {
    pub turn: u64,
    pub step: u32,
    /// The index of the part in its step, from 0.
    pub part: u32,
    /// The tool that was called, if the part is a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The result. A part of several tool calls has the result of one call.
    pub result: Result<StepResult, StepError>,
    /// How long it took, in milliseconds: the guest's clock advances by this.
    pub took_ms: u64,
    pub at: UnixMillis,
}

impl StepDone {
    /// Returns the approximate size of its result, in bytes.
    pub fn bytes(&self) -> u64 {
        self.result.as_ref().map_or(0, StepResult::bytes)
    }
}

/// See [`Record::Ended`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnEnded {
    pub turn: u64,
    pub message: MessageId,
    pub end: TurnEnd,
    /// The number of parts of its steps that began and must not be executed twice. It is counted
    /// for a failed turn, as its message may be retried.
    #[serde(default)]
    pub effects: u32,
    /// What its model calls cost.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
    pub at: UnixMillis,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TurnEnd {
    /// It committed; a snapshot is stored with this record.
    Completed {
        /// The notice in front of its input, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notice: Option<Box<Notice>>,
        /// Recovery messages that it received from the inbox while it ran.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        further_notices: Vec<Notice>,
        /// The component that wrote the snapshot.
        component: Digest,
        /// The snapshot's schema.
        schema: u32,
        /// What it emitted.
        outputs: Vec<Output>,
        /// The changes that it made to the session's timers.
        timers: Vec<TimerOp>,
        /// Further messages that it received from the inbox while it ran.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        received: Vec<MessageId>,
        /// The generation of its `Begun`.
        generation: Generation,
        /// CRC-32 (IEEE) of the snapshot's data, to verify it when a replay makes it again.
        #[serde(default)]
        crc: Option<u32>,
    },
    /// It failed: the session's state stays as it was, the message is a dead letter.
    Failed(TurnFailure),
}

/// Something that a guest emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// A text, with the role of the assistant.
    Text(String),
    /// An event for programs.
    Event {
        /// The guest's name for it.
        name: String,
        /// The data, as one JSON value.
        data: String,
    },
}

/// See [`Record::Relabelled`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relabelled {
    /// The complete new set of labels.
    pub labels: BTreeMap<String, String>,
    pub at: UnixMillis,
}

/// See [`Record::Faulted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Faulted {
    pub fault: Fault,
    pub at: UnixMillis,
}

/// Why a session cannot run until an operator acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A code for programs.
    pub code: FaultCode,
    /// A text for humans.
    pub text: String,
    /// The component with which it happened; the session is tried again when the plugin has another
    /// one.
    pub component: Option<Digest>,
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// Its open turn killed the worker three times.
    KillsWorker,
    /// Its guest cannot be restored from its snapshot.
    Restore,
    /// Its plugin is not configured, or its component is missing or refused.
    Plugin,
}

/// See [`Record::Resumed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    pub at: UnixMillis,
}

/// See [`Record::Discarded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discarded {
    pub message: MessageId,
    pub failure: TurnFailure,
    pub at: UnixMillis,
}

/// See [`Record::Requeued`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requeued {
    /// The message, under its old id.
    pub message: Message,
    pub at: UnixMillis,
}

/// See [`Record::Closed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    pub at: UnixMillis,
}

/// See [`Record::Asked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub id: ApprovalId,
    pub turn: u64,
    /// The step, from 1. It is not planned before all its approvals are decided.
    pub step: u32,
    /// The index of the part in its step, from 0.
    pub part: u32,
    /// The whole step, to recognize it when the turn runs again.
    pub call: StepCallName,
    pub tool: String,
    pub arguments: String,
    pub at: UnixMillis,
    /// The time from which on the call counts as denied.
    pub expires_at: UnixMillis,
}

/// See [`Record::Decided`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    pub id: ApprovalId,
    /// The turn that asked for it.
    pub turn: u64,
    pub step: u32,
    pub tool: String,
    /// The approval's new status.
    pub status: ApprovalStatus,
    /// Who decided: an access token's name, `config` or `@local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, as stated in the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub at: UnixMillis,
}

/// See [`Record::Cut`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// The new timeline, which begins with this record's event.
    pub timeline: TimelineName,
    /// The timeline that ends; none if it is the first. Its last event is the one before this
    /// record's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<TimelineName>,
    pub cause: CutCause,
    /// What is missing, for humans.
    pub detail: String,
    pub at: UnixMillis,
}

/// See [`Record::Moved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The component that it runs on.
    pub component: Digest,
    /// The plugin's component, if that cannot carry the session on: it is tried again once the plugin
    /// has another one. None if `component` is the plugin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Digest>,
    /// Why it cannot, for humans.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The open turn, which failed on `refused`, if it goes on with `component`: from its journal, or from
    /// its beginning if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<u64>,
    pub at: UnixMillis,
}

/// A message that no turn consumed, with the reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// Why no turn consumed it.
    pub reason: TurnFailure,
    /// The turn that failed on it; none if it had none.
    pub turn: Option<u64>,
    /// The number of calls of that turn that happened, or may have, and cannot be repeated: a retry
    /// would make them again.
    #[serde(default)]
    pub effects: u32,
    /// When it became a dead letter.
    pub at: UnixMillis,
}
