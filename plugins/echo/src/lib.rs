//! The smallest plugin: answers every message with its turn's number, its role and its text, so it
//! shows what a guest sees.

use abide_plugin::{Error, Message, Plugin, export, output};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Echo {
    turns: u64,
}

impl Plugin for Echo {
    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        self.turns += 1;
        for message in input {
            output::text(format!(
                "#{} {}: {}",
                self.turns, message.role, message.text
            ))?;
        }
        Ok(())
    }
}

export!(Echo);

#[cfg(test)]
mod tests;
