//! The supervisor: keeps the listening sockets and a stable process id, starts workers, reaps
//! every descendant, and passes descriptors between workers. It parses no config and uses no
//! other room of the crate, so that hardly anything can break it. The worker's end of the link is here
//! as well ([`connect`]).
//!
//! Every descendant of this process is the daemon's, and ended with the worker that it belongs to; what
//! others have started, in the same container say, is nobody's descendant here (`init.rs`).
//!
//! A worker is a child process in its own process group. Its standard input is the link, a local
//! socket that preserves message boundaries. If the supervisor dies, its workers die.
//!
//! ```text
//! first boot              supervisor                 worker 1
//!                             | ---- Start{Serve} -----> |  reads the config file
//!                             | <--- Listening{fd} ----- |  or Fatal, and both exit
//!                             | <--- Serving{config} --- |
//!
//! planned restart         worker 1                 supervisor                  worker 2
//!                             | --- Replace{config} ---> |                         |
//!                             |                          | --- Start{Standby} ---> |
//!                             |                          | <-- Listening{fd} ----- |
//!   on failure                | <-- StandbyFailed ------ | <-- StandbyFailed ----- x
//!                             | <-- StandbyReady ------- | <-- StandbyReady ------ |
//!   drains                    | --- Connection{fd} ----> | --- Connection{fd} ---> |
//!   closes the store          | --- Released ----------> | --- Go{Planned} ------> |  opens the store
//!   exits                     x                          | <-- Serving{config} --- |
//!
//! crash                   worker 1 x                 supervisor                  worker 2
//!   with a ready standby                                 | --- Go{Crash} --------> |
//!   else, once all have ended                            | --- Start{Serve,Crash}> |  running config
//!
//! probation               worker 2                 supervisor                  worker 3
//!   first boot only           | --- LastGood{config} --> |
//!   on success                | --- Proven ------------> |
//!   dies by its own doing     x                          | - Start{Serve,Rollback}>|  what last proved
//!   before that                                                                       itself
//!
//! stop                    supervisor                  worker
//!   SIGTERM, ^C               | ---- Stop -------------> |  drains
//!   exits once it is gone     | <--- Stopped ----------- x
//! ```
//!
//! | file | content |
//! |---|---|
//! | `message.rs` | the messages between supervisor and worker |
//! | `wire.rs`, `socket.rs`, `config_bytes.rs` | their encoding and transport |
//! | `machine/` | the supervisor's decisions, as a pure state machine |
//! | `run.rs`, `peer.rs`, `process.rs`, `listen.rs` | the execution of these decisions |
//! | `init.rs` | the process above this one, where others' processes may be children of it |
//! | `memory_groups.rs` | the control groups that hold this process to an amount of memory |
//! | `oom_kills.rs` | whether a worker's SIGKILL came from the kernel, for want of memory |
//! | `link.rs` | the worker's end of the link |
//! | `log_queue.rs`, `log_line.rs` | standard error, whose reader nobody waits for; the worker's too |

mod config_bytes;
mod init;
mod link;
mod listen;
mod log_line;
mod log_queue;
mod machine;
mod memory_groups;
mod message;
mod oom_kills;
mod own_time;
mod peer;
mod process;
mod run;
mod socket;
#[cfg(test)]
mod tests;
mod wire;
mod wire_error;
#[cfg(test)]
mod wire_tests;

pub use config_bytes::{ConfigBytes, MAX_CONFIG_BYTES};
pub use link::{Link, LinkError, connect};
pub use listen::{
    LISTEN_BACKLOG, MAX_LISTENERS, bind_listener, bind_local_listener, is_local_name, local_name,
};
pub use log_line::LineFormat;
pub use log_queue::LogQueue;
pub use machine::{ALIVE_TIMEOUT, KILLED_BY_UNKNOWN, KILLED_FOR_MEMORY, STOP_MARGIN};
pub use memory_groups::{CgroupVersion, MemoryGroup, memory_groups, parse_groups};
pub use message::{Connection, FromWorker, Mode, Replace, Serving, Start, StartCause, ToWorker};
pub use run::{Options, run};
pub use wire::{MAX_ADDR_BYTES, MAX_INFO_BYTES, MAX_PREFIX_BYTES, MAX_REASON_BYTES};
pub use wire_error::WireError;
