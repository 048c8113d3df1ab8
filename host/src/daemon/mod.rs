//! The worker process, which is the daemon itself: the supervisor starts it, and it serves the
//! sessions.
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
//! | `worker` | starts a worker up, until it serves |
//! | `bootstrap` | the configuration that a supervisor's first worker runs on |
//! | `launch_spec` | the configuration bytes and file digests that a worker is started with |
//! | `frontend` | what a worker meets its clients with: sockets, access rules, metrics |
//! | `local_socket` | the socket by which commands on this machine are known as the operator's |
//! | `standby` | prepares what sessions run with, before the store is opened |
//! | `open_store` | opens the store, and reads from it which worker this is |
//! | `clock_file` | the history of the machine's clock, over restarts |
//! | `generation` | determines a worker's generation and the cause of its start |
//! | `announce` | tells the supervisor what a worker serves |
//! | `serve` | the event loop of a serving worker |
//! | `service_retry` | decides which workers stay up that cannot serve |
//! | `refused` | such a worker: says why, and tries again until it can |
//! | `store_files` | the store of a daemon that does not run |
//! | `state` | the state of that loop |
//! | `reload` | rereads the configuration file, and lets the planner and the machine decide |
//! | `plan` | the planner: decides what a configuration leads to |
//! | `dry_run` | the planner's answer to `abide config plan` |
//! | `hot_reload` | applies changes that need no restart |
//! | `housekeeping` | tidies up now and then: markers, memory, components that nothing needs |
//! | `machine` | the pure state machine of restarts and stops |
//! | `act` | performs the machine's actions |
//! | `drain` | the drain in progress |
//! | `records` | persists restart records, and retries those that the store refused |
//! | `connections` | clients' open connections, as the server and as the supervisor has them |
//! | `handover` | ends a worker: passes its clients and the store to the successor |
//! | `stop` | ends a worker whose disk does not answer |
//! | `backup` | takes a backup beside the daemon's work |
//! | `restore` | restores one, without a daemon |
//! | `component_trial` | tries new components before a restart drains, and what that means for it |
//! | `plan_trial` | the same for a plan, which nothing has compiled for yet |
//! | `offline_trial` | the same for a data folder that no daemon uses |
//! | `census` | counts sessions by component, in the background |
//! | `control` | publishes the daemon's status and replies to control requests |
//! | `watchdog` | detects conditions that must never last |
//! | `memory_limit` | the memory that guests may use by default |
//! | `logging` | the operator's log |
//! | `signals` | signals to a worker, which are the supervisor's affair |
//! | `error_text` | an error and its causes in one line |

mod act;
mod announce;
mod backup;
mod bootstrap;
mod census;
mod clock_file;
mod component_trial;
mod connections;
mod control;
mod drain;
mod dry_run;
mod error_text;
mod frontend;
mod generation;
mod handover;
mod hot_reload;
mod housekeeping;
mod launch_spec;
mod local_socket;
mod logging;
mod machine;
mod memory_limit;
mod offline_trial;
mod open_store;
mod plan;
#[cfg(test)]
mod plan_tests;
mod plan_trial;
mod records;
mod refused;
mod reload;
mod restore;
mod serve;
mod service_retry;
mod signals;
mod standby;
mod state;
mod stop;
mod store_files;
mod watchdog;
mod worker;

pub use bootstrap::data_dir;
pub(crate) use error_text::error_text;
pub use offline_trial::OfflineTrial;
pub use restore::restore;
pub use store_files::StoreFiles;
pub use worker::{FirstStart, run as run_worker};
