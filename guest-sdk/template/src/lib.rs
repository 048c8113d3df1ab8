//! An Abide plugin.
//!
//! ```sh
//! cargo test
//! rustup target add wasm32-wasip2 # once
//! cargo build --release --target wasm32-wasip2
//! ```

use abide_plugin::{Context, Error, Message, Plugin, Role, export, output};
use serde::{Deserialize, Serialize};

/// What a client may give when it creates a session: `{"name": "Ada"}`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Args {
    name: String,
}

/// The session's state. It survives turns, restarts and crashes; nothing else does.
#[derive(Default, Serialize, Deserialize)]
struct Session {
    args: Args,
    heard: Vec<String>,
}

impl Plugin for Session {
    fn open(&mut self, context: &Context) -> Result<(), Error> {
        self.args = context.read_args()?;
        Ok(())
    }

    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        for message in input {
            match message.role {
                Role::User => {
                    self.heard.push(message.text.clone());
                    let (name, count) = (&self.args.name, self.heard.len());
                    output::text(format!("{name} said {count} things: {:?}", self.heard))?;
                }
                // The state already holds everything: a restart needs no answer.
                Role::System => {}
                role => return Err(format!("{role} messages are not for this plugin").into()),
            }
        }
        Ok(())
    }
}

export!(Session);

#[cfg(test)]
mod tests;
