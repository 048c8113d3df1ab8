//! Turns that were stopped after effects outside of the session: cancelled, over a limit, trapped
//! or failed, or undone by a rewind. Such a turn loses its state, but its effects remain. So a notice
//! describes them to the following turns, until a turn that received it commits. The notice is derived
//! from the log, like the recovery message, and stands in the same place.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::calls::CALLS_MAX;
use super::shorten::one_line;
use super::{MadeCall, MadeCalls, TurnFailure};

/// The maximum number of stopped turns that a notice describes.
const TURNS_MAX: usize = 6;
/// The longest reason that a notice shows, in bytes.
const REASON_BYTES: usize = 240;

/// A turn that was stopped after calls of it took effect, or may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedTurn {
    pub turn: u64,
    /// Why; empty for one that has committed, as long as it is not undone.
    pub reason: String,
    /// The text of the turn's message, shortened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The calls that it made.
    pub calls: MadeCalls,
}

/// The turns that were stopped since the last commit of a turn that knew of them, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedTurns {
    /// The latest of them, at most `TURNS_MAX`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<StoppedTurn>,
    /// How many calls the turns before those made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub earlier_calls: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl StoppedTurn {
    /// Returns turn number `turn` as stopped by `failure`; none if it made no call with an effect.
    pub(super) fn of(
        turn: u64,
        about: &str,
        calls: &MadeCalls,
        failure: &TurnFailure,
    ) -> Option<Self> {
        let mut calls = calls.clone();
        calls.give_up();
        (!calls.is_none()).then(|| Self {
            turn,
            reason: one_line(&failure.text, REASON_BYTES),
            about: about.to_owned(),
            calls,
        })
    }

    /// Returns turn number `turn` as one that commits, in case it is undone; none if it made no call with
    /// an effect.
    pub(super) fn committed(turn: u64, about: &str, calls: &MadeCalls) -> Option<Self> {
        let mut calls = calls.clone();
        calls.give_up();
        (!calls.is_none()).then(|| Self {
            turn,
            reason: String::new(),
            about: about.to_owned(),
            calls,
        })
    }

    fn describe(&self, text: &mut String) {
        let mut line = |what: std::fmt::Arguments<'_>| {
            // Writing to a `String` cannot fail.
            let _ = text.write_fmt(what);
        };
        line(format_args!("\nTurn {}", self.turn));
        if !self.about.is_empty() {
            line(format_args!(", on the message \"{}\"", self.about));
        }
        line(format_args!(": {}", self.reason));
        if !self.reason.ends_with(['.', '!', '?', '…']) {
            line(format_args!("."));
        }
        let MadeCalls { shown, more } = &self.calls;
        let of = |known: bool| {
            let calls = shown.iter();
            calls.filter(move |made: &&MadeCall| made.result.is_some() == known)
        };
        // Calls with an unknown outcome come first, as a guest may truncate a long text.
        if of(false).next().is_some() {
            line(format_args!(
                "\nNobody knows whether these calls of it took effect; find out before making one \
                 again:"
            ));
            for made in of(false) {
                line(format_args!("\n- {}", made.call));
            }
        }
        if of(true).next().is_some() {
            line(format_args!(
                "\nThese calls of it took effect; do not make them again unless that is wanted:"
            ));
            for made in of(true) {
                let result = made.result.as_deref().unwrap_or_default();
                line(format_args!("\n- {} -> {result}", made.call));
            }
        }
        if *more > 0 {
            line(format_args!(
                "\nIt made {more} more call(s) that took effect, or may have, and are not shown."
            ));
        }
    }
}

impl StoppedTurns {
    /// Whether no turn was stopped.
    pub fn is_none(&self) -> bool {
        self.turns.is_empty() && self.earlier_calls == 0
    }

    /// Adds a stopped turn, and leaves out the oldest turns and calls beyond the bounds.
    pub(super) fn add(&mut self, stopped: StoppedTurn) {
        self.turns.push(stopped);
        while self.turns.len() > TURNS_MAX {
            let calls = self.turns.remove(0).calls.count();
            self.earlier_calls = self.earlier_calls.saturating_add(calls);
        }
        // All turns together may show as many calls as one turn alone. The oldest calls with a
        // known result are left out first, those with an unknown outcome last.
        let shown = |turns: &[StoppedTurn]| -> usize {
            turns.iter().map(|stopped| stopped.calls.shown.len()).sum()
        };
        while shown(&self.turns) > CALLS_MAX {
            let mut leave_out = |known| {
                let mut turns = self.turns.iter_mut();
                turns.any(|stopped| stopped.calls.leave_out(known))
            };
            if !leave_out(true) && !leave_out(false) {
                break;
            }
        }
    }

    /// Adds the turns of a later time.
    pub(super) fn add_all(&mut self, later: Self) {
        self.earlier_calls = self.earlier_calls.saturating_add(later.earlier_calls);
        for stopped in later.turns {
            self.add(stopped);
        }
    }

    /// Returns the text that the guest, its model and the client read; `undone` if some of the turns may
    /// have committed.
    pub(super) fn text(&self, undone: bool) -> String {
        let mut text = match undone {
            false => {
                "Work of this session was stopped before it was done. Nothing of it stands in this \
                 conversation, but what it did outside is done."
            }
            true => {
                "Turns were undone, stopped before they were done, or came later. Nothing of them stands \
                 in this conversation, but what they did outside is done."
            }
        }
        .to_owned();
        if self.earlier_calls > 0 {
            // Writing to a `String` cannot fail.
            let _ = write!(
                text,
                "\nTurns before turn {} made {} call(s) that took effect, or may have, and are not \
                 shown.",
                self.turns.first().map_or(0, |first| first.turn),
                self.earlier_calls
            );
        }
        for stopped in &self.turns {
            stopped.describe(&mut text);
        }
        text
    }
}
