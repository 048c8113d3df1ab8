//! The supervisor's decisions as a pure state machine: events in, actions out, no clock and no
//! system calls.
//!
//! ```text
//!                first worker dies: its exit code
//!           +------------------------------------------------+
//!           |                                                v
//!   new --> Starting --Serving--> Serving --Stopped----> Stopping --all gone--> Over (Exit)
//!           ^  ^  |                 |  |                 ^   ^
//!           |  |  |                 |  +--SIGTERM, ^C----+   |
//!           |  |  +--dies---+   dies|                        |
//!           |  |            v       v                        |
//!           |  +-------- Clearing <-+ (no ready standby)     |
//!           |   all gone, backoff over    --SIGTERM, ^C------+
//!           |
//!           +--Released, or died with a ready standby: Go
//!
//!   the standby, within Serving:
//!
//!   None --Replace--> Waiting --no other worker lives--> Preparing --StandbyReady--> Ready
//!     ^                                                      |                         |
//!     +---- StandbyFailed, CancelReplace, dies, too slow ----+-------------------------+
//! ```
//!
//! The effect of signals, by phase:
//!
//! | | Starting, Serving | Clearing | Stopping |
//! |---|---|---|---|
//! | SIGTERM, SIGINT | the worker is sent `Stop` and has its stop budget; a standby is killed | the supervisor exits once all workers are gone | the first signal after a worker's own stop is only recorded; a second kills all workers, exit code 1 |
//! | SIGHUP | passed on to the worker | ignored: the next worker compares its config with the file anyway | ignored |
//!
//! Invariants, whatever workers send (tested with random histories):
//!
//! - at most one worker has been ordered to open the store and has neither released it nor died;
//! - at most two workers are alive;
//! - a replacement for a dead worker runs on the config of the last `Serving`; or, if a worker died
//!   by its own doing on a config that had not passed probation, on the last one that had;
//! - while no worker is alive, there is a deadline, or the supervisor exits.
//!
//! All deadlines of workers are of one kind: the time at which a worker is killed, and the reason
//! (`Workers::due`).

mod event;
mod exits;
mod limits;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod rollbacks;
mod step;
#[cfg(test)]
mod tests;
mod worker_messages;
mod workers;

pub(super) use event::{
    Action, ExitStatus, MachineEvent, Millis, Replacement, SpawnMode, SupervisorMessage, WorkerId,
    WorkerMessage,
};
pub use limits::{ALIVE_TIMEOUT, STOP_MARGIN};
pub(super) use step::Machine;
pub use workers::{KILLED_BY_UNKNOWN, KILLED_FOR_MEMORY};
