//! One turn: asks the model, runs the tools that it requests, and repeats this until the model
//! answers.
//!
//! After the first round of tools a turn no longer fails: a failure would restore the state before
//! it, and the agent would forget what it did. Instead, the turn ends with a text that says how far
//! it came.

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

/// The minimum size of the conversation that is shown, in bytes: if less is left, the estimate of
/// the window is wrong.
const CONVERSATION_BYTES_MIN: usize = 1024;
/// The divisor of `history_bytes` that yields the limit on a notice of the host in front of a
/// message: the user's message must still fit.
const NOTICE_PART: usize = 4;
/// The minimum of that limit, in bytes.
const NOTICE_BYTES_MIN: usize = 128;
/// How often one question may be rejected as too large. The last request contains nothing more that
/// can be left out.
const REFUSALS_MAX: u32 = 5;
/// The limit that the host names if the answer is too large. Then a shorter request does not help.
const ANSWER_LIMIT: &str = "limits.event";
/// The event for programs: the answer was cut.
const TRUNCATED: &str = "truncated";
/// The note to the model about it.
const TRUNCATED_NOTE: &str = "[Your answer above was cut at the token limit (max_tokens): the \
    user has seen as much of it as stands there. If you are asked to go on, go on where it ends.]";

/// A running turn.
pub(crate) struct Turn<'a> {
    settings: &'a Settings,
    transcript: &'a mut Transcript,
    window: &'a mut Window,
    toolbox: Toolbox,
    /// How often the model has requested tools.
    rounds: u32,
}

/// The answer for the user.
struct Answer {
    text: String,
    /// Whether it was cut at the token limit.
    truncated: bool,
}

impl<'a> Turn<'a> {
    /// Begins a turn with its input.
    pub(crate) fn begin(
        settings: &'a Settings,
        transcript: &'a mut Transcript,
        window: &'a mut Window,
        input: &[Message],
    ) -> Result<Self, Error> {
        let (toolbox, note) = Toolbox::open();
        let notice_bytes = (settings.history_bytes / NOTICE_PART).max(NOTICE_BYTES_MIN);
        let messages = input.iter().map(|message| heard(message, notice_bytes));
        let exchange = note.into_iter().chain(messages).collect();
        transcript.begin(exchange, settings.history_bytes)?;
        Ok(Self {
            settings,
            transcript,
            window,
            toolbox,
            rounds: 0,
        })
    }

    /// Runs the turn to its end.
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
        let reply = ChatMessage::new(ChatRole::Assistant, answer.text);
        let reply = [reply].into_iter().chain(note).collect();
        self.transcript.end(reply, self.settings.history_bytes);
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
            // Only just before a model call, so that no message is taken and then left unanswered;
            // and after the tool results, which must directly follow their calls.
            match inbox::receive() {
                Ok(messages) => messages
                    .iter()
                    .for_each(|message| self.transcript.push(heard(message, usize::MAX))),
                // The messages stay queued and begin turns of their own.
                Err(error) => log::warn(format!("messages cannot be received now: {error}")),
            }
        }
    }

    /// Asks the model, and retries with less of the conversation if the request was too large.
    fn ask(&mut self) -> Result<Completion, Stop> {
        if !self.transcript.make_room(self.settings.history_bytes) {
            return Err(Stop::Outgrown);
        }
        // The window limits what is shown, not what is kept: it is an estimate, and another model
        // may answer next. If not enough can be dropped, the request is tried all the same.
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

    /// Drops more of what is shown, after a request of size `refused` was rejected. Returns false
    /// if nothing is left to drop, or there were too many rejections.
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

    /// Returns the maximum size of the conversation that is shown, in bytes.
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
        // All new results together take at most half of the budget, so that the other half is left
        // for everything else.
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

/// Returns the size of a request, in bytes.
fn weigh(request: &ChatRequest) -> usize {
    let messages = request.messages.iter().map(weight::of_message);
    messages
        .chain(request.tools.iter().map(weight::of_tool))
        .sum()
}

/// Converts a message for the model; a message of the host is cut to `notice_bytes`.
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

/// Returns the answer, if it can be shown.
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

/// Emits the event that the last answer was cut.
fn tell_programs() {
    if let Err(error) = output::event(TRUNCATED, &json!({"reason": "max_tokens"})) {
        log::warn(format!("nobody is told that the answer was cut: {error}"));
    }
}
