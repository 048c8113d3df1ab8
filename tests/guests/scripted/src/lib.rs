//! A guest that does what a script says and tells of each act, for the chaos tests.
//!
//! A message's text is one [script](script::Script) in JSON, a timer's message too. Its acts are
//! done in order. Each tells of itself in a custom event `act`, when its result is there; a script
//! ends with the text `done <id> #<turn>`, where the number is counted in the session's state: so
//! whoever reads the events knows what ran, how often, and whether snapshot and events were
//! committed together. A recovery message is told of as a custom event `notice`, word of turns that
//! were stopped as `stopped`, a timer's message as `timer`.

mod acts;
mod script;

use abide_plugin::{Error, Message, Plugin, export};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Scripted {
    /// Turns that ended well, the present one included.
    turns: u64,
    /// What it was told to hold.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    held: String,
}

impl Plugin for Scripted {
    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        self.turns += 1;
        let mut show = acts::Show::new(self.turns, &mut self.held);
        for message in input {
            show.take(message)?;
        }
        Ok(())
    }
}

export!(Scripted);

#[cfg(test)]
mod tests;
