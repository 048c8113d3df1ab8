//! A summary of the calls with which an open turn has changed something outside of its session. If
//! the turn is stopped, the next turn receives this summary ([`StoppedTurn`]).
//!
//! [`StoppedTurn`]: super::StoppedTurn

use serde::{Deserialize, Serialize};

/// The maximum number of calls that a notice shows.
pub(super) const CALLS_MAX: usize = 12;

/// A call that took effect, or may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeCall {
    /// The tool and its arguments, or the HTTP request; on one line and shortened.
    pub call: String,
    /// Its result, likewise. None if it is unknown whether the call took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The step and part of the call, while its result is still outstanding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) in_flight: Option<(u32, u32)>,
    /// Whether repeating the call settles what the first one did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) repeatable: bool,
}

/// The calls of one turn, in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeCalls {
    /// The latest calls, and all calls in flight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<MadeCall>,
    /// The number of further calls, which are not shown.
    #[serde(default)]
    pub more: u32,
}

impl MadeCalls {
    /// Whether the turn made no such call.
    pub fn is_none(&self) -> bool {
        self.shown.is_empty() && self.more == 0
    }

    pub(super) fn count(&self) -> u32 {
        let shown = u32::try_from(self.shown.len()).unwrap_or(u32::MAX);
        self.more.saturating_add(shown)
    }

    /// The turn's attempt is abandoned: calls in flight will get no result.
    pub(super) fn give_up(&mut self) {
        for made in &mut self.shown {
            made.in_flight = None;
        }
        self.bound(CALLS_MAX);
    }

    /// Leaves out the oldest calls until at most `most` are shown. Calls in flight are always kept,
    /// and calls with an unknown outcome are left out last.
    pub(super) fn bound(&mut self, most: usize) {
        while self.shown.len() > most && (self.leave_out(true) || self.leave_out(false)) {}
    }

    /// Leaves out the oldest call that is not in flight and whose result is known, or unknown, as
    /// `known` says. Returns whether there was one.
    pub(super) fn leave_out(&mut self, known: bool) -> bool {
        let oldest = self
            .shown
            .iter()
            .position(|made| made.in_flight.is_none() && made.result.is_some() == known);
        if let Some(at) = oldest {
            self.shown.remove(at);
            self.more = self.more.saturating_add(1);
        }
        oldest.is_some()
    }
}

impl MadeCall {
    pub(super) fn is_given_up(&self) -> bool {
        self.repeatable && self.result.is_none() && self.in_flight.is_none()
    }
}
