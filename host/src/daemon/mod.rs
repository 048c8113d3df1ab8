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
//! | `bootstrap` | what the first worker of a supervisor runs on |
//! | `launch_spec` | the bytes that a worker is started on |
//! | `standby` | all preparation before the store is opened |
//! | `open_store` | opens the store, and reads from it which worker this is |
//! | `generation` | which generation a worker's life is |
//! | `serve` | the loop of a serving worker |
//! | `state` | the state of that loop |
//! | `reload` | reads the configuration file again, and has the planner and the machine decide |
//! | `plan` | the planner: what a configuration leads to |
//! | `dry_run` | the planner's answer to `abide config plan` |
//! | `hot_reload` | changes that take no restart |
//! | `machine` | what follows from what in restarts and stops, purely |
//! | `act` | performs the machine's actions |
//! | `drain` | the drain under way |
//! | `records` | restart records, and those that the store has refused |
//! | `handover` | the end of a worker: clients and the store pass to the successor |
//! | `control` | the daemon's status, and its answers to control requests |
//! | `watchdog` | finds conditions that must never last |
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
