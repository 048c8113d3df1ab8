//! The machine's times, in milliseconds.

use std::time::Duration;

use super::event::Millis;

/// How long a standby may prepare: nobody waits for it.
pub(in crate::supervisor) const START_DEADLINE_MS: Millis = 120_000;
/// How long a worker that was told to open the store may take to serve: clients wait.
pub(in crate::supervisor) const SERVE_DEADLINE_MS: Millis = 30_000;
/// What is added to a worker's own stop budget before it is killed.
pub(in crate::supervisor) const STOP_MARGIN_MS: Millis = 5_000;
/// The stop budget of a worker that has not told its own yet.
pub(in crate::supervisor) const DEFAULT_STOP_BUDGET_MS: Millis = 30_000;
/// The largest stop budget that is believed: a day.
pub(in crate::supervisor) const MAX_STOP_BUDGET_MS: Millis = 24 * 3600 * 1000;
/// How long a worker that has said goodbye may take to exit.
pub(in crate::supervisor) const EXIT_DEADLINE_MS: Millis = 5_000;
/// How long a worker may live on after it has closed its link.
pub(in crate::supervisor) const SILENT_DEADLINE_MS: Millis = 1_000;
/// How long a worker that has said `Alive` once may then be silent.
pub(in crate::supervisor) const ALIVE_TIMEOUT_MS: Millis = 15_000;
/// A worker that dies within this time after `Serving` counts as one that failed to start.
pub(in crate::supervisor) const SETTLED_MS: Millis = 10_000;
/// The first pause between two failed starts; it doubles.
pub(in crate::supervisor) const BACKOFF_FIRST_MS: Millis = 100;
/// The longest pause between two failed starts.
pub(in crate::supervisor) const BACKOFF_MAX_MS: Millis = 60_000;

/// What the supervisor adds to a worker's stop budget before it kills it.
pub const STOP_MARGIN: Duration = Duration::from_millis(STOP_MARGIN_MS);
/// How long a worker that has said [`FromWorker::Alive`](crate::supervisor::FromWorker::Alive) once
/// may then be silent.
pub const ALIVE_TIMEOUT: Duration = Duration::from_millis(ALIVE_TIMEOUT_MS);
