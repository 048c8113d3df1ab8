//! How much the model's context window takes, as far as anybody says.
//!
//! Windows are counted in tokens, and only the model's own server knows how many a text has. So
//! this is a guess, on the safe side, that gets better with every answer. It decides how much of
//! the conversation a model is shown; what is kept, and what is refused, are not for it to say.

use std::num::NonZeroU32;

use abide_guest_sdk::llm::Completion;
use serde::{Deserialize, Serialize};

use crate::weight::Weight;

/// How many bytes of text make 1000 tokens, before a model has told: English has about 4000,
/// source code and most other languages 2500 to 3500.
const USUAL_DENSITY: u64 = 3000;
/// What it is at least and at most, whatever a server counts.
const DENSITIES: (u64, u64) = (1000, 8000);
/// A request with less text says nothing: what the model's template adds weighs too much in it.
const SAMPLE_BYTES: usize = 1024;
/// How many tokens are left to the answer at most, if the session sets none; and not over a
/// quarter of the window.
const ANSWER_TOKENS: u64 = 16 * 1024;

/// What is known of the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// The model that answered last. None if it has refused a request since: whichever answers
    /// next is the one that did.
    model: Option<String>,
    /// How many tokens it takes in all, as the operator says.
    context_tokens: Option<u64>,
    /// How many bytes of text made 1000 tokens in the last request that tells.
    density: Option<u64>,
    /// What a whole request may weigh, in bytes, since larger ones were refused.
    ceiling: Option<u64>,
}

impl Window {
    /// What a whole request should weigh at most, in bytes; none if nobody has said. `max_tokens`
    /// is the longest answer that is asked for.
    pub(crate) fn bytes(&self, max_tokens: Option<NonZeroU32>) -> Option<usize> {
        let told = self.context_tokens.map(|context| {
            let answer = match max_tokens {
                Some(tokens) => u64::from(tokens.get()),
                None => ANSWER_TOKENS.min(context / 4),
            };
            let tokens = context - answer.min(context / 2);
            let density = self.density.unwrap_or(USUAL_DENSITY);
            // A tenth is left to what the next texts have more of than the last.
            tokens.saturating_mul(density) / 1000 / 10 * 9
        });
        let least = told.into_iter().chain(self.ceiling).min();
        least.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// The model has answered a request of that weight.
    pub(crate) fn answered(&mut self, asked: Weight, completion: &Completion) {
        let same = self.model.as_ref().is_none_or(|model| {
            *model == completion.model && self.context_tokens == completion.context_tokens
        });
        // What a model refused says nothing of another one.
        let ceiling = self.ceiling.filter(|_| same);
        self.ceiling = ceiling.map(|bytes| bytes.max(asked.bytes() as u64));
        self.model = Some(completion.model.clone());
        self.context_tokens = completion.context_tokens;
        let tokens = completion.usage.map_or(0, |usage| usage.input_tokens);
        if asked.text >= SAMPLE_BYTES && tokens > 0 {
            // Of the text alone, as if the rest took no tokens: on the safe side.
            let density = (asked.text as u64).saturating_mul(1000) / tokens;
            self.density = Some(density.clamp(DENSITIES.0, DENSITIES.1));
        }
    }

    /// The model's server has refused a request as too large; the next should weigh that much.
    pub(crate) fn refused(&mut self, next: usize) {
        self.model = None;
        self.ceiling = Some(next as u64);
    }
}

#[cfg(test)]
mod tests {
    use abide_guest_sdk::llm::{ChatMessage, FinishReason, Usage};

    use super::*;

    fn answer(model: &str, context_tokens: Option<u64>, input_tokens: u64) -> Completion {
        Completion {
            content: "ok".to_owned(),
            tool_calls: Vec::new(),
            finish: FinishReason::Stop,
            usage: Some(Usage {
                input_tokens,
                output_tokens: 1,
            }),
            model: model.to_owned(),
            context_tokens,
        }
    }

    fn text(bytes: usize) -> Weight {
        Weight::from(&ChatMessage::user("x".repeat(bytes)))
    }

    #[test]
    fn a_window_leaves_room_for_the_answer() {
        let mut window = Window::default();
        assert_eq!(window.bytes(None), None);
        window.answered(text(10), &answer("m", Some(8000), 10));
        assert_eq!(window.bytes(None), Some(6000 * 3 / 10 * 9));
        assert_eq!(window.bytes(NonZeroU32::new(1000)), Some(7000 * 3 / 10 * 9));
        // More than half is never left to it: something must be asked.
        assert_eq!(window.bytes(NonZeroU32::new(9999)), Some(4000 * 3 / 10 * 9));
        window.answered(text(10), &answer("m", Some(1_000_000), 10));
        let left = 1_000_000 - 16 * 1024;
        assert_eq!(window.bytes(None), Some(left * 3 / 10 * 9));
        for huge in [u64::MAX, u64::MAX - 1] {
            window.answered(text(10), &answer("m", Some(huge), 10));
            assert!(window.bytes(None).is_some_and(|bytes| bytes > 1 << 31));
        }
        window.answered(text(10), &answer("m", Some(0), 10));
        assert_eq!(window.bytes(None), Some(0));
        window.answered(text(10), &answer("m", None, 10));
        assert_eq!(window.bytes(None), None);
    }

    #[test]
    fn tokens_are_measured_by_the_last_request_that_tells() {
        let mut window = Window::default();
        let mut bytes = |weight, tokens| {
            window.answered(weight, &answer("m", Some(8000), tokens));
            window.bytes(None).expect("it was told") * 10 / 9 * 1000 / 6000
        };
        assert_eq!(bytes(text(1023), 1), 3000);
        assert_eq!(bytes(text(2000), 500), 4000);
        assert_eq!(bytes(text(10), 500), 4000);
        assert_eq!(bytes(text(2000), 0), 4000);
        assert_eq!(bytes(text(2000), 1), 8000);
        assert_eq!(bytes(text(2000), 1_000_000), 1000);
    }

    #[test]
    fn what_was_refused_is_remembered_of_that_model_alone() {
        let mut window = Window::default();
        window.refused(700);
        assert_eq!(window.bytes(None), Some(700));
        window.answered(text(500), &answer("m", None, 10));
        assert_eq!(window.bytes(None), Some(700));
        // What has been taken may be asked again.
        window.answered(text(800), &answer("m", None, 10));
        assert_eq!(window.bytes(None), Some(864));
        window.answered(text(100), &answer("larger", None, 10));
        assert_eq!(window.bytes(None), None);
        // Another model refuses before it has answered anything.
        window.refused(300);
        window.answered(text(100), &answer("smaller", None, 10));
        assert_eq!(window.bytes(None), Some(300));
        // The operator says that it takes more now.
        window.answered(text(100), &answer("smaller", Some(8000), 10));
        assert_eq!(window.bytes(None), Some(6000 * 3 / 10 * 9));
    }
}
