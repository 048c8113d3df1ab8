//! A conversation with a language model that outlives the daemon.
//!
//! The state is the settings that the session was created with and the transcript. Each turn
//! puts its messages into the transcript, asks the model, and says what it answers.

mod settings;
mod transcript;

use abide_guest_sdk::llm::{self, ChatMessage, ChatRequest, ChatRole, Completion, FinishReason};
use abide_guest_sdk::{Context, Error, Message, Plugin, Role, StepError, export, log, output};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::transcript::Transcript;

#[derive(Default, Serialize, Deserialize)]
struct Assistant {
    settings: Settings,
    transcript: Transcript,
}

impl Plugin for Assistant {
    fn open(&mut self, context: &Context) -> Result<(), Error> {
        self.settings = context.read_args()?;
        Ok(())
    }

    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        let exchange = input.iter().map(heard).collect();
        self.transcript
            .begin(exchange, self.settings.history_bytes)?;
        let answer = usable(llm::chat(&self.request()).map_err(explain)?)?;
        output::text(&answer)?;
        let said = ChatMessage::new(ChatRole::Assistant, answer);
        self.transcript.say(said, self.settings.history_bytes);
        Ok(())
    }
}

impl Assistant {
    fn request(&self) -> ChatRequest {
        let system = self.settings.system.as_ref().map(ChatMessage::system);
        let messages = system
            .into_iter()
            .chain(self.transcript.messages().cloned());
        ChatRequest {
            provider: self.settings.provider.clone(),
            model: self.settings.model.clone(),
            max_tokens: self.settings.max_tokens.map(Into::into),
            ..ChatRequest::new(messages.collect())
        }
    }
}

/// What the model hears of a message.
fn heard(message: &Message) -> ChatMessage {
    let from = message.name.as_deref().unwrap_or_default();
    match message.role {
        Role::User => ChatMessage::user(&message.text),
        Role::System => ChatMessage::system(&message.text),
        role @ (Role::Timer | Role::Webhook | Role::Approval) => {
            ChatMessage::user(format!("[{role} {from}] {}", message.text))
        }
    }
}

/// The text of an answer that can be shown.
fn usable(completion: Completion) -> Result<String, Error> {
    match completion.finish {
        FinishReason::ContentFilter => Err("The model's provider withheld the answer.".into()),
        _ if completion.content.is_empty() => {
            Err("The model gave an empty answer. Ask again, or in other words.".into())
        }
        finish => {
            if finish == FinishReason::Length {
                log::warn("the answer was cut at the token limit: raise max_tokens");
            }
            Ok(completion.content)
        }
    }
}

/// What a user should know of a model that does not answer.
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
            "The conversation or its answer is too large for the model's limits; create the \
             session with a smaller history_bytes or max_tokens: {text}"
        ),
        StepError::UnknownOutcome(text) => {
            format!("Nobody knows whether the model answered; send the message again: {text}")
        }
        StepError::Failed(text) => format!("The model's server answered with an error: {text}"),
    }
    .into()
}

export!(Assistant);

#[cfg(test)]
mod tests;
