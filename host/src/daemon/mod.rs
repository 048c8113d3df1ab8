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
//!
//! | file | content |
//! |---|---|
//! | `worker` | a worker from its start to its serving |
//! | `first_boot` | what the first worker of a supervisor runs on |
//! | `handed` | the bytes that a worker is started on |
//! | `prepare` | all that can be done before the store is opened |
//! | `generation` | which generation a worker's life is |
//! | `serve` | the loop of a serving worker |
//! | `state` | what that loop knows |
//! | `reload` | reads the configuration again, and acts on what the planner decides |
//! | `plan` | the planner: what a configuration leads to |
//! | `dry_run` | the planner's answer to who asks beforehand |
//! | `hot` | changes that take no restart |
//! | `restart` | a planned restart, and the stop |
//! | `last_look` | a hand-over that the store prevents |
//! | `status` | the daemon's status, and its answers to the API |
//! | `watchdog` | what should never be |
//! | `logging` | the log |

mod act;
mod bootstrap;
mod control;
mod drain;
mod dry_run;
mod generation;
mod handover;
mod hot_reload;
mod launch_spec;
mod logging;
mod machine;
mod open_store;
mod plan;
#[cfg(test)]
mod plan_tests;
mod records;
mod reload;
mod serve;
mod standby;
mod state;
mod watchdog;
mod worker;

pub use worker::run as run_worker;
