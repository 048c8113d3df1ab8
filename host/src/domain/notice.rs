//! The notice that precedes a turn's input after a restart or after a stopped turn, and its text.

use serde::{Deserialize, Serialize};

use super::{
    Cause, Generation, HistoryCut, Replacement, StateReplaced, StoppedTurns, TimelineName,
};

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
    /// The session was rewound to an earlier state.
    Rewound,
    /// The session was made as a copy of another one.
    Forked,
    /// The session was made from an export of another one.
    Imported,
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

impl From<Replacement> for NoticeCause {
    fn from(how: Replacement) -> Self {
        match how {
            Replacement::Rewound => Self::Rewound,
            Replacement::Forked => Self::Forked,
            Replacement::Imported => Self::Imported,
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
    /// That the session's state was replaced, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Box<ReplacedNotice>>,
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

/// The part of a notice that is about a state that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedNotice {
    /// Oldest first, at least one.
    pub replaced: Vec<StateReplaced>,
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
            replaced: None,
            timeline: None,
        }
    }

    /// Whether the notice is about a restart.
    pub fn is_of_restart(&self) -> bool {
        let stopped = self.stopped.as_ref().is_none_or(|part| part.restarted);
        let cut = self.cut.as_ref().is_none_or(|part| part.restarted);
        let replaced = self.replaced.as_ref().is_none_or(|part| part.restarted);
        stopped && cut && replaced
    }

    /// Returns the cause of a recovery message for guests, which know only restarts: a cut of the
    /// history and a state that was replaced are an operator's doing. None if the notice is about
    /// stopped turns alone.
    pub fn recovery_cause(&self) -> Option<Cause> {
        match (&self.cut, &self.replaced) {
            (None, None) => self.is_of_restart().then_some(self.cause),
            _ => Some(Cause::Operator),
        }
    }

    pub fn notice_cause(&self) -> NoticeCause {
        match (&self.cut, self.replacement()) {
            (Some(_), _) => NoticeCause::HistoryCut,
            (None, Some(replaced)) => replaced.how.into(),
            (None, None) if self.is_of_restart() => self.cause.into(),
            (None, None) => NoticeCause::Stopped,
        }
    }

    /// Returns the last replacement of the session's state that it is about.
    fn replacement(&self) -> Option<&StateReplaced> {
        self.replaced.as_ref()?.replaced.last()
    }

    /// Returns the notice's id among the session's messages: equal notices have equal ids.
    pub fn id(&self) -> String {
        let last = self.stopped.iter().flat_map(|s| &s.turns.turns).next_back();
        let id = match (self.replacement(), last) {
            (Some(replaced), _) => format!("w{}", replaced.at.0),
            (None, Some(last)) if self.recovery_cause().is_none() => format!("s{}", last.turn),
            (None, _) => format!("n{}", self.generation),
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
        let replaced = self.replaced.iter().flat_map(|part| &part.replaced);
        let replaced = replaced.map(StateReplaced::text);
        let undone = self.replaced.is_some();
        let stopped = self.stopped.as_ref().map(|part| part.turns.text(undone));
        let parts = cut
            .into_iter()
            .chain(restart)
            .chain(replaced)
            .chain(stopped);
        let parts: Vec<String> = parts.collect();
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
