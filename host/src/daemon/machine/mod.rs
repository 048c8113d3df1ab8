//! What a serving worker does about restarts and stops, decided purely: an event in, actions out,
//! no clock and no system call.
//!
//! ```text
//!            Decided(Restart)             Accepted                StandbyReady
//!  Serving -------------------> Accepting ---------> Preparing -----------------> Recording
//!   ^  ^                            | Refused            | StandbyFailed             | (active sessions)
//!   |  +----------------------------+--------------------+---------------------------+ store refuses
//!   |                                                                                | ActiveRecorded
//!   |      StandbyFailed                     store refuses the last write            v
//!   +------------------------- Draining ---------> LastWrite <------------------ Draining
//!   +----------------------------------------------/ |            Drained
//!                                                    v
//!   Stop, in any phase above                      Leaving (restart)
//!      |
//!      v                     the stop is recorded, nothing runs
//!   Stopping -----------------------------------> Leaving (stop)
//! ```
//!
//! What a request means, by what goes on:
//!
//! | | serving | a restart is under way | stopping | leaving |
//! |---|---|---|---|---|
//! | a change of the file, SIGHUP | plan: nothing, hot, restart, refused | kept: the successor reads the file as it then is; if the restart is given up, it is planned again | nothing: the next start reads the file | as before |
//! | `abide restart` | a restart | answered with the one under way; kept as above | refused: the daemon stops | as before |
//! | SIGTERM, SIGINT, `abide drain` | drain, then stop | the restart is given up; a drain under way goes on to the stop | the same drain; a second signal makes the supervisor end all at once | a restart's successor stops; a stop goes on |
//!
//! What always holds, whatever happens in whatever order (tested with random histories):
//!
//! - a standby that was asked for is either handed over to, or has reported its failure, or its
//!   restart is cancelled: exactly one of the three, and what is not handed over to is recorded as
//!   refused;
//! - a drain for a restart begins after the active sessions are recorded, and nothing is handed over
//!   before the store has taken one more write;
//! - a change that comes during a restart is planned again if that restart is given up;
//! - from a stop on, nothing leads back to serving;
//! - what only the store refused is tried again as soon as the store takes writes.

mod event;
#[cfg(test)]
mod proptests;
mod step;
#[cfg(test)]
mod tests;

pub(super) use event::{
    Departure, Outcome, RestartAction, RestartEvent, Setback, Trigger, UnderWay,
};
pub(super) use step::{Activity, RestartMachine};
