//! The notice that precedes a turn's input after a restart or after a stopped turn, and its text.

use serde::{Deserialize, Serialize};

use super::{Cause, Generation, HistoryCut, StoppedTurns, TimelineName};

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
    /// The session's history was cut: the end of it was lost.
    HistoryCut,
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

/// The recovery message, as a value. It is derived when a turn begins, never stored before. Its rare
/// parts are boxed, since each turn's records have room for a notice.
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
    pub stopped: Option<Box<StoppedNotice>>,
    /// The cut of the session's history, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Box<CutNotice>>,
    /// The session's timeline; none if it is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineName>,
}

/// The part of a notice that is about a cut of the session's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutNotice {
    pub cut: HistoryCut,
    /// Whether the notice is about a restart as well, as in [`StoppedNotice::restarted`].
    pub restarted: bool,
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
    /// Returns a notice about nothing yet, for a turn that begins in this generation.
    pub(super) fn without_restart(generation: Generation) -> Self {
        Self {
            // An older version reads this as a notice about a restart of which the turn knows
            // anyway.
            cause: Cause::Operator,
            generation,
            interruption: Interruption::None,
            unknown_steps: Vec::new(),
            stopped: None,
            cut: None,
            timeline: None,
        }
    }

    /// Whether the notice is about a restart.
    pub fn is_of_restart(&self) -> bool {
        let stopped = self.stopped.as_ref().is_none_or(|part| part.restarted);
        stopped && self.cut.as_ref().is_none_or(|part| part.restarted)
    }

    /// Returns the cause of a recovery message for guests, which know only restarts: a cut of the
    /// history is an operator's doing. None if the notice is about stopped turns alone.
    pub fn recovery_cause(&self) -> Option<Cause> {
        match &self.cut {
            Some(_) => Some(Cause::Operator),
            None => self.is_of_restart().then_some(self.cause),
        }
    }

    pub fn notice_cause(&self) -> NoticeCause {
        match (&self.cut, self.is_of_restart()) {
            (Some(_), _) => NoticeCause::HistoryCut,
            (None, true) => self.cause.into(),
            (None, false) => NoticeCause::Stopped,
        }
    }

    /// Returns the notice's id among the session's messages: equal notices have equal ids.
    pub fn id(&self) -> String {
        let last = self.stopped.iter().flat_map(|s| &s.turns.turns).next_back();
        let id = match last {
            Some(last) if self.recovery_cause().is_none() => format!("s{}", last.turn),
            _ => format!("n{}", self.generation),
        };
        match &self.timeline {
            None => id,
            Some(timeline) => format!("{timeline}.{id}"),
        }
    }

    /// Returns the text that the guest, its model and the client read.
    pub fn text(&self) -> String {
        let cut = self.cut.as_ref().map(|part| part.cut.text());
        let restart = self.is_of_restart().then(|| self.restart_text());
        let stopped = self.stopped.as_ref().map(|stopped| stopped.turns.text());
        let parts: Vec<String> = cut.into_iter().chain(restart).chain(stopped).collect();
        format!("[system] {}", parts.join("\n"))
    }

    fn restart_text(&self) -> String {
        let why = match self.cause {
            Cause::Config => "due to a configuration change",
            Cause::Upgrade => "due to an upgrade",
            Cause::Crash => "after a crash",
            Cause::Operator => "at an operator's request",
        };
        let mut text = format!(
            "The daemon restarted {why}. Your session state has been recovered \
             from the last checkpoint."
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
