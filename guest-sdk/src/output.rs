//! Buffered: what the session says. Seen by subscribers when the turn has committed.

use serde::Serialize;

use crate::{OutputError, host};

/// Says something, as the assistant of the conversation.
///
/// # Errors
/// If it is over a limit.
pub fn text(text: impl AsRef<str>) -> Result<(), OutputError> {
    host::output::text(text.as_ref())
}

/// Emits an event for programs: a name of 1 to 128 bytes and anything that JSON can hold.
///
/// # Errors
/// If the name is invalid, `data` is not JSON, or it is over a limit.
pub fn event(name: &str, data: &impl Serialize) -> Result<(), OutputError> {
    let json =
        serde_json::to_string(data).map_err(|error| OutputError::Invalid(error.to_string()))?;
    host::output::event(name, &json)
}
