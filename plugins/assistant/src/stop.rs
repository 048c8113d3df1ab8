//! Explains to the user why a turn ends without the model's answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;

use abide_plugin::{Error, StepError};

/// Why there is no answer.
pub(crate) enum Stop {
    /// The model call failed.
    Failed(StepError),
    /// The provider withheld the answer.
    Withheld,
    /// The answer was empty.
    Empty,
    /// The answer was empty, and the model has used up all the tokens that it may.
    Spent,
    /// The request exceeds the model's context window, however much is dropped; the text of its
    /// server.
    Window(String),
    /// The model has requested tools as often as it may.
    Rounds(NonZeroU32),
    /// The turn's exchange exceeds the budget, however much is dropped from it.
    Outgrown,
}

impl Stop {
    /// Returns the error for a turn that has done nothing yet: it counts as not having happened.
    pub(crate) fn undone(self) -> Error {
        match self {
            Self::Failed(error) => explain(error),
            Self::Withheld => "The model's provider withheld the answer.".into(),
            Self::Empty => "The model gave an empty answer. Ask again, or in other words.".into(),
            Self::Spent => "The model has spent all the tokens of an answer (max_tokens) and said \
                            nothing: on thinking, perhaps. Ask for less, or create the session \
                            with a larger max_tokens."
                .into(),
            Self::Window(text) => Error::new(format_args!(
                "The message does not fit into the model's context window, even without the \
                 conversation before it: send a shorter one. The conversation is kept. (A long \
                 system prompt, many tools and a large max_tokens take room in it too.) {text}"
            )),
            stop @ (Self::Rounds(_) | Self::Outgrown) => stop.reason().into(),
        }
    }

    /// Returns the answer for a turn that has called tools: their effects stand, and must not be
    /// forgotten.
    pub(crate) fn halfway(self, called: &BTreeMap<String, u32>) -> String {
        let mut text = format!("I could not finish: {}.", self.reason());
        let count: u32 = called.values().sum();
        if count > 0 {
            let names: Vec<_> = called
                .iter()
                .map(|(name, times)| match times {
                    1 => name.clone(),
                    times => format!("{name} {times} times"),
                })
                .collect();
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                " Tool calls made before that, whose effects stand: {count} ({}).",
                names.join(", ")
            );
        }
        text.push_str(" Send a message, and I go on from there.");
        text
    }

    fn reason(&self) -> String {
        match self {
            Self::Failed(error) => format!("the model did not answer ({error})"),
            Self::Withheld => "the model's provider withheld the answer".to_owned(),
            Self::Empty => "the model gave an empty answer".to_owned(),
            Self::Spent => "the model has spent all the tokens of an answer (max_tokens) and said \
                            nothing"
                .to_owned(),
            Self::Window(text) => format!(
                "what this turn has gathered does not fit into the model's context window, even \
                 without the conversation before it ({text})"
            ),
            Self::Rounds(rounds) => format!(
                "I have asked for tools {rounds} times in one turn, which is the limit (max_rounds)"
            ),
            Self::Outgrown => {
                "this turn has outgrown what the session may keep (history_bytes)".to_owned()
            }
        }
    }
}

/// Explains an error of the model call to the user.
fn explain(error: StepError) -> Error {
    match error {
        StepError::Denied(text) => format!("This assistant may not use that model: {text}"),
        StepError::Invalid(text) => format!("The model refuses the request: {text}"),
        StepError::Unavailable(text) => {
            format!("The model cannot be reached now; send the message again later: {text}")
        }
        StepError::Timeout(text) => {
            format!("The model took too long; send the message again later: {text}")
        }
        StepError::TooLarge(text) => format!(
            "The model's answer is too large; ask for less, or create the session with a smaller \
             max_tokens: {text}"
        ),
        StepError::UnknownOutcome(text) => {
            format!("Nobody knows whether the model answered; send the message again: {text}")
        }
        StepError::Failed(text) => format!("The model's server answered with an error: {text}"),
    }
    .into()
}
