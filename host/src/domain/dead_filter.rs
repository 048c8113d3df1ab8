//! Dead letters of all sessions: which are wanted, and a page of them.

use super::{DeadLetter, MessageId, Patterns, SessionId, UnixMillis};

/// Which ones are wanted.
#[derive(Clone, Debug)]
pub struct DeadFilter<'a> {
    /// Only those of sessions whose ids match.
    pub ids: &'a Patterns,
    /// Only those of this plugin's sessions.
    pub plugin: Option<&'a str>,
    /// Only those that died at this time or later.
    pub since: Option<UnixMillis>,
}

/// A dead letter among those of all sessions: its session and its message.
pub type DeadPlace = (SessionId, MessageId);

/// A page of them, by the session's id and then in the order in which their messages were received.
#[derive(Clone, Debug, Default)]
pub struct DeadPage {
    pub items: Vec<(SessionId, DeadLetter)>,
    /// The letter to continue after, if there may be more.
    pub next: Option<DeadPlace>,
}
