//! What model calls cost, as far as the providers say.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Completion, StepDone, StepResult};

/// What the answers of models cost, over a turn or over a session's life. Answers that were cut off
/// and asked for again are not in it: nobody says what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelUsage {
    /// Whole answers.
    pub answers: u64,
    /// Tokens read for them, where the provider says.
    pub input_tokens: u64,
    /// Tokens written, where the provider says.
    pub output_tokens: u64,
}

impl fmt::Display for ModelUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            answers,
            input_tokens,
            output_tokens,
        } = self;
        let s = if *answers == 1 { "" } else { "s" };
        write!(
            f,
            "{answers} model answer{s}, {input_tokens} tokens in, {output_tokens} out"
        )
    }
}

impl ModelUsage {
    /// No model was asked.
    pub fn is_none(&self) -> bool {
        self.answers == 0
    }

    /// Counts a part of a step, if it is a model's answer.
    pub(super) fn count(&mut self, done: &StepDone) {
        if let Ok(StepResult::Llm(Completion { usage, .. })) = &done.result {
            self.answers += 1;
            let (input, output) = usage.map_or((0, 0), |u| (u.input_tokens, u.output_tokens));
            self.input_tokens = self.input_tokens.saturating_add(input);
            self.output_tokens = self.output_tokens.saturating_add(output);
        }
    }
}
