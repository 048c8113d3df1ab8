//! What was said and done, as much of it as the budget allows.

use abide_guest_sdk::Error;
use abide_guest_sdk::llm::{ChatMessage, ChatRole};
use serde::{Deserialize, Serialize};

use crate::results::UNKNOWN;

/// What a message costs beside its text, in bytes: about what its encoding adds.
const MESSAGE_OVERHEAD: usize = 64;
/// What stands where something was.
const DROPPED: &str = "[dropped to save room]";
/// The same of a call that may or may not have happened, which must not be forgotten.
const DROPPED_UNKNOWN: &str = "unknown-outcome [dropped to save room]";
/// What stands where the arguments of a call were: providers insist on an object.
const DROPPED_ARGUMENTS: &str = r#"{"dropped":"to save room"}"#;

/// The messages of the conversation, oldest first, by exchange: what one turn heard, did and
/// said. An exchange is kept or dropped whole, and a tool call is never without its result, for
/// half of one misleads the model, and providers refuse it. What makes room first is the content
/// of old tool results: the largest part of an agent's conversation, and what it can ask for
/// again.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Transcript(Vec<Vec<ChatMessage>>);

impl Transcript {
    /// Begins an exchange with what came in, and makes room for it.
    pub(crate) fn begin(&mut self, heard: Vec<ChatMessage>, budget: usize) -> Result<(), Error> {
        let size = size(&heard);
        if size > budget {
            return Err(Error::new(format_args!(
                "The message takes {size} bytes, over the {budget} that this session's \
                 history_bytes allows: send a shorter one."
            )));
        }
        self.0.push(heard);
        self.make_room(budget);
        Ok(())
    }

    /// Adds to the exchange that was begun last.
    pub(crate) fn push(&mut self, message: ChatMessage) {
        match self.0.last_mut() {
            Some(exchange) => exchange.push(message),
            None => self.0.push(vec![message]),
        }
    }

    /// Ends the exchange that was begun last with what was said. One that is over the budget even
    /// without its tool results leaves only that.
    pub(crate) fn end(&mut self, said: ChatMessage, budget: usize) {
        self.push(said.clone());
        if self.make_room(budget) {
            return;
        }
        self.0.pop();
        let rest = vec![ChatMessage::user(DROPPED), said];
        if size(&rest) <= budget {
            self.0.push(rest);
            self.make_room(budget);
        }
    }

    /// All that is kept, oldest first.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &ChatMessage> {
        self.0.iter().flatten()
    }

    /// Drops the contents of tool results and then whole exchanges, oldest first; of the present
    /// exchange at last the arguments of calls. What the model has not answered yet stays. False
    /// if all of that is not enough.
    pub(crate) fn make_room(&mut self, budget: usize) -> bool {
        let mut surplus = self.size().saturating_sub(budget);
        let seen = self.messages().count() - self.unanswered();
        let results = self.0.iter_mut().flatten().take(seen);
        for result in results.filter(|message| message.role == ChatRole::Tool) {
            if surplus == 0 {
                return true;
            }
            let mark = match result.content.starts_with(UNKNOWN) {
                true => DROPPED_UNKNOWN,
                false => DROPPED,
            };
            surplus = surplus.saturating_sub(replace(&mut result.content, mark));
        }
        while surplus > 0 && self.0.len() > 1 {
            surplus = surplus.saturating_sub(size(&self.0.remove(0)));
        }
        let seen = self.messages().count() - self.unanswered();
        let asked = self.0.iter_mut().flatten().take(seen);
        for call in asked.flat_map(|message| &mut message.tool_calls) {
            if surplus == 0 {
                return true;
            }
            surplus = surplus.saturating_sub(replace(&mut call.arguments, DROPPED_ARGUMENTS));
        }
        surplus == 0
    }

    /// How many messages at the end the model has not answered yet, with those that ask for the
    /// tool results among them.
    fn unanswered(&self) -> usize {
        let last = self.0.last().map_or(&[][..], Vec::as_slice);
        match last.iter().rposition(|one| one.role == ChatRole::Assistant) {
            // The model was done.
            Some(said) if said + 1 == last.len() && last[said].tool_calls.is_empty() => 0,
            Some(asked) => last.len() - asked,
            None => last.len(),
        }
    }

    fn size(&self) -> usize {
        self.0.iter().map(|exchange| size(exchange)).sum()
    }
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
    let texts = exchange.iter().map(|message| {
        let calls = message.tool_calls.iter();
        let calls = calls.map(|call| call.id.len() + call.name.len() + call.arguments.len());
        message.content.len() + calls.sum::<usize>() + MESSAGE_OVERHEAD
    });
    texts.sum()
}
