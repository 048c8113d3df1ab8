//! An agent that outlives the daemon: a conversation with a language model that may use tools.
//!
//! The state is the settings that the session was created with, the transcript, and what is known
//! of the model's window. Each turn puts its messages into the transcript and asks the model; calls
//! the tools that the model asks for, tells it the results and what else came in meanwhile, and
//! asks again; and says what the model answers in the end.

mod first;
mod images;
mod results;
mod settings;
mod stop;
mod toolbox;
mod transcript;
mod turn;
mod weight;
mod window;

use abide_plugin::{Context, Error, Message, Plugin, decode, export};
use serde::{Deserialize, Serialize};

use crate::first::First;
use crate::settings::Settings;
use crate::transcript::Transcript;
use crate::turn::Turn;
use crate::window::Window;

#[derive(Default, Serialize, Deserialize)]
struct Assistant {
    settings: Settings,
    transcript: Transcript,
    window: Window,
}

impl Plugin for Assistant {
    /// 2: the transcript tells what was dropped of it, and there is a window.
    const SCHEMA: u32 = 2;

    fn open(&mut self, context: &Context) -> Result<(), Error> {
        self.settings = context.read_args()?;
        Ok(())
    }

    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        let (transcript, window) = (&mut self.transcript, &mut self.window);
        Turn::begin(&self.settings, transcript, window, input)?.run()
    }

    fn migrate(schema: u32, data: &[u8]) -> Result<Self, Error> {
        match schema {
            1 => decode::<First>(data).map(Into::into),
            _ => Err(Error::new(format_args!(
                "there never was a schema {schema}"
            ))),
        }
    }
}

export!(Assistant);

#[cfg(test)]
mod agent_tests;
#[cfg(test)]
mod long_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcript_tests;
#[cfg(test)]
mod whole_tests;
