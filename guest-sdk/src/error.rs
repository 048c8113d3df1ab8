//! The errors that the host returns, and the one that a plugin returns.

use std::error::Error as StdError;
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// Why a step has no result. The text is for humans and models, and names the remedy where there is
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepError {
    /// The operator has not granted this to the plugin.
    Denied(String),
    /// The arguments are invalid; calling again with the same ones is useless.
    Invalid(String),
    /// What the step needs cannot be reached now.
    Unavailable(String),
    /// The step took longer than its limit.
    Timeout(String),
    /// The request or the result is over a limit.
    TooLarge(String),
    /// The step began before an interruption, and whether it happened is unknown: neither a success
    /// nor a failure. Never returned for steps that can be repeated safely.
    UnknownOutcome(String),
    /// The other side answered with an error.
    Failed(String),
}

impl Display for StepError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (kind, text) = match self {
            Self::Denied(text) => ("denied", text),
            Self::Invalid(text) => ("invalid", text),
            Self::Unavailable(text) => ("unavailable", text),
            Self::Timeout(text) => ("timed out", text),
            Self::TooLarge(text) => ("too large", text),
            Self::UnknownOutcome(text) => ("outcome unknown", text),
            Self::Failed(text) => ("failed", text),
        };
        write!(f, "{kind}: {text}")
    }
}

impl StdError for StepError {}

/// Why a text or an event was not added to the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputError {
    /// The data is not a single JSON value, or the name is empty or over 128 bytes.
    Invalid(String),
    /// Over the operator's limit on the number or the bytes of events.
    TooLarge(String),
}

impl Display for OutputError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "output is invalid: {text}"),
            Self::TooLarge(text) => write!(f, "output is too large: {text}"),
        }
    }
}

impl StdError for OutputError {}

/// Why a timer was not set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerError {
    /// The name is empty or over 128 bytes.
    Invalid(String),
    /// Over the operator's limit on timers set at a time.
    TooMany(String),
}

impl Display for TimerError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "timer is invalid: {text}"),
            Self::TooMany(text) => write!(f, "too many timers: {text}"),
        }
    }
}

impl StdError for TimerError {}

/// Why a snapshot was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreError {
    /// A newer version of the plugin wrote the snapshot; the snapshot's schema.
    NewerSchema(u32),
    /// The snapshot is not one that this plugin writes; the reason.
    Invalid(String),
}

impl Display for RestoreError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerSchema(schema) => write!(
                f,
                "the snapshot has schema {schema}, which only a newer version of the plugin reads"
            ),
            Self::Invalid(text) => write!(f, "the snapshot is invalid: {text}"),
        }
    }
}

impl StdError for RestoreError {}

/// Why a plugin could not open a session or finish a turn: a text for whoever reads the session.
/// `?` converts step, output and timer errors and serde_json's; use [`Error::new`] for any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// Creates an error with the text of `reason`.
    pub fn new(reason: impl Display) -> Self {
        Self(reason.to_string())
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Error {}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<String> for Error {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<&str> for Error {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<StepError> for Error {
    fn from(error: StepError) -> Self {
        Self::new(error)
    }
}

impl From<OutputError> for Error {
    fn from(error: OutputError) -> Self {
        Self::new(error)
    }
}

impl From<TimerError> for Error {
    fn from(error: TimerError) -> Self {
        Self::new(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}
