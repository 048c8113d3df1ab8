//! An agent that outlives the daemon: a conversation with a language model that may use tools.
//!
//! The state consists of the settings that the session was created with, the transcript, and the
//! estimate of the model's window. Each turn adds its messages to the transcript and asks the
//! model; runs the tools that the model requests, adds the results and the messages that arrived
//! meanwhile, and asks again; and finally emits the model's answer.

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
    /// 2: the transcript counts what was dropped, and there is a window.
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
