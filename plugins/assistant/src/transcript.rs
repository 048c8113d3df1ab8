//! What was said and done, as much of it as the budget allows.

use abide_plugin::Error;
use abide_plugin::llm::{ChatMessage, ChatRole};
use serde::{Deserialize, Serialize};

use crate::results::{self, UNKNOWN};
use crate::weight;

/// What stands where something was.
const DROPPED: &str = "[dropped to save room]";
/// The same of a call that may or may not have happened, which must not be forgotten.
const DROPPED_UNKNOWN: &str = "unknown-outcome [dropped to save room]";
/// What stands where the arguments of a call were: providers insist on an object.
const DROPPED_ARGUMENTS: &str = r#"{"dropped":"to save room"}"#;
/// Room is made by parts of the budget of which there are so many.
const STEPS: usize = 8;
/// What is shown of a tool result at least, however short the room is, in bytes.
const RESULT_BYTES_MIN: usize = 256;

/// The messages of the conversation, by exchange: what one turn heard, did and said. An exchange
/// is kept or dropped whole, and a tool call is never without its result, for half of one misleads
/// the model, and providers refuse it. What makes room first is the content of old tool results:
/// the largest part of an agent's conversation, and what it can ask for again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transcript {
    /// How many exchanges were dropped. The model is told.
    dropped: u64,
    /// Those that are kept, oldest first.
    exchanges: Vec<Vec<ChatMessage>>,
}

impl Transcript {
    /// One of which nothing was dropped yet.
    pub(crate) fn of(exchanges: Vec<Vec<ChatMessage>>) -> Self {
        let dropped = 0;
        Self { dropped, exchanges }
    }

    /// Begins an exchange with what came in, and makes room for it.
    pub(crate) fn begin(&mut self, heard: Vec<ChatMessage>, budget: usize) -> Result<(), Error> {
        let size = size(&heard);
        if size > budget {
            return Err(Error::new(format_args!(
                "The message takes {size} bytes, over the {budget} that this session's \
                 history_bytes allows: send a shorter one."
            )));
        }
        self.exchanges.push(heard);
        self.make_room(budget);
        Ok(())
    }

    /// Adds to the exchange that was begun last.
    pub(crate) fn push(&mut self, message: ChatMessage) {
        match self.exchanges.last_mut() {
            Some(exchange) => exchange.push(message),
            None => self.exchanges.push(vec![message]),
        }
    }

    /// Ends the exchange that was begun last with what was said, and what is to be known of it.
    /// One that is over the budget even without its tool results leaves only that.
    pub(crate) fn end(&mut self, said: Vec<ChatMessage>, budget: usize) {
        said.iter().cloned().for_each(|message| self.push(message));
        if self.make_room(budget) {
            return;
        }
        let exchange = self.exchanges.pop().unwrap_or_default();
        let mark = match exchange.iter().any(is_unknown) {
            true => DROPPED_UNKNOWN,
            false => DROPPED,
        };
        let rest: Vec<_> = [ChatMessage::user(mark)].into_iter().chain(said).collect();
        if size(&rest) <= budget {
            self.exchanges.push(rest);
            self.make_room(budget);
        } else {
            self.dropped += 1;
        }
    }

    /// What the model must be told before the messages that are kept.
    pub(crate) fn note(&self) -> Option<ChatMessage> {
        let what = match self.dropped {
            0 => return None,
            1 => "1 earlier exchange was".to_owned(),
            count => format!("{count} earlier exchanges were"),
        };
        // Not as the system: what that says first is what servers have read before.
        Some(ChatMessage::user(format!("[{what} {}", &DROPPED[1..])))
    }

    /// All that is kept, oldest first.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &ChatMessage> {
        self.exchanges.iter().flatten()
    }

    /// Drops the contents of tool results and then whole exchanges, oldest first; of the present
    /// exchange at last the arguments of calls. What the model has not answered yet stays. False
    /// if all of that is not enough.
    ///
    /// A little more is dropped than need be, so that a conversation that grows is told with the
    /// same beginning for some turns: servers keep what they have made of that, and charge less.
    pub(crate) fn make_room(&mut self, budget: usize) -> bool {
        let surplus = self.size().saturating_sub(budget);
        if surplus == 0 {
            return true;
        }
        let mut surplus = surplus.next_multiple_of(budget / STEPS + 1);
        let seen = self.messages().count() - self.unanswered();
        let results = self.exchanges.iter_mut().flatten().take(seen);
        for result in results.filter(|message| message.role == ChatRole::Tool) {
            if surplus == 0 {
                return true;
            }
            let mark = match is_unknown(result) {
                true => DROPPED_UNKNOWN,
                false => DROPPED,
            };
            surplus = surplus.saturating_sub(replace(&mut result.content, mark));
        }
        while surplus > 0 && self.exchanges.len() > 1 {
            surplus = surplus.saturating_sub(size(&self.exchanges.remove(0)));
            self.dropped += 1;
        }
        let seen = self.messages().count() - self.unanswered();
        let asked = self.exchanges.iter_mut().flatten().take(seen);
        for call in asked.flat_map(|message| &mut message.tool_calls) {
            if surplus == 0 {
                return true;
            }
            surplus = surplus.saturating_sub(replace(&mut call.arguments, DROPPED_ARGUMENTS));
        }
        self.size() <= budget
    }

    /// Cuts the tool results that the model has not answered yet, each to the same length. The
    /// last resort, where [`make_room`](Self::make_room) was not enough.
    pub(crate) fn cut_results(&mut self, budget: usize) {
        let size = self.size();
        let seen = self.messages().count() - self.unanswered();
        let results = self.exchanges.iter_mut().flatten().skip(seen);
        let results: Vec<_> = results.filter(|one| one.role == ChatRole::Tool).collect();
        let rest = size - results.iter().map(|one| one.content.len()).sum::<usize>();
        let share = budget.saturating_sub(rest) / results.len().max(1);
        let share = share.max(RESULT_BYTES_MIN);
        for result in results {
            // The mark takes room too.
            if result.content.len() > share + RESULT_BYTES_MIN / 4 {
                result.content = results::cut(&result.content, share);
            }
        }
    }

    /// How many messages at the end the model has not answered yet, with those that ask for the
    /// tool results among them.
    fn unanswered(&self) -> usize {
        let last = self.exchanges.last().map_or(&[][..], Vec::as_slice);
        match last.iter().rposition(|one| one.role == ChatRole::Assistant) {
            // The model was done.
            Some(said) if last[said].tool_calls.is_empty() => last.len() - said - 1,
            Some(asked) => last.len() - asked,
            None => last.len(),
        }
    }

    /// What all that is kept weighs, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.messages().map(weight::of_message).sum()
    }
}

/// Whether it tells of a call of which nobody knows whether it happened.
fn is_unknown(message: &ChatMessage) -> bool {
    message.role == ChatRole::Tool && message.content.starts_with(UNKNOWN)
}

/// Puts a mark in a text's place if it is shorter; how many bytes that saves.
fn replace(text: &mut String, mark: &str) -> usize {
    let saved = text.len().saturating_sub(mark.len());
    if saved > 0 {
        *text = mark.to_owned();
    }
    saved
}

fn size(exchange: &[ChatMessage]) -> usize {
    exchange.iter().map(weight::of_message).sum()
}
