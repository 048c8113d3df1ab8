//! Messages of a session's inbox, and who sends them.

use serde::{Deserialize, Serialize};

use super::{MessageId, UnixMillis};

/// The sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A client of the session.
    User,
    /// The guest, as the assistant of the conversation.
    Assistant,
    /// The host: a recovery message, or a notice about stopped turns.
    System,
    /// A timer that the session set for itself.
    Timer,
    /// A system outside of the daemon.
    Webhook,
    /// A human's decision.
    Approval,
}

impl Role {
    /// The name of the role in events and for the guest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Timer => "timer",
            Self::Webhook => "webhook",
            Self::Approval => "approval",
        }
    }
}

/// One message of a session's inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Message {
    /// Unique within the session.
    pub id: MessageId,
    /// Who sent it.
    pub from: Role,
    /// The name of the timer, webhook or approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The text of the message.
    pub text: String,
    /// When the daemon accepted it.
    pub at: UnixMillis,
    /// When the timer was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<UnixMillis>,
}
