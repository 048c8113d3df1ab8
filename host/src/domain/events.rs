//! What clients see of a session: durable events, numbered by cursor from 1 without gaps.

use serde::{Deserialize, Serialize};

use super::{
    ApprovalId, ApprovalStatus, Generation, MessageId, ModelUsage, NoticeCause, Role, UnixMillis,
};

/// One durable event. As JSON a flat object `{cursor, turn, at, kind, ...}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// Its number in the session, from 1.
    pub cursor: u64,
    /// The turn that it belongs to; none for what happens outside of turns.
    pub turn: Option<u64>,
    /// When it was recorded.
    pub at: UnixMillis,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What an event tells, by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    /// Somebody said something.
    Message {
        /// The message's id.
        message: MessageId,
        /// Who.
        from: Role,
        /// The timer's, webhook's or approval's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What.
        text: String,
        /// When a timer was due: it is late by what the event's time lies behind that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<UnixMillis>,
    },
    /// A turn began or ended.
    Turn {
        /// Which of them.
        status: TurnStatus,
        /// The message that the turn consumes.
        message: MessageId,
        /// Further messages that it took from the inbox while it ran.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        received: Vec<MessageId>,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What its model calls cost, where it has ended.
        #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
        usage: ModelUsage,
    },
    /// The recovery message that this turn received, or word of turns that were stopped.
    Notice {
        /// Why the daemon restarted; `stopped` where it did not, and turns were stopped that had
        /// done something outside. Where both is so, the text tells both.
        cause: NoticeCause,
        /// The generation that the session woke up in; for `stopped`, the one that it is in.
        generation: Generation,
        /// As the guest read it.
        text: String,
    },
    /// A tool was called.
    Tool {
        /// Its name.
        name: String,
        /// The step of the turn that calls it, from 1.
        step: u32,
        /// What became of the call.
        status: ToolStatus,
    },
    /// A tool call waits for a human, or waits no longer.
    Approval {
        /// Its name, for `/v1/approvals`.
        approval: ApprovalId,
        /// The tool.
        name: String,
        /// The step of the turn that calls it, from 1.
        step: u32,
        /// What became of it.
        status: ApprovalStatus,
        /// The call's arguments, where it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<String>,
        /// From when on it counts as denied, where it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<UnixMillis>,
        /// Who decided, as they said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why, as they said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// What a guest emitted for programs.
    Custom {
        /// The guest's name for it.
        name: String,
        /// The guest's JSON.
        data: serde_json::Value,
    },
}

/// The custom event by which a plugin says that its answer was cut at the model's token limit.
pub const TRUNCATED: &str = "truncated";

impl EventBody {
    /// The names of all kinds.
    pub const KINDS: [&str; 6] = ["message", "turn", "notice", "tool", "approval", "custom"];

    /// The name of its kind, as in the JSON and in a stream's `event:` line.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::Turn { .. } => "turn",
            Self::Notice { .. } => "notice",
            Self::Tool { .. } => "tool",
            Self::Approval { .. } => "approval",
            Self::Custom { .. } => "custom",
        }
    }
}

/// A turn's life, as its events tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// It began; told once, whatever the attempts.
    Started,
    /// It committed.
    Completed,
    /// It failed; its message is a dead letter.
    Failed,
}

/// A tool call's life, as its events tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It is about to be made.
    Started,
    /// The tool answered.
    Done,
    /// The tool answered with an error, or gave no answer and did nothing.
    Failed,
    /// Nobody knows whether it happened.
    Unknown,
}

impl ToolStatus {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Text of a model's answer as it arrives. Not durable: no cursor, never shown again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Delta {
    /// What was added.
    pub text: String,
    /// The turn that asked.
    pub turn: u64,
    /// Its attempt, from 1; a new attempt voids what an older one showed.
    pub attempt: u32,
    /// The step within the turn, from 1.
    pub step: u32,
    /// How often a model was asked within the step, from 1; an answer that begins anew voids what
    /// an older one showed.
    pub request: u32,
}
