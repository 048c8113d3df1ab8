//! Everything has a limit. Each is a key under `[plugins.NAME.limits]`, with the default below.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the sessions of one plugin may use. Sizes in bytes.
///
/// Its form is stored, with the components that sessions may have to go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Linear memory of a guest, all its memories together.
    pub memory_bytes: u64,
    /// The time of a turn, from its beginning to its snapshot, steps included.
    pub turn_timeout: Duration,
    /// The processor time of a turn, which steps take no part of.
    pub compute: Duration,
    /// The time of one step (a model's answer, a tool's, an HTTP response).
    pub step_timeout: Duration,
    /// A snapshot's data, without its header.
    pub snapshot_bytes: u64,
    /// A message's text.
    pub message_bytes: u64,
    /// The arguments a session is created with.
    pub args_bytes: u64,
    /// Messages that wait for their turn.
    pub inbox: u32,
    /// Events (texts and custom events) that one turn may emit.
    pub events: u32,
    /// The size of one event's text or data; also of a step's result.
    pub event_bytes: u64,
    /// The size of all that one turn may emit: its events, and the texts of the timers that it sets.
    pub output_bytes: u64,
    /// Timers set at a time.
    pub timers: u32,
    /// Log lines of one turn; further ones are dropped and counted.
    pub log_lines: u32,
    /// Steps of one turn.
    pub steps: u32,
    /// The size of the results of one turn's steps together.
    pub journal_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            turn_timeout: Duration::from_secs(600),
            compute: Duration::from_secs(30),
            step_timeout: Duration::from_secs(300),
            snapshot_bytes: 1 << 20,
            message_bytes: 256 << 10,
            args_bytes: 64 << 10,
            inbox: 256,
            events: 1000,
            event_bytes: 256 << 10,
            output_bytes: 8 << 20,
            timers: 64,
            log_lines: 200,
            steps: 1000,
            journal_bytes: 16 << 20,
        }
    }
}

/// The limits that a guest can observe: what exceeds them is refused to it with a typed error. They
/// are recorded in the log with each turn's beginning: a turn that is replayed must be refused
/// exactly what it was refused before, whatever the operator has set since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLimits {
    /// See [`Limits::events`].
    pub events: u32,
    /// See [`Limits::event_bytes`].
    pub event_bytes: u64,
    /// See [`Limits::output_bytes`]; turns that began before there was this limit have none.
    #[serde(default = "no_limit")]
    pub output_bytes: u64,
    /// See [`Limits::timers`].
    pub timers: u32,
    /// See [`Limits::steps`].
    pub steps: u32,
}

fn no_limit() -> u64 {
    u64::MAX
}

impl Limits {
    /// Returns the limits that a guest can observe.
    pub fn seen_by_guest(&self) -> GuestLimits {
        GuestLimits {
            events: self.events,
            event_bytes: self.event_bytes,
            output_bytes: self.output_bytes,
            timers: self.timers,
            steps: self.steps,
        }
    }

    /// Returns these limits, with those that a guest can observe replaced.
    #[must_use]
    pub fn with(self, seen: Option<GuestLimits>) -> Self {
        let Some(seen) = seen else { return self };
        let GuestLimits {
            events,
            event_bytes,
            output_bytes,
            timers,
            steps,
        } = seen;
        Self {
            events,
            event_bytes,
            output_bytes,
            timers,
            steps,
            ..self
        }
    }
}

/// How many of the states of a session are kept, for it to go back to; those before operators' acts and
/// before changes of the component are kept besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointRules {
    /// How many of the last turns can be undone.
    pub turns: u32,
    /// The size of these points' snapshots together, in bytes.
    pub bytes: u64,
}

/// How long data is kept that is no longer needed to run sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events kept per session; older ones are trimmed.
    pub events: u64,
    /// How long an idempotency key is remembered.
    pub keys: Duration,
    /// Dead letters kept per session; the oldest are removed first.
    pub dead_letters: u64,
    /// Which states each session can go back to.
    pub points: PointRules,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: 10_000,
            keys: Duration::from_secs(24 * 3600),
            dead_letters: 1000,
            points: PointRules {
                turns: 16,
                bytes: 1 << 20,
            },
        }
    }
}
