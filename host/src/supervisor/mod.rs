//! The supervisor: keeps the listening sockets and a stable process id, starts workers, reaps
//! every descendant, and passes descriptors between workers. It parses no config and uses no part
//! of the rest of the crate, so that next to nothing can break it. Also here: the worker's end of
//! the link ([`connect`]).
//!
//! A worker is a child process in a process group of its own; its standard input is the link, a
//! local socket that keeps message borders. If the supervisor dies, its workers die.
//!
//! ```text
//! first boot              supervisor                 worker 1
//!                             | ---- Start{Serve} -----> |  reads the config file
//!                             | <--- Listening{fd} ----- |  or Fatal, and the end
//!                             | <--- Serving{config} --- |
//!
//! planned restart         worker 1                 supervisor                  worker 2
//!                             | --- Replace{config} ---> |                         |
//!                             |                          | --- Start{Standby} ---> |
//!                             |                          | <-- Listening{fd} ----- |
//!   if it fails               | <-- StandbyFailed ------ | <-- StandbyFailed ----- x
//!                             | <-- StandbyReady ------- | <-- StandbyReady ------ |
//!   drains                    | --- Connection{fd} ----> | --- Connection{fd} ---> |
//!   closes the store          | --- Released ----------> | --- Go{Planned} ------> |  opens the store
//!   exits                     x                          | <-- Serving{config} --- |
//!
//! crash                   worker 1 x                 supervisor                  worker 2
//!   a ready standby                                      | --- Go{Crash} --------> |
//!   else, all others ended                               | --- Start{Serve,Crash}> |  running config
//!
//! probation               worker 2                 supervisor                  worker 3
//!   first boot only           | --- LastGood{config} --> |
//!   it is over                | --- Proven ------------> |
//!   dies by its own doing     x                          | - Start{Serve,Rollback}>|  what last proved
//!   before that                                                                       itself
//!
//! stop                    supervisor                  worker
//!   SIGTERM, ^C               | ---- Stop -------------> |  drains
//!   exits once it is gone     | <--- Stopped ----------- x
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `message.rs` | what supervisor and worker say to each other |
//! | `wire.rs`, `socket.rs`, `config_bytes.rs` | how it gets across |
//! | `machine/` | what the supervisor decides, purely |
//! | `run.rs`, `peer.rs`, `process.rs`, `listen.rs` | how it acts |
//! | `link.rs` | the worker's end |

mod config_bytes;
mod link;
mod listen;
mod machine;
mod message;
mod peer;
mod process;
mod run;
mod socket;
#[cfg(test)]
mod tests;
mod wire;
#[cfg(test)]
mod wire_tests;

pub use config_bytes::{ConfigBytes, MAX_CONFIG_BYTES};
pub use link::{Link, LinkError, connect};
pub use listen::{LISTEN_BACKLOG, MAX_LISTENERS, bind_listener};
pub use machine::{ALIVE_TIMEOUT, STOP_MARGIN};
pub use message::{Connection, FromWorker, Mode, Replace, Serving, Start, StartCause, ToWorker};
pub use run::{Options, run};
pub use wire::{MAX_ADDR_BYTES, MAX_INFO_BYTES, MAX_PREFIX_BYTES, MAX_REASON_BYTES, WireError};
