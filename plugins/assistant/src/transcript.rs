//! The conversation, as far as it fits into a budget.

use abide_plugin::Error;
use abide_plugin::llm::{ChatMessage, ChatRole};
use serde::{Deserialize, Serialize};

use crate::results::{self, UNKNOWN};
use crate::weight;

/// The mark in place of dropped content.
const DROPPED: &str = "[dropped to save room]";
/// The same for a call that may or may not have happened, which must not be forgotten.
const DROPPED_UNKNOWN: &str = "unknown-outcome [dropped to save room]";
/// The mark in place of a call's arguments: providers insist on an object.
const DROPPED_ARGUMENTS: &str = r#"{"dropped":"to save room"}"#;
/// Room is made in steps of the budget divided by this.
const STEPS: usize = 8;
/// The minimum that is shown of a tool result, however little room there is, in bytes.
const RESULT_BYTES_MIN: usize = 256;

/// The messages of the conversation, grouped by exchange: the input, the tool calls and the output
/// of one turn. An exchange is kept or dropped as a whole, and a tool call is never without its
/// result: half of an exchange would mislead the model, and providers reject it. To make room, the
/// content of old tool results is dropped first: it is the largest part of an agent's conversation,
/// and the agent can request it again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transcript {
    /// The number of dropped exchanges, which the model is told.
    dropped: u64,
    /// The exchanges that are kept, oldest first.
    exchanges: Vec<Vec<ChatMessage>>,
}

impl Transcript {
    /// Creates a transcript of which nothing has been dropped yet.
    pub(crate) fn of(exchanges: Vec<Vec<ChatMessage>>) -> Self {
        let dropped = 0;
        Self { dropped, exchanges }
    }

    /// Begins an exchange with a turn's input, and makes room for it.
    pub(crate) fn begin(&mut self, input: Vec<ChatMessage>, budget: usize) -> Result<(), Error> {
        let size = size(&input);
        if size > budget {
            return Err(Error::new(format_args!(
                "The message takes {size} bytes, over the {budget} that this session's \
                 history_bytes allows: send a shorter one."
            )));
        }
        self.exchanges.push(input);
        self.make_room(budget);
        Ok(())
    }

    /// Adds a message to the current exchange.
    pub(crate) fn push(&mut self, message: ChatMessage) {
        match self.exchanges.last_mut() {
            Some(exchange) => exchange.push(message),
            None => self.exchanges.push(vec![message]),
        }
    }

    /// Ends the current exchange with the answer, and notes about it. If the exchange exceeds the
    /// budget even without its tool results, only these and a mark are kept of it.
    pub(crate) fn end(&mut self, reply: Vec<ChatMessage>, budget: usize) {
        reply.iter().cloned().for_each(|message| self.push(message));
        if self.make_room(budget) {
            return;
        }
        let exchange = self.exchanges.pop().unwrap_or_default();
        let mark = match exchange.iter().any(is_unknown) {
            true => DROPPED_UNKNOWN,
            false => DROPPED,
        };
        let rest: Vec<_> = [ChatMessage::user(mark)].into_iter().chain(reply).collect();
        if size(&rest) <= budget {
            self.exchanges.push(rest);
            self.make_room(budget);
        } else {
            self.dropped += 1;
        }
    }

    /// Returns the note to the model that precedes the messages that are kept.
    pub(crate) fn note(&self) -> Option<ChatMessage> {
        let what = match self.dropped {
            0 => return None,
            1 => "1 earlier exchange was".to_owned(),
            count => format!("{count} earlier exchanges were"),
        };
        // Not a system message: the system prompt at the beginning is what servers have cached.
        Some(ChatMessage::user(format!("[{what} {}", &DROPPED[1..])))
    }

    /// Returns all messages that are kept, oldest first.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &ChatMessage> {
        self.exchanges.iter().flatten()
    }

    /// Drops the content of tool results and then whole exchanges, oldest first; finally the
    /// arguments of calls in the current exchange. What the model has not answered yet is kept.
    /// Returns false if all of that is not enough.
    ///
    /// Drops a little more than needed, so that a growing conversation keeps the same beginning for
    /// some turns: servers cache such a prefix, and charge less for it.
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

    /// Cuts the tool results that the model has not answered yet, all to the same length. The last
    /// resort, if [`make_room`](Self::make_room) was not enough.
    pub(crate) fn cut_results(&mut self, budget: usize) {
        let size = self.size();
        let seen = self.messages().count() - self.unanswered();
        let results = self.exchanges.iter_mut().flatten().skip(seen);
        let results: Vec<_> = results.filter(|one| one.role == ChatRole::Tool).collect();
        let rest = size - results.iter().map(|one| one.content.len()).sum::<usize>();
        let share = budget.saturating_sub(rest) / results.len().max(1);
        let share = share.max(RESULT_BYTES_MIN);
        for result in results {
            // Not if barely longer: the mark takes room as well.
            if result.content.len() > share + RESULT_BYTES_MIN / 4 {
                result.content = results::cut(&result.content, share);
            }
        }
    }

    /// Returns the number of messages at the end that the model has not answered yet, including the
    /// message that requested the tool results among them.
    fn unanswered(&self) -> usize {
        let last = self.exchanges.last().map_or(&[][..], Vec::as_slice);
        match last.iter().rposition(|one| one.role == ChatRole::Assistant) {
            // The model had finished its answer.
            Some(at) if last[at].tool_calls.is_empty() => last.len() - at - 1,
            Some(asked) => last.len() - asked,
            None => last.len(),
        }
    }

    /// Returns the size of everything that is kept, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.messages().map(weight::of_message).sum()
    }
}

/// Returns whether the message is the result of a call whose outcome is unknown.
fn is_unknown(message: &ChatMessage) -> bool {
    message.role == ChatRole::Tool && message.content.starts_with(UNKNOWN)
}

/// Replaces a text by a mark if the mark is shorter; returns how many bytes that saves.
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
