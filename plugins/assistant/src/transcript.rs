//! What was said, as much of it as the budget allows.

use abide_guest_sdk::Error;
use abide_guest_sdk::llm::ChatMessage;
use serde::{Deserialize, Serialize};

/// What a message costs beside its text, in bytes: about what its encoding adds.
const MESSAGE_OVERHEAD: usize = 64;

/// The messages of the conversation, oldest first, by exchange: what one turn heard and said.
/// An exchange is kept or dropped whole, for half of one misleads the model.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Transcript(Vec<Vec<ChatMessage>>);

impl Transcript {
    /// Begins an exchange with what came in, and drops the oldest ones to make room.
    pub(crate) fn begin(&mut self, heard: Vec<ChatMessage>, budget: usize) -> Result<(), Error> {
        let size = size(&heard);
        if size > budget {
            return Err(Error::new(format_args!(
                "The message takes {size} bytes, over the {budget} that this session's \
                 history_bytes allows: send a shorter one."
            )));
        }
        self.0.push(heard);
        self.trim(budget);
        Ok(())
    }

    /// Adds what was said to the exchange that was begun last.
    pub(crate) fn say(&mut self, said: ChatMessage, budget: usize) {
        match self.0.last_mut() {
            Some(exchange) => exchange.push(said),
            None => self.0.push(vec![said]),
        }
        self.trim(budget);
    }

    /// All that is kept, oldest first.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &ChatMessage> {
        self.0.iter().flatten()
    }

    fn trim(&mut self, budget: usize) {
        let mut kept = 0;
        let fitting = self.0.iter().rev().take_while(|exchange| {
            kept += size(exchange);
            kept <= budget
        });
        let surplus = self.0.len() - fitting.count();
        self.0.drain(..surplus);
    }
}

fn size(exchange: &[ChatMessage]) -> usize {
    let texts = exchange.iter().map(|message| {
        let calls = message.tool_calls.iter();
        let calls = calls.map(|call| call.id.len() + call.name.len() + call.arguments.len());
        message.content.len() + calls.sum::<usize>() + MESSAGE_OVERHEAD
    });
    texts.sum()
}
