//! What the supervisor does, decided purely: an event in, actions out, no clock and no system call.
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
//! Signals, by the phase that they meet:
//!
//! | | Starting, Serving | Clearing | Stopping |
//! |---|---|---|---|
//! | SIGTERM, SIGINT | the worker is told to stop and has its budget; a standby is ended | the end | the first after a worker's own stop is noted; a second ends all at once, exit code 1 |
//! | SIGHUP | passed on to the worker | nothing: the next one compares with the file anyway | nothing |
//!
//! What always holds, whatever workers say (tested with random histories):
//!
//! - at most one worker has been told to open the store and has neither released it nor died;
//! - at most two workers live;
//! - a worker started anew runs on the config of the last `Serving`; or, where a worker that had not
//!   proven itself died by its own doing, on the last that did;
//! - as long as no worker lives, something is due at a known time, or all is over.
//!
//! All deadlines are of one kind: a time at which a worker is killed, and why (`Workers::due`).

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
