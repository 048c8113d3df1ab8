//! An agent that outlives the daemon: a conversation with a language model that may use tools.
//!
//! The state is the settings that the session was created with and the transcript. Each turn
//! puts its messages into the transcript and asks the model; calls the tools that the model asks
//! for, tells it the results and what else came in meanwhile, and asks again; and says what the
//! model answers in the end.

mod results;
mod settings;
mod stop;
mod toolbox;
mod transcript;
mod turn;

use abide_guest_sdk::{Context, Error, Message, Plugin, export};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::transcript::Transcript;
use crate::turn::Turn;

#[derive(Default, Serialize, Deserialize)]
struct Assistant {
    settings: Settings,
    transcript: Transcript,
}

impl Plugin for Assistant {
    fn open(&mut self, context: &Context) -> Result<(), Error> {
        self.settings = context.read_args()?;
        Ok(())
    }

    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        Turn::begin(&self.settings, &mut self.transcript, input)?.run()
    }
}

export!(Assistant);

#[cfg(test)]
mod agent_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole_tests;
