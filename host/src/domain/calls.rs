//! A summary of the calls with which an open turn has changed something outside of its session. If
//! the turn is stopped, the next turn receives this summary ([`StoppedTurn`]).
//!
//! ```text
//!   Planned ----> in flight ---- Done ----> settled, with its result
//!                     |  |                  or forgotten: it certainly did not happen
//!                     |  +---- Done, unknown outcome ----> unknown
//!                     +---- the attempt is given up, or the turn ends ----> unknown
//! ```
//!
//! [`StoppedTurn`]: super::StoppedTurn

use serde::{Deserialize, Serialize};

use super::report::shown;
use super::steps::one_line;
use super::{Effect, Planned, StepDone, StepError, StepResult};

/// The maximum number of calls that a notice shows.
pub(super) const CALLS_MAX: usize = 12;
/// The longest call that it shows, with its arguments, in bytes.
const CALL_BYTES: usize = 200;
/// The longest result that it shows, in bytes.
const RESULT_BYTES: usize = 160;

/// A call that took effect, or may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeCall {
    /// The tool and its arguments, or the HTTP request; on one line and shortened.
    pub call: String,
    /// Its result, likewise. None if it is unknown whether the call took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The step and part of the call, while its result is still outstanding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_flight: Option<(u32, u32)>,
    /// Whether repeating the call settles what the first one did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    repeatable: bool,
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

impl Effect {
    /// Whether the effect may change something outside of the session.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Local | Self::Model { .. } => false,
            Self::Tool { read_only, .. } => !read_only,
            Self::Http { name, .. } => {
                let method = name.split(' ').next().unwrap_or_default();
                !["GET", "HEAD", "OPTIONS"].contains(&method)
            }
        }
    }
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

    /// Adds the calls of a step that begins.
    pub(super) fn plan(&mut self, planned: &Planned) {
        for (part, effect) in (0_u32..).zip(&planned.effects) {
            if !effect.changes() {
                continue;
            }
            let made = MadeCall {
                call: one_line(&planned.asked(part, effect), CALL_BYTES),
                result: None,
                in_flight: Some((planned.step, part)),
                repeatable: effect.repeatable(),
            };
            // A repeatable call of an abandoned attempt is superseded by the same call of this
            // attempt.
            self.shown
                .retain(|before| !(before.is_given_up() && before.call == made.call));
            self.shown.push(made);
        }
        self.bound(CALLS_MAX);
    }

    /// Takes the result of a part of a step.
    pub(super) fn done(&mut self, done: &StepDone) {
        let place = Some((done.step, done.part));
        let Some(at) = self.shown.iter().position(|made| made.in_flight == place) else {
            return;
        };
        let made = &mut self.shown[at];
        match &done.result {
            // A repeatable call may have been sent before, even if it is unavailable now: keep it.
            Err(StepError::Unavailable(_)) if !made.repeatable => drop(self.shown.remove(at)),
            Err(StepError::Denied(_)) => drop(self.shown.remove(at)),
            Err(
                StepError::Unavailable(_) | StepError::Timeout(_) | StepError::UnknownOutcome(_),
            ) => made.in_flight = None,
            result => {
                made.in_flight = None;
                made.result = Some(one_line(&describe_result(result), RESULT_BYTES));
            }
        }
        self.bound(CALLS_MAX);
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
    fn bound(&mut self, most: usize) {
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
    fn is_given_up(&self) -> bool {
        self.repeatable && self.result.is_none() && self.in_flight.is_none()
    }
}

/// Returns a short description of a result.
fn describe_result(result: &Result<StepResult, StepError>) -> String {
    let text = shown(result);
    match result {
        Ok(StepResult::ToolCall(outcome)) if outcome.is_error => format!("error: {text}"),
        Ok(StepResult::Http(response)) => {
            let body = &response.body[..response.body.len().min(RESULT_BYTES)];
            // The body may be cut within a character or may not be text: show what is readable.
            let body = String::from_utf8_lossy(body);
            match body.trim_end_matches(char::REPLACEMENT_CHARACTER).trim() {
                "" => text,
                body => format!("{text}: {body}"),
            }
        }
        _ => text,
    }
}
