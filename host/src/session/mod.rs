//! Sessions at work: who owns one, how a turn runs, how they stop for a restart and come back.
//!
//! ```text
//!   api ----> Registry ----> mailbox ----> driver (one task per resident session)
//!                                            |  decides with domain, appends to the store,
//!                                            |  publishes to the hub what has been synced
//!                                            +--> turn (one task while a turn runs)
//!                                                   engine + steps (providers)
//! ```
//!
//! A session that nobody talks to has no task and no memory: its driver leaves after a while and
//! the next message finds it in the store.

mod disk_guard;
mod driver;
mod hub;
mod inspect;
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
mod step_executor;
mod timers;
mod turn;

pub use hub::{StreamItem, Subscription};
pub use live_config::LiveConfig;
pub use mailbox::{Accepted, NewSession};
pub use memory_budget::Share;
pub use outcome::{Follower, MessageProgress, TurnOutcome};
pub use plugins::{Plugin, Plugins};
pub use queries::{ListFilter, ListPage, SessionEvents};
pub use registry::Registry;
pub use relaunch::RestartManifest;
pub use shared::{Drained, Gate, Settings};
