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

mod driver;
mod hub;
mod inspect;
mod mailbox;
mod memory;
mod outcome;
mod parts;
mod plugins;
mod reads;
mod registry;
mod relaunch;
mod replay;
mod shared;
mod space;
mod steps;
mod timers;
mod turn;
mod vitals;

pub use hub::{StreamItem, Subscription};
pub use mailbox::{Accepted, NewSession};
pub use memory::Share;
pub use outcome::{Follower, Progress, TurnOutcome};
pub use parts::Parts;
pub use plugins::{Plugin, Plugins};
pub use reads::{EventPage, ListFilter, ListPage};
pub use registry::Registry;
pub use relaunch::Witness;
pub use shared::{Drained, Gate, Settings};
