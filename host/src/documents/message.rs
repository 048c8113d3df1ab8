//! The answer to a message.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Event, MessageId, TimelineName, TurnStatus};

/// A message that was accepted, and the outcome of its turn if that is known.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AcceptedMessage {
    /// Its id.
    pub message: MessageId,
    /// The cursor from which to follow the session's events.
    #[serde(default)]
    #[schema(required = true)]
    pub cursor: u64,
    /// The timeline of that cursor; none if the session's history was never cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineName>,
    /// Whether it had been accepted before, under the same key.
    #[serde(default)]
    #[schema(required = true)]
    pub duplicate: bool,
    /// The number of its turn; none also if it was cancelled before it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<u64>,
    /// How the turn ended: `completed` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<TurnStatus>,
    /// Why the turn failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the turn emitted: its assistant messages and custom events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Vec<Event>>,
}
