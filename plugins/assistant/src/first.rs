//! The state as versions with schema 1 wrote it.

use abide_plugin::llm::ChatMessage;
use serde::Deserialize;

use crate::Assistant;
use crate::settings::Settings;
use crate::transcript::Transcript;
use crate::window::Window;

/// What a conversation was: its exchanges, and nothing about what was dropped of it.
#[derive(Deserialize)]
pub(crate) struct First {
    /// Those that were added since have defaults.
    settings: Settings,
    transcript: Vec<Vec<ChatMessage>>,
}

impl From<First> for Assistant {
    fn from(first: First) -> Self {
        Self {
            settings: first.settings,
            transcript: Transcript::of(first.transcript),
            window: Window::default(),
        }
    }
}
