//! Buffered: the session's output. Subscribers see it once the turn has committed.

use serde::Serialize;

use crate::{OutputError, host};

/// Emits a message as the assistant of the conversation.
///
/// # Errors
/// If the text is over a limit.
pub fn text(text: impl AsRef<str>) -> Result<(), OutputError> {
    host::output::text(text.as_ref())
}

/// Emits an event for programs: a name of 1 to 128 bytes and any value that serializes to JSON.
///
/// # Errors
/// If the name is invalid, `data` cannot be written as JSON, or the event is over a limit.
pub fn event(name: &str, data: &impl Serialize) -> Result<(), OutputError> {
    let json =
        serde_json::to_string(data).map_err(|error| OutputError::Invalid(error.to_string()))?;
    host::output::event(name, &json)
}
