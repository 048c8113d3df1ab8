//! Buffered: lines for the operator's log. Lines over the limit are dropped and counted.

pub use crate::bindings::abide::session::log::Level;
use crate::host;

/// Writes one line at `level`.
pub fn write(level: Level, text: impl AsRef<str>) {
    host::log::write(level, text.as_ref());
}

/// Writes one line that helps to find the cause of an error.
pub fn debug(text: impl AsRef<str>) {
    write(Level::Debug, text);
}

/// Writes one line that is worth knowing.
pub fn info(text: impl AsRef<str>) {
    write(Level::Info, text);
}

/// Writes one line about something unexpected.
pub fn warn(text: impl AsRef<str>) {
    write(Level::Warn, text);
}

/// Writes one line about an error.
pub fn error(text: impl AsRef<str>) {
    write(Level::Error, text);
}
