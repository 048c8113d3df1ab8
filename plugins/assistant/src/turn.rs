//! One turn: the model is asked, what it asks for is done, and so on until it is done.
//!
//! From the first round of tools on a turn no longer fails: the state would be that before it, and
//! the agent would have forgotten what it did. It ends with a text that says how far it came.

use abide_guest_sdk::llm::{self, ChatMessage, ChatRequest, ChatRole, Completion, FinishReason};
use abide_guest_sdk::{Error, Message, Role, inbox, log, output};

use crate::settings::Settings;
use crate::stop::Stop;
use crate::toolbox::Toolbox;
use crate::transcript::Transcript;

/// A turn that runs.
pub(crate) struct Turn<'a> {
    settings: &'a Settings,
    transcript: &'a mut Transcript,
    toolbox: Toolbox,
    /// How often the model has asked for tools.
    rounds: u32,
}

impl<'a> Turn<'a> {
    /// Begins with what came in.
    pub(crate) fn begin(
        settings: &'a Settings,
        transcript: &'a mut Transcript,
        input: &[Message],
    ) -> Result<Self, Error> {
        let (toolbox, note) = Toolbox::open();
        let exchange = note.into_iter().chain(input.iter().map(heard)).collect();
        transcript.begin(exchange, settings.history_bytes)?;
        Ok(Self {
            settings,
            transcript,
            toolbox,
            rounds: 0,
        })
    }

    /// Goes on to the turn's end.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let answer = match self.answer() {
            Ok(answer) => answer,
            Err(stop) if self.rounds == 0 => return Err(stop.undone()),
            Err(stop) => stop.halfway(&self.toolbox.called),
        };
        if let Err(error) = output::text(&answer) {
            if self.rounds == 0 {
                return Err(error.into());
            }
            let excuse = format!("My answer cannot be shown ({error}). Ask for a shorter one.");
            if output::text(excuse).is_err() {
                log::error(format!("the answer cannot be shown: {error}"));
            }
        }
        let said = ChatMessage::new(ChatRole::Assistant, answer);
        self.transcript.end(said, self.settings.history_bytes);
        Ok(())
    }

    fn answer(&mut self) -> Result<String, Stop> {
        loop {
            if !self.transcript.make_room(self.settings.history_bytes) {
                return Err(Stop::Outgrown);
            }
            let completion = llm::chat(&self.request()).map_err(Stop::Failed)?;
            if completion.tool_calls.is_empty() {
                return usable(completion);
            }
            self.use_tools(completion);
            self.rounds += 1;
            if self.rounds >= self.settings.max_rounds.get() {
                return Err(Stop::Rounds(self.settings.max_rounds));
            }
            // Only in front of a model call, so that nothing is taken and then not answered; and
            // behind the tool results, which must follow their calls directly.
            match inbox::receive() {
                Ok(messages) => messages
                    .iter()
                    .for_each(|message| self.transcript.push(heard(message))),
                // They begin turns of their own.
                Err(error) => log::warn(format!("messages cannot be received now: {error}")),
            }
        }
    }

    fn request(&self) -> ChatRequest {
        let system = self.settings.system.as_ref().map(ChatMessage::system);
        let messages = system
            .into_iter()
            .chain(self.transcript.messages().cloned());
        ChatRequest {
            provider: self.settings.provider.clone(),
            model: self.settings.model.clone(),
            max_tokens: self.settings.max_tokens.map(Into::into),
            tools: self.toolbox.definitions(),
            ..ChatRequest::new(messages.collect())
        }
    }

    fn use_tools(&mut self, completion: Completion) {
        let Completion {
            content,
            tool_calls,
            ..
        } = completion;
        // Together the newest results leave half of the budget to everything else.
        let share = self.settings.history_bytes / 2 / tool_calls.len().max(1);
        let result_bytes = self.settings.tool_result_bytes.min(share);
        let (tool_calls, results) = self.toolbox.run(tool_calls, result_bytes);
        self.transcript.push(ChatMessage {
            tool_calls,
            ..ChatMessage::new(ChatRole::Assistant, content)
        });
        for result in results {
            self.transcript.push(result);
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
fn usable(completion: Completion) -> Result<String, Stop> {
    match completion.finish {
        FinishReason::ContentFilter => Err(Stop::Withheld),
        _ if completion.content.is_empty() => Err(Stop::Empty),
        finish => {
            if finish == FinishReason::Length {
                log::warn("the answer was cut at the token limit: raise max_tokens");
            }
            Ok(completion.content)
        }
    }
}
