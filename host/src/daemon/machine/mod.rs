//! The state machine that decides how a serving worker restarts and stops. It is pure: it takes an
//! event and returns actions, without a clock or a system call.
//!
//! ```text
//!            Decided(Restart)             Accepted                StandbyReady           Tried
//!  Serving -------------------> Accepting ---------> Preparing -----------------> Trying -----> Recording
//!   ^  ^                            | Refused            | StandbyFailed            | refused    | (active sessions)
//!   |  +----------------------------+--------------------+--------------------------+------------+ store refuses
//!   |                                                                                            | ActiveRecorded
//!   |      StandbyFailed                     store refuses the last write                        v
//!   +------------------------- Draining ---------> LastWrite <------------------------------- Draining
//!   +----------------------------------------------/ |                       Drained
//!                                                    v
//!   Stop, in any phase above                      Leaving (restart)
//!      |
//!      v                     the stop is recorded, nothing runs
//!   Stopping -----------------------------------> Leaving (stop)
//! ```
//!
//! The effect of each request, by what is in progress:
//!
//! | | serving | a restart is in progress | stopping | leaving |
//! |---|---|---|---|---|
//! | a change of the file, SIGHUP | plan: nothing, hot, restart, refused | kept as pending: the successor reads the file as it is by then; if the restart is given up, the change is planned again | nothing: the next start reads the file | as before |
//! | `abide restart` | a restart | the reply names the restart in progress; kept as above | refused: the daemon stops | as before |
//! | SIGTERM, SIGINT, `abide drain` | drain, then stop | the restart is given up; a drain in progress continues and leads to the stop | the same drain; a second signal makes the supervisor end everything at once | the successor of a restart stops; a stop continues |
//!
//! Invariants that hold for any sequence of events (tested with random histories):
//!
//! - of a requested standby, exactly one is true: it takes over, or it reports its failure, or its
//!   restart is cancelled; unless it takes over, the restart is recorded as refused;
//! - the drain for a restart begins only after the active sessions are recorded, and nothing is
//!   handed over before the store has accepted one more write;
//! - a change that arrives during a restart is planned again if that restart is given up;
//! - once a stop has begun, nothing leads back to serving;
//! - a change that failed only because the store refused a write is retried as soon as the store
//!   accepts writes.

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
