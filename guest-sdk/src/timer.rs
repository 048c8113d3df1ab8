//! Buffered: delayed messages of the session to itself. They survive restarts; each is delivered
//! once, as a message with role `timer`.

use std::time::Duration;

use crate::{TimerError, host};

/// Sets a timer, whose name has 1 to 128 bytes, to `after` from the turn's clock, in whole
/// milliseconds. A timer of the same name is replaced.
///
/// # Errors
/// If the name is invalid or too many timers are set.
pub fn set(name: &str, after: Duration, text: impl AsRef<str>) -> Result<(), TimerError> {
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    host::timer::set(name, after_ms, text.as_ref())
}

/// Removes the timer of that name, if there is one.
pub fn cancel(name: &str) {
    host::timer::cancel(name);
}
