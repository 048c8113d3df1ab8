//! The state as written by versions with schema 1.

use abide_plugin::llm::ChatMessage;
use serde::Deserialize;

use crate::Assistant;
use crate::settings::Settings;
use crate::transcript::Transcript;
use crate::window::Window;

/// The state of schema 1: its transcript has exchanges, but no count of dropped ones.
#[derive(Deserialize)]
pub(crate) struct First {
    /// Settings that were added since have defaults.
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
