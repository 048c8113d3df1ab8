//! Events: what clients see of a session. They are durable, and numbered by cursor from 1 without
//! gaps.

use serde::{Deserialize, Serialize};

use super::{
    ApprovalId, ApprovalStatus, CutCause, EventId, Generation, MessageId, ModelUsage, NoticeCause,
    Replacement, Role, SessionId, TimelineName, UnixMillis,
};

/// One durable event. In JSON it is a flat object `{cursor, timeline?, turn, at, kind, ...}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// Its number in the session, from 1.
    pub cursor: u64,
    /// The timeline that the cursor is of; none if it is the session's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineName>,
    /// The turn that it belongs to; none for events outside of turns.
    pub turn: Option<u64>,
    /// When it was recorded.
    pub at: UnixMillis,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

impl Event {
    /// Returns the size of its texts in bytes: what it takes beyond some hundred bytes.
    pub fn text_bytes(&self) -> usize {
        match &self.body {
            EventBody::Message { text, .. }
            | EventBody::Notice { text, .. }
            | EventBody::Timeline { text, .. }
            | EventBody::Rewound { text, .. }
            | EventBody::Origin { text, .. } => text.len(),
            EventBody::Approval { arguments, .. } => arguments.as_ref().map_or(0, String::len),
            EventBody::Custom { data, .. } => data.to_string().len(),
            EventBody::Tool { .. } | EventBody::Turn { .. } => 0,
        }
    }

    /// Returns its id, which is the position after it.
    pub fn id(&self) -> EventId {
        EventId {
            timeline: self.timeline.clone(),
            cursor: self.cursor,
        }
    }
}

/// The content of an event, by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    /// A message was received, or the guest emitted a text.
    Message {
        /// The message's id.
        message: MessageId,
        /// Its sender.
        from: Role,
        /// The timer's, webhook's or approval's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Its text.
        text: String,
        /// When the timer was due; the message is late by the difference between the event's time
        /// and this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<UnixMillis>,
        /// The authenticated client that sent it: an access token's name, `config` for the holder of the
        /// token that the configuration names, or `@local` for one at the local socket.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
    },
    /// A turn began or ended.
    Turn {
        /// Whether it began, completed or failed.
        status: TurnStatus,
        /// The message that the turn consumes.
        message: MessageId,
        /// Further messages that it received while it ran.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        received: Vec<MessageId>,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What its model calls cost, if it has ended.
        #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
        usage: ModelUsage,
    },
    /// The recovery message that this turn received, or a notice about stopped turns, a cut of the
    /// session's history or a state that was replaced.
    Notice {
        /// Why the daemon restarted; `stopped` if it did not restart, but turns were stopped after
        /// effects outside of the session; `history_cut` if the session's history was cut. If
        /// several of these happened, the text reports them all. `rewound`, `forked` and `imported` if
        /// the session's state was replaced so.
        cause: NoticeCause,
        /// The generation in which the session continues; for `stopped`, the current one.
        generation: Generation,
        /// The text, as the guest read it.
        text: String,
    },
    /// A tool was called.
    Tool {
        /// Its name.
        name: String,
        /// The step of the turn that calls it, from 1.
        step: u32,
        /// How far the call has come.
        status: ToolStatus,
    },
    /// A tool call waits for a human's decision, or no longer waits.
    Approval {
        /// The approval's id, for `/v1/approvals`.
        approval: ApprovalId,
        /// The tool.
        name: String,
        /// The step of the turn that calls it, from 1.
        step: u32,
        /// The approval's status.
        status: ApprovalStatus,
        /// The call's arguments; only when it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<String>,
        /// The time from which on the call counts as denied; only when it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<UnixMillis>,
        /// Who decided: an access token's name, `config` or `@local`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why, as stated in the decision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The session's history was cut, and a new timeline begins with this event. What came after
    /// the last event of the timeline before is lost.
    Timeline {
        /// The timeline before, and what of it still counts.
        previous: PreviousTimeline,
        /// Why the history was cut.
        cause: CutCause,
        /// What happened and what is missing, for humans.
        text: String,
    },
    /// The session's state was replaced by that of an earlier point. Its events stay as they are.
    Rewound {
        /// The cursor of the point.
        to_cursor: u64,
        /// The turn after which the session was so; 0 before its first one.
        to_turn: u64,
        /// The names of timers that were set since, and are not any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dropped_timers: Vec<String>,
        /// The names of timers of that time that have fired since, and do not again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fired_timers: Vec<String>,
        /// What happened, for humans.
        text: String,
        /// Who asked for it: an access token's name, `config` or `@local`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The session is a copy: all events before are those of the session that was copied.
    Origin {
        /// A fork, or an import.
        how: Replacement,
        /// The session that was copied.
        session: SessionId,
        /// The timeline before, where a new one begins with this event: for an import.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<PreviousTimeline>,
        /// What happened, for humans.
        text: String,
        /// Who asked for it: an access token's name, `config` or `@local`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An event that the guest emitted for programs.
    Custom {
        /// The guest's name for it.
        name: String,
        /// The guest's JSON.
        data: serde_json::Value,
    },
}

/// The timeline that ended when a session's history was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PreviousTimeline {
    /// Its name; none if it was the session's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineName>,
    /// The cursor of its last event that still counts.
    pub last: u64,
}

/// The custom event by which a plugin reports that its answer was cut at the model's token limit.
pub const TRUNCATED: &str = "truncated";

impl EventBody {
    /// The names of all kinds.
    pub const KINDS: [&str; 9] = [
        "message", "turn", "notice", "tool", "approval", "timeline", "rewound", "origin", "custom",
    ];

    /// Returns the name of its kind, as in the JSON and in a stream's `event:` line.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::Turn { .. } => "turn",
            Self::Notice { .. } => "notice",
            Self::Tool { .. } => "tool",
            Self::Approval { .. } => "approval",
            Self::Timeline { .. } => "timeline",
            Self::Rewound { .. } => "rewound",
            Self::Origin { .. } => "origin",
            Self::Custom { .. } => "custom",
        }
    }
}

/// The state of a turn, as its events report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// It began; reported once, however many attempts there are.
    Started,
    /// It committed.
    Completed,
    /// It failed; its message is a dead letter.
    Failed,
}

/// The state of a tool call, as its events report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It is about to be made.
    Started,
    /// The tool answered.
    Done,
    /// The tool answered with an error, or gave no answer and did nothing.
    Failed,
    /// It is unknown whether the call took effect.
    Unknown,
}

impl ToolStatus {
    /// The name of the status in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A piece of a model's answer, as it arrives. It is not durable: it has no cursor and is never
/// sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Delta {
    /// The text that was added.
    pub text: String,
    /// The turn that asked the model.
    pub turn: u64,
    /// The turn's attempt, from 1; a new attempt voids the deltas of older ones.
    pub attempt: u32,
    /// The step within the turn, from 1.
    pub step: u32,
    /// The number of the model request within the step, from 1; an answer that begins anew voids
    /// the deltas of older ones.
    pub request: u32,
}
