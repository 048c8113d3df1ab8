//! One page of a session's events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Event, TimelineName};

/// A page of events.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventsPage {
    pub items: Vec<Event>,
    /// What to send as `after` for the next page; none at the end.
    pub next: Option<u64>,
    /// The smallest cursor that can still be followed from.
    #[serde(default)]
    #[schema(required = true)]
    pub oldest: u64,
    /// The session's last cursor.
    #[serde(default)]
    #[schema(required = true)]
    pub last: u64,
    /// The session's timeline, to send with any of these cursors; none if its history was never cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineName>,
}
