//! Timers: messages that a session sends to itself later.

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// A change to a session's timers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerOp {
    /// Sets a timer, and replaces one of the same name.
    Set(Timer),
    /// Removes a timer.
    Cancel {
        /// The timer's name.
        name: String,
    },
}

/// A message that a session sends to itself later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Timer {
    /// Unique within the session.
    pub name: String,
    /// When it is due.
    pub due: UnixMillis,
    pub text: String,
}
