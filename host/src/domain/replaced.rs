//! A session whose state was replaced: it was rewound to an earlier one, or it is a copy of another
//! session. What its guest is told of that.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::shorten::one_line;
use super::{SessionId, Timer, UnixMillis};

/// The number of replacements that a notice tells of: a session can be imported, forked and then rewound.
const TOLD_MAX: usize = 3;
/// The longest list of timers that a notice shows, in bytes.
const TIMERS_BYTES: usize = 400;

/// How a session's state was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// By that of an earlier point.
    Rewound,
    /// The session was made of another one of the same daemon.
    Forked,
    /// The session was made from an export.
    Imported,
}

/// A replacement of a session's state that no committed turn was notified of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReplaced {
    pub how: Replacement,
    /// The session that it was copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SessionId>,
    /// The turn after which the session was as it is now.
    pub turn: u64,
    /// The names of timers that were set, and are not any more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dropped: String,
    /// The names of timers of that time that have fired since, or would be due.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fired: String,
    pub at: UnixMillis,
}

/// Names the state of a session after a turn, for humans.
pub fn state_after(turn: u64) -> String {
    match turn {
        0 => "before its first turn".to_owned(),
        turn => format!("after turn {turn}"),
    }
}

impl StateReplaced {
    pub(super) fn timers(timers: &[Timer]) -> String {
        let names: Vec<&str> = timers.iter().map(|timer| timer.name.as_str()).collect();
        one_line(&names.join(", "), TIMERS_BYTES)
    }

    /// Adds this to what is to be told. A later rewind makes an earlier one void.
    pub(super) fn add_to(self, told: &mut Vec<Self>) {
        told.retain(|before| before.how != self.how);
        told.push(self);
        let excess = told.len().saturating_sub(TOLD_MAX);
        told.drain(..excess);
    }

    /// Returns the text that the guest, its model and the client read.
    pub(super) fn text(&self) -> String {
        let state = state_after(self.turn);
        let from = self.from.as_ref().map(SessionId::as_str);
        let from = from.unwrap_or_default();
        // Writing to a `String` cannot fail.
        let mut text = match self.how {
            Replacement::Rewound => format!(
                "This session was rewound: it is as it was {state}. What came after that is undone and \
                 not in this conversation."
            ),
            Replacement::Forked => format!(
                "This session is a fork: it begins as session {from} was {state}, and goes on apart \
                 from it."
            ),
            Replacement::Imported => format!(
                "This session was imported: it begins as session {from} was {state}, when that was \
                 exported."
            ),
        };
        if !self.dropped.is_empty() {
            let _ = write!(
                text,
                " These timers are not set any more: {}.",
                self.dropped
            );
        }
        if !self.fired.is_empty() {
            let fired = &self.fired;
            let _ = write!(
                text,
                " These timers have fired since, or would be due, and do not fire again: {fired}."
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_rewind_makes_an_earlier_one_void() {
        let replaced = |how, turn| StateReplaced {
            how,
            from: None,
            turn,
            dropped: "tick".into(),
            fired: String::new(),
            at: UnixMillis(turn),
        };
        let mut told = Vec::new();
        for (how, turn) in [
            (Replacement::Forked, 7),
            (Replacement::Rewound, 5),
            (Replacement::Rewound, 0),
        ] {
            replaced(how, turn).add_to(&mut told);
        }
        let turns: Vec<_> = told.iter().map(|replaced| replaced.turn).collect();
        assert_eq!(turns, [7, 0]);
        let text = told[1].text();
        assert!(text.contains("before its first turn"), "{text}");
        assert!(text.contains("not set any more: tick."), "{text}");
    }
}
