//! What the engine is asked to do, and what comes of it.

use std::sync::Arc;

use super::component::Component;
use super::log::LogLine;
use crate::domain::{Capabilities, Limits, Output, SessionId, TimerOp, UnixMillis};

/// One call of a guest, with all that it depends on besides its snapshot and input: the same job
/// on the same snapshot and input, with the same answers to its steps, gives the same product.
#[derive(Clone)]
pub struct GuestJob {
    /// The guest.
    pub component: Arc<Component>,
    /// Who it is told to be.
    pub context: Context,
    /// What it may use.
    pub limits: Limits,
    /// What it may call.
    pub grants: Capabilities,
    /// The names of the session's timers that are set: they count towards `limits.timers`.
    pub timers: Vec<String>,
    /// Its clock at the start.
    pub now: UnixMillis,
    /// The seed of its randomness.
    pub seed: u64,
}

/// Who a session is, to its guest.
#[derive(Clone, Debug)]
pub struct Context {
    /// The session.
    pub session: SessionId,
    /// The plugin's name in the configuration.
    pub plugin: String,
    /// The client's arguments, one JSON value.
    pub args: String,
}

/// What a call of a guest gave. Nothing of it has happened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// What it said, in order.
    pub outputs: Vec<Output>,
    /// What became of its timers, at most one entry for a name.
    pub timers: Vec<TimerOp>,
    /// What it logged.
    pub logs: Vec<LogLine>,
    /// Lines that were over `limits.log_lines`.
    pub logs_dropped: u64,
    /// The version of the snapshot's encoding.
    pub schema: u32,
    /// The snapshot, at most `limits.snapshot` bytes.
    pub data: Vec<u8>,
}
