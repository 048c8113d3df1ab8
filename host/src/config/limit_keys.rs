//! The keys of a plugin's limits, as they are written in the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Size, Time};
use crate::domain::Limits;

/// What each session of a plugin may use.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitKeys {
    /// Linear memory of a guest, all its memories together.
    pub(super) memory: Size,
    /// A turn's time, from its beginning to its snapshot, steps included.
    pub(super) turn_timeout: Time,
    /// The time that a turn computes, on one processor; steps and waiting do not count.
    pub(super) compute: Time,
    /// The time of one step (a model's answer, a tool's, an HTTP response).
    pub(super) step_timeout: Time,
    /// A snapshot's data, without its header.
    pub(super) snapshot: Size,
    /// A message's text.
    pub(super) message: Size,
    /// The arguments a session is created with.
    pub(super) args: Size,
    /// Messages that wait for their turn.
    pub(super) inbox: u32,
    /// Events (texts and custom events) that one turn may emit.
    pub(super) events: u32,
    /// One event's text or data; also a step's result.
    pub(super) event: Size,
    /// All that one turn may emit: its events, and the texts of the timers that it sets.
    pub(super) output: Size,
    /// Timers set at a time.
    pub(super) timers: u32,
    /// Log lines of one turn; further ones are dropped and counted.
    pub(super) log_lines: u32,
    /// Steps of one turn.
    pub(super) steps: u32,
    /// What the results of one turn's steps may weigh together; they are kept until the turn after
    /// it commits.
    pub(super) journal: Size,
}

impl Default for LimitKeys {
    fn default() -> Self {
        let Limits {
            memory_bytes,
            turn_timeout,
            compute,
            step_timeout,
            snapshot_bytes,
            message_bytes,
            args_bytes,
            inbox,
            events,
            event_bytes,
            output_bytes,
            timers,
            log_lines,
            steps,
            journal_bytes,
        } = Limits::default();
        Self {
            memory: Size(memory_bytes),
            turn_timeout: Time(turn_timeout),
            compute: Time(compute),
            step_timeout: Time(step_timeout),
            snapshot: Size(snapshot_bytes),
            message: Size(message_bytes),
            args: Size(args_bytes),
            inbox,
            events,
            event: Size(event_bytes),
            output: Size(output_bytes),
            timers,
            log_lines,
            steps,
            journal: Size(journal_bytes),
        }
    }
}
