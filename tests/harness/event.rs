//! A session's event as a client reads it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One durable event. Read on its own terms, not with the daemon's types: the JSON is the
/// contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in the session, from 1.
    pub cursor: u64,
    /// `message`, `turn`, `notice`, `tool`, `approval` or `custom`.
    pub kind: String,
    /// The turn that it belongs to.
    pub turn: Option<u64>,
    /// When, as RFC 3339.
    pub at: String,
    /// Who said it.
    #[serde(default)]
    pub from: Option<String>,
    /// What was said.
    #[serde(default)]
    pub text: Option<String>,
    /// The message, or the one that a turn consumed.
    #[serde(default)]
    pub message: Option<String>,
    /// Further messages that a turn took from the inbox while it ran.
    #[serde(default)]
    pub received: Vec<String>,
    /// How far a turn is.
    #[serde(default)]
    pub status: Option<String>,
    /// Why a turn failed.
    #[serde(default)]
    pub reason: Option<String>,
    /// What a turn's model calls cost.
    #[serde(default)]
    pub usage: Option<Value>,
    /// Why the daemon restarted.
    #[serde(default)]
    pub cause: Option<String>,
    /// The generation that a notice tells of.
    #[serde(default)]
    pub generation: Option<u64>,
    /// A custom event's or a tool's name.
    #[serde(default)]
    pub name: Option<String>,
    /// A custom event's value.
    #[serde(default)]
    pub data: Option<Value>,
}

impl Event {
    /// Its text, or nothing.
    pub fn said(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// When, in milliseconds since the Unix epoch; 0 if that cannot be read.
    pub fn at_ms(&self) -> u64 {
        let at: Option<jiff::Timestamp> = self.at.parse().ok();
        at.and_then(|at| at.as_millisecond().try_into().ok())
            .unwrap_or_default()
    }

    /// Whether it is a message from there.
    pub fn is_from(&self, from: &str) -> bool {
        self.kind == "message" && self.from.as_deref() == Some(from)
    }

    /// Whether it says that a turn has this status.
    pub fn is_turn(&self, status: &str) -> bool {
        self.kind == "turn" && self.status.as_deref() == Some(status)
    }

    /// Whether it says that the turn over that message has ended, well or not.
    pub fn ends(&self, message: &str) -> bool {
        (self.is_turn("completed") || self.is_turn("failed"))
            && self.message.as_deref() == Some(message)
    }
}
