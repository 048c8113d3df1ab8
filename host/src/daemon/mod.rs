//! The worker: the daemon itself, between the supervisor that started it and the sessions that it
//! serves.
//!
//! ```text
//!   Start --> prepare -----------> [standby] --Go--> open the store --> SERVING --> relaunch
//!             config, plugins,     (planned                              |   |
//!             addresses             restart)                             |   | Stop
//!                                                  config change, or a   |   v
//!                                                  request: plan,        |  drain, stop
//!                                                  Replace, standby ready|
//!                                                                        v
//!                                                        drain --> hand over --> Released, exit
//! ```

mod first_boot;
mod foretell;
mod generation;
mod handed;
mod hot;
mod last_look;
mod logging;
mod look;
mod plan;
mod prepare;
mod restart;
mod serve;
mod state;
mod status;
mod watchdog;
mod worker;

pub use worker::run as run_worker;
