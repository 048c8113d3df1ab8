//! The machine's deadlines and pauses, in milliseconds.

use std::time::Duration;

use super::event::Millis;

/// How long a standby may prepare. Long, since no client waits for it.
pub(in crate::supervisor) const START_DEADLINE_MS: Millis = 120_000;
/// How long a worker that was ordered to open the store may take to serve, while clients wait.
pub(in crate::supervisor) const SERVE_DEADLINE_MS: Millis = 30_000;
/// The time that is added to a worker's own stop budget before it is killed.
pub(in crate::supervisor) const STOP_MARGIN_MS: Millis = 5_000;
/// The stop budget of a worker that has not reported its own yet.
pub(in crate::supervisor) const DEFAULT_STOP_BUDGET_MS: Millis = 30_000;
/// The largest stop budget that is accepted from a worker, a day; larger ones are capped.
pub(in crate::supervisor) const MAX_STOP_BUDGET_MS: Millis = 24 * 3600 * 1000;
/// How long a worker that has announced its exit may take to exit.
pub(in crate::supervisor) const EXIT_DEADLINE_MS: Millis = 5_000;
/// How long a worker may stay alive after it has closed its link.
pub(in crate::supervisor) const SILENT_DEADLINE_MS: Millis = 1_000;
/// The maximum time between two `Alive` messages of a worker that has sent one.
pub(in crate::supervisor) const ALIVE_TIMEOUT_MS: Millis = 15_000;
/// A worker that dies within this time after `Serving` counts as one that failed to start.
pub(in crate::supervisor) const SETTLED_MS: Millis = 10_000;
/// The first pause between two failed starts; each further pause is twice as long.
pub(in crate::supervisor) const BACKOFF_FIRST_MS: Millis = 100;
/// The longest pause between two failed starts.
pub(in crate::supervisor) const BACKOFF_MAX_MS: Millis = 60_000;
/// How many workers in a row may die of a signal from outside, each within [`SETTLED_MS`], before the pauses
/// grow.
pub(in crate::supervisor) const OUTSIDE_FREE: u32 = 10;
/// The longest pause after such deaths, which are not the worker's fault.
pub(in crate::supervisor) const OUTSIDE_MAX_MS: Millis = 5_000;
/// What the log says then.
pub(in crate::supervisor) const OUTSIDE_REMEDY: &str =
    "; see who sends the signal (a watchdog for memory such as systemd-oomd, a limit, a script)";
/// How many workers in a row may die of a SIGKILL from nobody knows where before there are pauses.
pub(in crate::supervisor) const UNACCOUNTED_FREE: u32 = 3;
/// A worker that has served for this long before such a death ends the row.
pub(in crate::supervisor) const UNACCOUNTED_SETTLED_MS: Millis = 60_000;
/// The first pause after that many; each further pause is twice as long.
pub(in crate::supervisor) const UNACCOUNTED_FIRST_MS: Millis = 1_000;
/// The longest of these pauses: clients wait meanwhile.
pub(in crate::supervisor) const UNACCOUNTED_MAX_MS: Millis = 30_000;

/// The time that the supervisor adds to a worker's stop budget before it kills the worker.
pub const STOP_MARGIN: Duration = Duration::from_millis(STOP_MARGIN_MS);
/// The maximum time between two [`Alive`](crate::supervisor::FromWorker::Alive) messages of a
/// worker that has sent one.
pub const ALIVE_TIMEOUT: Duration = Duration::from_millis(ALIVE_TIMEOUT_MS);
