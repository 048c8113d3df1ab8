//! A guest that performs scripts and reports each act, for the chaos tests.
//!
//! The text of a message, and of a timer's message, is one [script](script::Script) in JSON. Its
//! acts are performed in order. Each is reported in a custom event `act` once its result is known;
//! a script ends with the text `done <id> #<turn>`, where the number is counted in the session's
//! state. The events therefore show what ran, how often, and whether snapshot and events were
//! committed together. A recovery message is reported as a custom event `notice`, a message about
//! stopped turns as `stopped`, a timer's message as `timer`.

mod acts;
#[cfg(target_family = "wasm")]
mod component;
pub mod script;

use abide_plugin::{Error, Message, Plugin};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Scripted {
    /// Number of completed turns, including the current one.
    turns: u64,
    /// The ballast of the last `hold` act.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    held: String,
}

/// Natively, only its type is checked.
#[cfg(not(target_family = "wasm"))]
const _: abide_plugin::Instance<Scripted> = abide_plugin::Instance::new();

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

#[cfg(test)]
mod tests;
