//! How the steps of a turn change the summary of its calls ([`MadeCalls`]).
//!
//! ```text
//!   Planned ----> in flight ---- Done ----> settled, with its result
//!                     |  |                  or forgotten: it certainly did not happen
//!                     |  +---- Done, unknown outcome ----> unknown
//!                     +---- the attempt is given up, or the turn ends ----> unknown
//! ```

use super::calls::CALLS_MAX;
use super::result_text::shown;
use super::shorten::one_line;
use super::{MadeCall, MadeCalls, Planned, StepDone, StepError, StepResult};

/// The longest call that a notice shows, with its arguments, in bytes.
const CALL_BYTES: usize = 200;
/// The longest result that a notice shows, in bytes.
const RESULT_BYTES: usize = 160;

impl MadeCalls {
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
