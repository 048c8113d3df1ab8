//! The record by which a session goes back to an earlier state.

use serde::{Deserialize, Serialize};

use super::{Digest, LogPos, Owed, Replacement, StateReplaced, Timer, UnixMillis};

/// See [`Record::Rewound`](super::Record::Rewound). A snapshot is stored with this record: that of the point, once more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rewound {
    /// The position of the point.
    pub to: LogPos,
    /// The cursor of the point.
    pub cursor: u64,
    /// The turn after which the session was so.
    pub turn: u64,
    /// The component that wrote the point's snapshot.
    pub component: Digest,
    /// The snapshot's schema.
    pub schema: u32,
    /// The timers that were set since, and are not any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Timer>,
    /// The timers of that time that were cancelled since, and are set again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returned: Vec<Timer>,
    /// The timers of that time that have fired since, or were cancelled and would be due by now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fired: Vec<Timer>,
    /// What the guest must be told, beside the rewind.
    #[serde(default, skip_serializing_if = "Owed::is_none")]
    pub owed: Owed,
    /// How many of the undone turns have changed something outside, or may have.
    #[serde(default)]
    pub turns_with_effects: u64,
    /// Who asked for it: an access token's name, `config` or `@local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub at: UnixMillis,
}

impl Rewound {
    /// Returns what the guest is told of it.
    pub(super) fn replacement(&self) -> StateReplaced {
        StateReplaced {
            how: Replacement::Rewound,
            from: None,
            turn: self.turn,
            dropped: StateReplaced::timers(&self.dropped),
            fired: StateReplaced::timers(&self.fired),
            at: self.at,
        }
    }
}
