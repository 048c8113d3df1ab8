//! The chat turn that Abide and its rivals are compared by: a session keeps its last 20 messages
//! and counts its turns; a turn answers with `{"turn":N,"kept":M}`.

use std::collections::VecDeque;

use abide_plugin::{Error, Message, Plugin, Role, export, output};
use serde::{Deserialize, Serialize};

/// Number of recent messages that a session keeps.
const KEPT: usize = 20;

#[derive(Default, Serialize, Deserialize)]
struct Chat {
    turn: u64,
    messages: VecDeque<String>,
}

impl Plugin for Chat {
    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        self.turn += 1;
        // The rivals receive no recovery messages, so do not keep Abide's either.
        let messages = input.iter().filter(|message| message.role == Role::User);
        self.messages
            .extend(messages.map(|message| message.text.clone()));
        let excess = self.messages.len().saturating_sub(KEPT);
        self.messages.drain(..excess);
        let (turn, kept) = (self.turn, self.messages.len());
        output::text(format!("{{\"turn\":{turn},\"kept\":{kept}}}"))?;
        Ok(())
    }
}

export!(Chat);

#[cfg(test)]
mod tests;
