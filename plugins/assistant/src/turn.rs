//! One turn: the model is asked, what it asks for is done, and so on until it is done.
//!
//! From the first round of tools on a turn no longer fails: the state would be that before it, and
//! the agent would have forgotten what it did. It ends with a text that says how far it came.

use abide_plugin::llm::{self, ChatMessage, ChatRequest, ChatRole, Completion, FinishReason};
use abide_plugin::{Error, Message, Role, StepError, inbox, log, output};
use serde_json::json;

use crate::results::{self, Room};
use crate::settings::Settings;
use crate::stop::Stop;
use crate::toolbox::Toolbox;
use crate::transcript::Transcript;
use crate::weight;
use crate::window::Window;

/// How much room the conversation has in any case, in bytes: where less is left, the guess at the
/// window is wrong.
const CONVERSATION_BYTES_MIN: usize = 1024;
/// The part of what is kept that a notice of the host's takes in front of a message at most: what
/// the user says must still fit.
const NOTICE_PART: usize = 4;
/// What it takes in any case, in bytes.
const NOTICE_BYTES_MIN: usize = 128;
/// How often one question may be refused as too large. The last request has nothing in it that
/// can be left out.
const REFUSALS_MAX: u32 = 5;
/// The host's remedy for an answer that is too large. Then a shorter request is of no use.
const ANSWER_LIMIT: &str = "limits.event";
/// Tells programs that an answer was cut.
const TRUNCATED: &str = "truncated";
/// Tells the model.
const TRUNCATED_NOTE: &str = "[Your answer above was cut at the token limit (max_tokens): the \
    user has seen as much of it as stands there. If you are asked to go on, go on where it ends.]";

/// A turn that runs.
pub(crate) struct Turn<'a> {
    settings: &'a Settings,
    transcript: &'a mut Transcript,
    window: &'a mut Window,
    toolbox: Toolbox,
    /// How often the model has asked for tools.
    rounds: u32,
}

/// What the user is told.
struct Answer {
    text: String,
    /// It was cut at the token limit.
    truncated: bool,
}

impl<'a> Turn<'a> {
    /// Begins with what came in.
    pub(crate) fn begin(
        settings: &'a Settings,
        transcript: &'a mut Transcript,
        window: &'a mut Window,
        input: &[Message],
    ) -> Result<Self, Error> {
        let (toolbox, note) = Toolbox::open();
        let notice_bytes = (settings.history_bytes / NOTICE_PART).max(NOTICE_BYTES_MIN);
        let heard = input.iter().map(|message| heard(message, notice_bytes));
        let exchange = note.into_iter().chain(heard).collect();
        transcript.begin(exchange, settings.history_bytes)?;
        Ok(Self {
            settings,
            transcript,
            window,
            toolbox,
            rounds: 0,
        })
    }

    /// Goes on to the turn's end.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let answer = match self.answer() {
            Ok(answer) => answer,
            Err(stop) if self.rounds == 0 => return Err(stop.undone()),
            Err(stop) => Answer {
                text: stop.halfway(&self.toolbox.called),
                truncated: false,
            },
        };
        let mut note = None;
        match output::text(&answer.text) {
            Ok(()) if answer.truncated => {
                tell_programs();
                note = Some(ChatMessage::user(TRUNCATED_NOTE));
            }
            Ok(()) => {}
            Err(error) if self.rounds == 0 => return Err(error.into()),
            Err(error) => {
                let excuse = format!("My answer cannot be shown ({error}). Ask for a shorter one.");
                if output::text(excuse).is_err() {
                    log::error(format!("the answer cannot be shown: {error}"));
                }
            }
        }
        let said = ChatMessage::new(ChatRole::Assistant, answer.text);
        let said = [said].into_iter().chain(note).collect();
        self.transcript.end(said, self.settings.history_bytes);
        Ok(())
    }

    fn answer(&mut self) -> Result<Answer, Stop> {
        loop {
            let completion = self.ask()?;
            if completion.tool_calls.is_empty() {
                return usable(completion);
            }
            self.use_tools(completion);
            self.rounds += 1;
            if self.rounds >= self.settings.max_rounds.get() {
                return Err(Stop::Rounds(self.settings.max_rounds));
            }
            self.toolbox.refresh();
            // Only in front of a model call, so that nothing is taken and then not answered; and
            // behind the tool results, which must follow their calls directly.
            match inbox::receive() {
                Ok(messages) => messages
                    .iter()
                    .for_each(|message| self.transcript.push(heard(message, usize::MAX))),
                // They begin turns of their own.
                Err(error) => log::warn(format!("messages cannot be received now: {error}")),
            }
        }
    }

    /// Asks the model; and again, with less of the conversation, if that was too much for it.
    fn ask(&mut self) -> Result<Completion, Stop> {
        if !self.transcript.make_room(self.settings.history_bytes) {
            return Err(Stop::Outgrown);
        }
        // The window decides what is shown, not what is kept: it is a guess, and another model
        // may answer next. If there is not enough room, it may do all the same.
        let mut shown = self.transcript.clone();
        shown.make_room(self.budget());
        let mut refusals = 0;
        loop {
            let request = self.request(&shown);
            let weighed = weigh(&request);
            match llm::chat(&request) {
                Ok(completion) => {
                    self.window.answered(weighed, &completion.model);
                    return Ok(completion);
                }
                Err(StepError::TooLarge(reason)) if !reason.contains(ANSWER_LIMIT) => {
                    refusals += 1;
                    if !self.shorten(&mut shown, weighed, refusals) {
                        return Err(Stop::Window(reason));
                    }
                }
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
    }

    /// Leaves more out of what is shown, after a request of that weight was refused. False if
    /// there is nothing left, or it was refused too often.
    fn shorten(&mut self, shown: &mut Transcript, refused: usize, refusals: u32) -> bool {
        let size = shown.size();
        let next = match refusals {
            1 => size / 3 * 2,
            _ => size / 2,
        };
        self.window.refused(refused - size + next);
        let budget = match refusals {
            ..REFUSALS_MAX => next,
            REFUSALS_MAX => 0,
            _ => return false,
        };
        if !shown.make_room(budget) {
            shown.cut_results(budget);
        }
        weigh(&self.request(shown)) < refused
    }

    /// What is shown of the conversation should weigh that much at most, in bytes.
    fn budget(&self) -> usize {
        let window = self.window.bytes();
        let left = window.map_or(usize::MAX, |bytes| {
            let rest = weigh(&self.request(&Transcript::default()));
            bytes.saturating_sub(rest).max(CONVERSATION_BYTES_MIN)
        });
        left.min(self.settings.history_bytes)
    }

    fn request(&self, shown: &Transcript) -> ChatRequest {
        let system = self.settings.system.as_ref().map(ChatMessage::system);
        let front = system.into_iter().chain(shown.note());
        let messages = front.chain(shown.messages().cloned());
        ChatRequest {
            provider: self.settings.provider.clone(),
            model: self.settings.model.clone(),
            max_tokens: self.settings.max_tokens.map(Into::into),
            tools: self.toolbox.definitions(),
            ..ChatRequest::new(messages.collect())
        }
    }

    fn use_tools(&mut self, completion: Completion) {
        // Together the newest results leave half of the budget to everything else.
        let share = self.budget() / 2 / completion.tool_calls.len().max(1);
        let room = Room {
            text: self.settings.tool_result_bytes.min(share),
            all: share,
        };
        let truncated = matches!(
            completion.finish,
            FinishReason::Length | FinishReason::ContentFilter
        );
        let (tool_calls, results) = self.toolbox.run(completion.tool_calls, truncated, room);
        self.transcript.push(ChatMessage {
            tool_calls,
            ..ChatMessage::new(ChatRole::Assistant, completion.content)
        });
        for result in results {
            self.transcript.push(result);
        }
    }
}

/// What a request weighs, in bytes.
fn weigh(request: &ChatRequest) -> usize {
    let messages = request.messages.iter().map(weight::of_message);
    messages
        .chain(request.tools.iter().map(weight::of_tool))
        .sum()
}

/// What the model hears of a message, of one of the host's so many bytes.
fn heard(message: &Message, notice_bytes: usize) -> ChatMessage {
    let from = message.name.as_deref().unwrap_or_default();
    match message.role {
        Role::User => ChatMessage::user(&message.text),
        Role::System => ChatMessage::system(results::cut(&message.text, notice_bytes)),
        role @ (Role::Timer | Role::Webhook | Role::Approval) => {
            ChatMessage::user(format!("[{role} {from}] {}", message.text))
        }
    }
}

/// An answer that can be shown.
fn usable(completion: Completion) -> Result<Answer, Stop> {
    let truncated = completion.finish == FinishReason::Length;
    match completion.finish {
        FinishReason::ContentFilter => Err(Stop::Withheld),
        _ if !completion.content.trim().is_empty() => Ok(Answer {
            text: completion.content,
            truncated,
        }),
        FinishReason::Length => Err(Stop::Spent),
        _ => Err(Stop::Empty),
    }
}

/// Tells that the answer which was just said was cut.
fn tell_programs() {
    if let Err(error) = output::event(TRUNCATED, &json!({"reason": "max_tokens"})) {
        log::warn(format!("nobody is told that the answer was cut: {error}"));
    }
}
