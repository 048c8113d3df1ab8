//! The notice that precedes a turn's input after a restart or after a stopped turn, and its text.

use serde::{Deserialize, Serialize};

use super::{Cause, Generation, StoppedTurns};

/// Why a notice was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeCause {
    /// The daemon restarted: the configuration changed.
    Config,
    /// The daemon restarted: a newer binary took over.
    Upgrade,
    /// The daemon restarted: the worker died, or the machine did.
    Crash,
    /// The daemon restarted: an operator asked for it.
    Operator,
    /// The daemon did not restart; turns were stopped after effects outside of the session.
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
    /// The turn runs again from the last snapshot.
    Rerun,
    /// The turn continues from its journal.
    Resumed,
    /// The turn continued from its journal and completed before the notice could be delivered.
    Completed,
    /// The turn continued from its journal and failed before the notice could be delivered.
    Failed,
}

/// The recovery message, as a value. It is derived when a turn begins, never stored before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Why the daemon restarted.
    pub cause: Cause,
    /// The generation in which the session continues.
    pub generation: Generation,
    /// What became of the interrupted turn.
    pub interruption: Interruption,
    /// Steps with an unknown outcome, each as `kind name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_steps: Vec<String>,
    /// Turns that were stopped, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StoppedNotice>,
}

/// The part of a notice that is about stopped turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedNotice {
    pub turns: StoppedTurns,
    /// Whether the notice is about a restart as well. If not, [`Notice::cause`] means nothing: it
    /// is set only for older versions, which know no notice without a restart.
    pub restarted: bool,
}

impl Notice {
    /// Returns a notice about stopped turns alone, for a turn that begins in this generation.
    pub(super) fn of_stopped(turns: StoppedTurns, generation: Generation) -> Self {
        Self {
            // An older version reads this as a notice about a restart of which the turn knows
            // anyway.
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

    /// Whether the notice is about a restart.
    pub fn is_of_restart(&self) -> bool {
        self.stopped
            .as_ref()
            .is_none_or(|stopped| stopped.restarted)
    }

    pub fn notice_cause(&self) -> NoticeCause {
        match self.is_of_restart() {
            true => self.cause.into(),
            false => NoticeCause::Stopped,
        }
    }

    /// Returns the notice's id among the session's messages: equal notices have equal ids.
    pub fn id(&self) -> String {
        let last = self.stopped.iter().flat_map(|s| &s.turns.turns).next_back();
        match last {
            Some(last) if !self.is_of_restart() => format!("s{}", last.turn),
            _ => format!("n{}", self.generation),
        }
    }

    /// Returns the text that the guest, its model and the client read.
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
