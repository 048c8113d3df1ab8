//! Messages, and the notice that stands in front of a turn's input after a restart, or after a turn
//! that was stopped.

use serde::{Deserialize, Serialize};

use super::{Generation, MessageId, StoppedTurns, UnixMillis};

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A client of the session.
    User,
    /// The guest, as the assistant of the conversation.
    Assistant,
    /// The host: a recovery message, or word of turns that were stopped.
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

/// Why a notice was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeCause {
    /// The daemon restarted: the configuration changed.
    Config,
    /// The daemon restarted: a newer binary took over.
    Upgrade,
    /// The daemon restarted: the worker died, or the machine did.
    Crash,
    /// The daemon restarted: somebody asked for it.
    Operator,
    /// It did not; turns were stopped after they had done something outside.
    Stopped,
}

impl From<Cause> for NoticeCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Config => Self::Config,
            Cause::Upgrade => Self::Upgrade,
            Cause::Crash => Self::Crash,
            Cause::Operator => Self::Operator,
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
    /// Turns that were stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StoppedNotice>,
}

/// What a notice tells of turns that were stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedNotice {
    /// They.
    pub turns: StoppedTurns,
    /// Whether the notice tells of a restart as well. If not, its cause says nothing: it stands
    /// there for older versions, which know of no notice without a restart.
    pub restarted: bool,
}

impl Notice {
    /// A notice of stopped turns alone, to a turn that begins in this generation.
    pub(super) fn of_stopped(turns: StoppedTurns, generation: Generation) -> Self {
        Self {
            // To an older version it is the notice of a restart that the turn knows of anyway.
            cause: Cause::Operator,
            generation,
            interruption: Interruption::None,
            unknown_steps: Vec::new(),
            stopped: Some(StoppedNotice {
                turns,
                restarted: false,
            }),
        }
    }

    /// Whether it tells of a restart.
    pub fn is_of_restart(&self) -> bool {
        self.stopped
            .as_ref()
            .is_none_or(|stopped| stopped.restarted)
    }

    /// Why it is given.
    pub fn notice_cause(&self) -> NoticeCause {
        match self.is_of_restart() {
            true => self.cause.into(),
            false => NoticeCause::Stopped,
        }
    }

    /// Its id among the session's messages: the same for the same notice.
    pub fn id(&self) -> String {
        let last = self.stopped.iter().flat_map(|s| &s.turns.turns).next_back();
        match last {
            Some(last) if !self.is_of_restart() => format!("s{}", last.turn),
            _ => format!("n{}", self.generation),
        }
    }

    /// What the guest (and its model, and the client) reads.
    pub fn text(&self) -> String {
        let stopped = self.stopped.as_ref().map(|stopped| stopped.turns.text());
        match (self.is_of_restart(), stopped) {
            (true, None) => self.restart_text(),
            (true, Some(stopped)) => format!("{}\n{stopped}", self.restart_text()),
            (false, stopped) => format!("[system] {}", stopped.unwrap_or_default()),
        }
    }

    fn restart_text(&self) -> String {
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
