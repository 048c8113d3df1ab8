//! What is told of a damaged store.

use serde::{Deserialize, Serialize};

use super::SessionId;

/// How many sessions a summary names.
const SUMMARY_NAMES: usize = 10;

/// What can be read of a store, and what cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalvageReport {
    /// The number of sessions, closed ones included, that can be read at least in part.
    pub sessions: u64,
    /// How many of them are whole.
    pub whole: u64,
    /// The others, in the order of their ids.
    pub touched: Vec<TouchedSession>,
    pub damaged_files: Vec<DamagedFile>,
    /// What had been acknowledged and is in no file any more: it may belong to any session.
    pub missing: Option<String>,
    /// What else is lost.
    pub lost: Vec<String>,
    /// The size of what can be read, in bytes.
    pub bytes: u64,
}

/// A session of which a part cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TouchedSession {
    pub id: SessionId,
    pub fate: TouchedFate,
    /// What is lost of it.
    pub what: String,
}

/// What becomes of a session of which a part cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TouchedFate {
    /// It goes on: nothing that its turns need is lost.
    GoesOn,
    /// Its history is cut: it waits for `abide resume`, and its guest is told.
    Cut,
    /// Nothing but its name is left. The id is not used again.
    Gone,
}

/// A file that is damaged, or is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

impl DamagedFile {
    pub fn new(file: &str, what: &str) -> Self {
        Self {
            file: file.to_owned(),
            what: what.to_owned(),
        }
    }
}

impl SalvageReport {
    /// Returns what is lost, in one line that names the first sessions.
    pub fn summary(&self) -> String {
        let mut parts = vec![format!(
            "{} of {} sessions are whole",
            self.whole, self.sessions
        )];
        parts.extend(self.missing.clone());
        let named = self.touched.iter().take(SUMMARY_NAMES);
        parts.extend(named.map(|session| format!("`{}`: {}", session.id, session.what)));
        let more = self.touched.len().saturating_sub(SUMMARY_NAMES);
        if more > 0 {
            parts.push(format!("and {more} more sessions"));
        }
        parts.extend(self.lost.clone());
        parts.join("; ")
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.touched.is_empty()
            && self.damaged_files.is_empty()
            && self.missing.is_none()
            && self.lost.is_empty()
    }
}
