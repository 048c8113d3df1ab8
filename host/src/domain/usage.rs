//! What model calls cost, as far as the providers report it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Completion, StepError, StepResult};

/// What model answers cost, over a turn or over a session's life. Answers that were cut off and
/// requested again are not included: no provider reports their cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelUsage {
    /// The number of complete answers.
    pub answers: u64,
    /// Input tokens, where the provider reports them.
    pub input_tokens: u64,
    /// Output tokens, where the provider reports them.
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
    /// Whether no model has answered.
    pub fn is_none(&self) -> bool {
        self.answers == 0
    }

    /// Counts the result of a part of a step, if it is a model's answer.
    pub(super) fn count(&mut self, result: &Result<StepResult, StepError>) {
        if let Ok(StepResult::Llm(Completion { usage, .. })) = result {
            self.answers += 1;
            let (input, output) = usage.map_or((0, 0), |u| (u.input_tokens, u.output_tokens));
            self.input_tokens = self.input_tokens.saturating_add(input);
            self.output_tokens = self.output_tokens.saturating_add(output);
        }
    }
}
