//! Timelines: a session whose history was cut goes on in a new one, and a position in its events is
//! a cursor on a timeline.
//!
//! ```text
//!   the first    1 2 3 4 5 6 7     (6 and 7 are lost: the first timeline counts up to 5)
//!   t4kq90xd               6 7 8 9
//! ```
//!
//! What is made by counting may have been used for something else in the history that was lost. So
//! outside of the session's log its timeline is a part of it, on later timelines than the first:
//!
//! | counted | as it is shown | where it is made |
//! |---|---|---|
//! | cursors, ids of events | `T.N`; in JSON `timeline` beside `cursor` | `record_events.rs`, [`EventId`] |
//! | ids of messages, the guest's output included | `T.mN` | [`MessageId::on`](super::MessageId::on) |
//! | ids of approvals | `SESSION:T.TURN.STEP.PART` | [`ApprovalId::new`](super::ApprovalId::new) |
//! | ids of notices, of turns and of generations | `T.sN`, `T.nN` | [`Notice::id`](super::Notice::id) |
//! | keys of tool calls | `SESSION/T.TURN/...` | `session/step_executor.rs` |
//! | turns, steps, attempts | as they are; the events have the timeline | `lifecycle.rs` |
//!
//! Within one log all of them are unique without it, since a log only has the part of a timeline
//! that still counts: the store's keys hold plain numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TimelineName;

/// The number of earlier timelines that a session remembers. Positions on older ones are refused.
const EARLIER_MAX: usize = 32;

/// The timeline of a session, and those before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTimeline {
    /// The name of the present one; none on the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<TimelineName>,
    /// Those before it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<EarlierTimeline>,
}

/// A timeline that a cut has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EarlierTimeline {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<TimelineName>,
    /// The cursor of its last event that still counts.
    last: u64,
}

/// A position in a session's events, as clients know it: `N` on the first timeline, `T.N` on a
/// later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventId {
    /// None on the first timeline.
    pub timeline: Option<TimelineName>,
    pub cursor: u64,
}

impl EventId {
    /// Parses an id; none if no event can have it.
    pub fn parse(text: &str) -> Option<Self> {
        let (timeline, number) = match text.split_once('.') {
            None => (None, text),
            Some((name, number)) => (Some(TimelineName::parse(name)?), number),
        };
        // The parser of numbers would take a sign.
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let cursor = number.parse().ok().filter(|_| digits)?;
        Some(Self { timeline, cursor })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.timeline {
            None => self.cursor.fmt(f),
            Some(timeline) => write!(f, "{timeline}.{}", self.cursor),
        }
    }
}

/// A position that the session's log does not reach: of history that was lost, or never was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorAhead {
    /// The last cursor up to which what the client has seen can still count: it can be followed
    /// from, on the present timeline.
    pub last: u64,
    /// The present timeline; none if it is the first.
    pub timeline: Option<TimelineName>,
}

impl SessionTimeline {
    /// Whether it is the first, without a name.
    pub fn is_first(&self) -> bool {
        self.name.is_none() && self.earlier.is_empty()
    }

    /// Returns what they were when the session had `end` events.
    pub fn before(&self, end: u64) -> Self {
        let began = self.earlier.partition_point(|earlier| earlier.last < end);
        match self.earlier.get(began) {
            None => self.clone(),
            Some(present) => Self {
                name: present.name.clone(),
                earlier: self.earlier[..began].to_vec(),
            },
        }
    }

    /// Whether it can be that of a history of `end` events.
    pub(super) fn fits(&self, end: u64) -> bool {
        let lasts = self.earlier.iter().map(|earlier| earlier.last);
        self.earlier.len() <= EARLIER_MAX && lasts.chain([end]).is_sorted()
    }

    /// The name of the present timeline; none on the first.
    pub fn name(&self) -> Option<&TimelineName> {
        self.name.as_ref()
    }

    /// Begins a new timeline after the event `last`.
    pub(super) fn begin(&mut self, name: TimelineName, last: u64) {
        let name = self.name.replace(name);
        self.earlier.push(EarlierTimeline { name, last });
        let excess = self.earlier.len().saturating_sub(EARLIER_MAX);
        self.earlier.drain(..excess);
    }

    /// Returns the timeline on which an event was recorded; none for the first. Of timelines that
    /// the session no longer remembers, the first that it does: their events belong to its history.
    pub fn of(&self, cursor: u64) -> Option<&TimelineName> {
        let earlier = self.earlier.iter().find(|earlier| cursor <= earlier.last);
        earlier.map_or(self.name.as_ref(), |earlier| earlier.name.as_ref())
    }

    /// Returns the cursor of a client's position if the client's history up to there is that of
    /// the session, whose last event is `end`.
    pub fn locate(&self, position: &EventId, end: u64) -> Result<u64, CursorAhead> {
        // The beginning is the same on each timeline.
        if position.cursor == 0 {
            return Ok(0);
        }
        let earlier = &self.earlier;
        let known = match position.timeline == self.name {
            true => Some(end),
            false => earlier
                .iter()
                .find(|earlier| earlier.name == position.timeline)
                .map(|earlier| earlier.last),
        };
        match known {
            Some(last) if position.cursor <= last => Ok(position.cursor),
            // Nothing is known of such a timeline: the present one is to be seen from its beginning.
            last => Err(CursorAhead {
                last: last.unwrap_or_else(|| earlier.last().map_or(0, |earlier| earlier.last)),
                timeline: self.name.clone(),
            }),
        }
    }
}
