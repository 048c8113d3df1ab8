//! The facts about the ways back of sessions: what was asked for, and what the daemon answered.

/// A rewind that was asked for, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewindAsked {
    /// The cursor of the point.
    pub to: u64,
    /// The acknowledgement; `None` if there was no answer, so that nobody knows whether it was done.
    pub answer: Option<RewindAnswer>,
}

/// The acknowledgement of a rewind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewindAnswer {
    /// The cursor of the session's last event then: the rewind's own.
    pub cursor: u64,
    /// The turn after which the session was so.
    pub turn: u64,
}

/// A restore point that the daemon has listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPoint {
    pub cursor: u64,
    pub turn: u64,
}

/// How a session came to be that is a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFacts {
    /// The session that was copied.
    pub source: String,
    pub how: CopyKind,
    /// The cursor of the point; `None` if the present state was copied, whichever that was by then.
    pub at: Option<u64>,
    /// The cursor of the source's present state, listed before anybody asked for the copy.
    pub present: u64,
}

/// How a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    Forked,
    Imported,
}

impl CopyKind {
    /// Returns its name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forked => "forked",
            Self::Imported => "imported",
        }
    }
}
