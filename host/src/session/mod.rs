//! The session runtime: which task owns a session, how a turn runs, and how sessions stop for a
//! restart and come back.
//!
//! ```text
//!   api ----> Registry ----> mailbox ----> driver (one task per resident session)
//!                                            |  decides with `domain`, appends to the store,
//!                                            |  publishes synced records to the hub
//!                                            +--> turn (one task while a turn runs)
//!                                                   engine + steps (providers)
//! ```
//!
//! An idle session has no task and uses no memory: its driver exits after a while, and the next
//! message loads the session from the store.

mod clients;
mod disk_guard;
mod drain;
mod driver;
mod drivers;
mod due;
mod hub;
mod inspect;
mod lifecycle;
mod live_config;
mod liveness;
mod mailbox;
mod memory_budget;
mod outcome;
mod plugins;
mod queries;
mod registry;
mod relaunch;
mod replay;
mod shared;
mod signs;
mod step_executor;
mod timers;
mod turn;

pub use clients::Clients;
pub use drain::Drained;
pub use hub::{StreamItem, Subscription};
pub use lifecycle::Lifecycle;
pub use live_config::LiveConfig;
pub use mailbox::{Accepted, NewSession};
pub use memory_budget::Share;
pub use outcome::{Follower, MessageProgress, TurnOutcome};
pub use plugins::{Plugin, Plugins};
pub use queries::{ListFilter, ListPage, SessionEvents};
pub use registry::Registry;
pub use relaunch::RestartManifest;
pub use shared::Settings;
pub use signs::Signs;
