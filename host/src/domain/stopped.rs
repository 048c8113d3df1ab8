//! Turns that were stopped after they had done something outside: cancelled, over a limit, trapped,
//! failed. Their state is gone and what they did is not, so the next turn is told of it, until one
//! that was told commits. Derived from the log, like the recovery message, whose place it takes.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::calls::CALLS_MAX;
use super::steps::one_line;
use super::{MadeCall, MadeCalls, OpenTurn, TurnFailure};

/// The most stopped turns that are told of.
const TURNS_MAX: usize = 6;
/// The longest reason that is told, in bytes.
const REASON_BYTES: usize = 240;

/// A turn that was stopped after calls of it took effect, or may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedTurn {
    /// Its number.
    pub turn: u64,
    /// Why it was stopped.
    pub reason: String,
    /// What its message says, shortened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// What it did.
    pub calls: MadeCalls,
}

/// The turns that were stopped since a turn committed which had been told, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedTurns {
    /// The latest of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<StoppedTurn>,
    /// How many calls those before them made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub earlier_calls: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl StoppedTurn {
    /// The open turn, should it end by this failure; none if it has done nothing.
    pub(super) fn of(open: &OpenTurn, failure: &TurnFailure) -> Option<Self> {
        let mut calls = open.calls.clone();
        calls.give_up();
        (!calls.is_none()).then(|| Self {
            turn: open.begun.turn,
            reason: one_line(&failure.text, REASON_BYTES),
            about: open.about.clone(),
            calls,
        })
    }

    fn describe(&self, text: &mut String) {
        let mut line = |what: std::fmt::Arguments<'_>| {
            // Into memory it cannot fail.
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
        // What nobody knows comes first: a guest may cut a long text.
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
    /// Whether there is nothing to tell.
    pub fn is_none(&self) -> bool {
        self.turns.is_empty() && self.earlier_calls == 0
    }

    /// One more was stopped.
    pub(super) fn add(&mut self, stopped: StoppedTurn) {
        self.turns.push(stopped);
        while self.turns.len() > TURNS_MAX {
            let calls = self.turns.remove(0).calls.count();
            self.earlier_calls = self.earlier_calls.saturating_add(calls);
        }
        // Together they have as many calls as one alone may have: the latest, and what nobody knows
        // of before all.
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

    /// What the guest (and its model, and the client) reads.
    pub(super) fn text(&self) -> String {
        let mut text = "Work of this session was stopped before it was done. Nothing of it stands \
                        in this conversation, but what it did outside is done."
            .to_owned();
        if self.earlier_calls > 0 {
            // Into memory it cannot fail.
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
