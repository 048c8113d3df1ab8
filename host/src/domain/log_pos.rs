//! Positions in a session's log.

use serde::{Deserialize, Serialize};

/// The position of a record in its session's log: after `cursor` events, as record number `seq`.
/// Both only grow, so positions order as records do, and the record that holds event `n` is the
/// last one whose `cursor` is below `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPos {
    /// The number of events in the records before this one.
    pub cursor: u64,
    /// The number of records before this one.
    pub seq: u64,
}
