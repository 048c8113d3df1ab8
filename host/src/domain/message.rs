//! Messages, and the notice that stands in front of a turn's input after a restart.

use serde::{Deserialize, Serialize};

use super::{Generation, MessageId, UnixMillis};

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A client of the session.
    User,
    /// The guest, as the assistant of the conversation.
    Assistant,
    /// The host: a recovery message.
    System,
    /// A timer that the session set for itself.
    Timer,
    /// An outside system.
    Webhook,
    /// A human's answer.
    Approval,
}

impl Role {
    /// Its name in events and in the guest's eyes.
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
    /// Unique in the session.
    pub id: MessageId,
    /// Who sent it.
    pub from: Role,
    /// The timer's, webhook's or approval's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it says.
    pub text: String,
    /// When it was accepted.
    pub at: UnixMillis,
    /// When a timer was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<UnixMillis>,
}

/// Why a worker was replaced. Of several restarts, the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The configuration changed.
    Config,
    /// A newer binary took over.
    Upgrade,
    /// The worker died, or the machine did.
    Crash,
    /// Somebody asked for it.
    Operator,
}

impl Cause {
    /// Its name in events, records and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Upgrade => "upgrade",
            Self::Crash => "crash",
            Self::Operator => "operator",
        }
    }
}

/// What became of the turn that a restart interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interruption {
    /// No turn was open.
    None,
    /// It runs again from the last snapshot.
    Rerun,
    /// It goes on from its journal.
    Resumed,
    /// It went on from its journal and completed before this could be told.
    Completed,
    /// It went on from its journal and failed before this could be told.
    Failed,
}

/// The recovery message, as a value: derived when a turn begins, never stored ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Why the daemon restarted.
    pub cause: Cause,
    /// The generation that the session woke up in.
    pub generation: Generation,
    /// What became of the interrupted turn.
    pub interruption: Interruption,
    /// Steps whose outcome nobody knows, as `kind name` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_steps: Vec<String>,
}

impl Notice {
    /// What the guest (and its model, and the client) reads.
    pub fn text(&self) -> String {
        let why = match self.cause {
            Cause::Config => "due to a configuration change",
            Cause::Upgrade => "due to an upgrade",
            Cause::Crash => "after a crash",
            Cause::Operator => "at an operator's request",
        };
        let mut text = format!(
            "[system] The daemon restarted {why}. \
             Your session state has been recovered from the last checkpoint."
        );
        match self.interruption {
            Interruption::None => {}
            Interruption::Rerun => text
                .push_str(" The turn that was interrupted is being run again from its beginning."),
            Interruption::Resumed => {
                text.push_str(" The turn that was interrupted goes on where it was.");
            }
            Interruption::Completed => {
                text.push_str(" The turn that was interrupted went on where it was, and completed.")
            }
            Interruption::Failed => {
                text.push_str(" The turn that was interrupted went on where it was, and failed.");
            }
        }
        if !self.unknown_steps.is_empty() {
            text.push_str(" Nobody knows whether these steps took effect: ");
            text.push_str(&self.unknown_steps.join(", "));
            text.push('.');
        }
        text
    }
}
