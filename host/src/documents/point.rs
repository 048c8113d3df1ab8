//! Restore points, and what was made of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{
    Digest, LeftBehind, Point, PointAct, RewoundTo, SessionView, TimelineName, Timer, UnixMillis,
};

/// A state that a session can be rewound to, or copied from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PointBody {
    /// The cursor of its last event, which names it.
    pub cursor: u64,
    /// The timeline of that cursor; none if it is the session's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineName>,
    /// Whether it is the session's present state.
    pub present: bool,
    /// The turn after which the session was so; 0 before its first one.
    pub turn: u64,
    pub at: UnixMillis,
    /// The component that wrote the state.
    pub component: Digest,
    /// The guest's version of the state's encoding.
    pub schema: u32,
    /// The size of the state, in bytes.
    pub bytes: u64,
    /// The timers that were set.
    pub timers: Vec<Timer>,
    /// Whether the session ran on another component after it: such points are kept longer.
    pub before_change: bool,
    /// The act on the session before which this was its state, if it is kept for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_act: Option<PointAct>,
}

impl PointBody {
    pub fn of(point: Point, timeline: Option<TimelineName>, present: bool) -> Self {
        Self {
            cursor: point.cursor,
            timeline,
            present,
            turn: point.turn,
            at: point.taken_at,
            component: point.component,
            schema: point.schema,
            bytes: point.bytes,
            timers: point.timers,
            before_change: point.before_change,
            before_act: point.before_act,
        }
    }
}

/// A session that was rewound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RewoundSession {
    pub session: SessionView,
    /// What was undone.
    pub rewound: RewoundTo,
}

/// A session that is a copy of another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CopiedSession {
    pub session: SessionView,
    /// What the copy does not have. Its timers can be set anew by a message to it.
    pub left: LeftBehind,
    /// The cursor of the oldest event that it has: of a long history the end alone is copied.
    pub oldest: u64,
}
