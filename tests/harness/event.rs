//! A session's event as a client reads it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One durable event. Deserialized independently of the daemon's types, because the JSON is the
/// contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in the session, from 1.
    pub cursor: u64,
    /// The timeline of that number; none on the session's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<String>,
    /// `message`, `turn`, `notice`, `tool`, `approval`, `timeline`, `rewound`, `origin` or `custom`.
    pub kind: String,
    /// The turn that it belongs to.
    pub turn: Option<u64>,
    /// Its time, as RFC 3339.
    pub at: String,
    /// The author of a message.
    #[serde(default)]
    pub from: Option<String>,
    /// The text of a message.
    #[serde(default)]
    pub text: Option<String>,
    /// The message's id; for a turn, the id of the message that it consumed.
    #[serde(default)]
    pub message: Option<String>,
    /// Further messages that a turn received from the inbox while it ran.
    #[serde(default)]
    pub received: Vec<String>,
    /// The status of a turn.
    #[serde(default)]
    pub status: Option<String>,
    /// Why a turn failed.
    #[serde(default)]
    pub reason: Option<String>,
    /// The cost of a turn's model calls.
    #[serde(default)]
    pub usage: Option<Value>,
    /// Why the daemon restarted.
    #[serde(default)]
    pub cause: Option<String>,
    /// The generation that a notice reports.
    #[serde(default)]
    pub generation: Option<u64>,
    /// The name of a custom event or a tool.
    #[serde(default)]
    pub name: Option<String>,
    /// The value of a custom event.
    #[serde(default)]
    pub data: Option<Value>,
    /// The cursor of the point that the session was rewound to.
    #[serde(default)]
    pub to_cursor: Option<u64>,
    /// The turn after which the session was so.
    #[serde(default)]
    pub to_turn: Option<u64>,
    /// The names of timers that a rewind has dropped.
    #[serde(default)]
    pub dropped_timers: Vec<String>,
    /// The names of timers that have fired since the point.
    #[serde(default)]
    pub fired_timers: Vec<String>,
    /// How a copy was made: `forked` or `imported`.
    #[serde(default)]
    pub how: Option<String>,
    /// The session that was copied.
    #[serde(default)]
    pub session: Option<String>,
    /// The timeline that ended before this event.
    #[serde(default)]
    pub previous: Option<Value>,
}

impl Event {
    /// Returns its id in a stream.
    pub fn id(&self) -> String {
        match &self.timeline {
            None => self.cursor.to_string(),
            Some(timeline) => format!("{timeline}.{}", self.cursor),
        }
    }

    /// Returns its text, or an empty string.
    pub fn said(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Returns its time in milliseconds since the Unix epoch; 0 if it cannot be parsed.
    pub fn at_ms(&self) -> u64 {
        let at: Option<jiff::Timestamp> = self.at.parse().ok();
        at.and_then(|at| at.as_millisecond().try_into().ok())
            .unwrap_or_default()
    }

    /// Returns whether it is a message from that author.
    pub fn is_from(&self, from: &str) -> bool {
        self.kind == "message" && self.from.as_deref() == Some(from)
    }

    /// Returns whether it reports this status of a turn.
    pub fn is_turn(&self, status: &str) -> bool {
        self.kind == "turn" && self.status.as_deref() == Some(status)
    }

    /// Returns whether it reports that the turn over that message has completed or failed.
    pub fn ends(&self, message: &str) -> bool {
        (self.is_turn("completed") || self.is_turn("failed"))
            && self.message.as_deref() == Some(message)
    }
}
