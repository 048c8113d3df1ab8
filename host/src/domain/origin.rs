//! The record with which a session begins that is a copy of another one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Digest, Generation, Owed, Replacement, SessionId, StateReplaced, TimelineName, UnixMillis,
};

/// See [`Record::Origin`](super::Record::Origin). The snapshot that the copy begins with is stored with this record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// A fork or an import.
    pub how: Replacement,
    /// The session that was copied.
    pub session: SessionId,
    /// The timeline that begins with this record, for an import: its history may go on elsewhere under the
    /// same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineName>,
    /// The timeline of the copied history; none if it is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<TimelineName>,
    pub plugin: String,
    /// The arguments, as one JSON value.
    pub args: String,
    pub labels: BTreeMap<String, String>,
    /// The generation that made the copy.
    pub generation: Generation,
    /// The turn after which the session was so.
    pub turn: u64,
    /// The number of turns that had completed.
    pub turns: u64,
    /// The number of the last turn of the copied history.
    pub last_turn: u64,
    /// The component that wrote the snapshot.
    pub component: Digest,
    /// The snapshot's schema.
    pub schema: u32,
    /// The names of the timers that were set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub timers: String,
    /// What the guest must be told, beside the copy.
    #[serde(default, skip_serializing_if = "Owed::is_none")]
    pub owed: Owed,
    /// Who asked for it: an access token's name, `config` or `@local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub at: UnixMillis,
}

impl Origin {
    /// Returns what the guest is told of it.
    pub(super) fn replacement(&self) -> StateReplaced {
        StateReplaced {
            how: self.how,
            from: Some(self.session.clone()),
            turn: self.turn,
            dropped: self.timers.clone(),
            fired: String::new(),
            at: self.at,
        }
    }
}
