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
//!
//! | file | content |
//! |---|---|
//! | `clients`, `lifecycle`, `signs` | what clients, the daemon's life and the watchdog may ask of sessions |
//! | `registry`, `drivers`, `mailbox` | finds or starts the task that owns a session, and sends it requests |
//! | `driver` | that task: decides, commits, publishes, and begins and ends turns |
//! | `turn`, `step_executor`, `due` | one run of a guest, and its steps |
//! | `replay`, `inspect` | runs a turn again from its journal; shows a turn |
//! | `trial`, `forecast` | tries a component on copies of a session's state and last turn; on all sessions, before a restart |
//! | `rollouts`, `rollout_task`, `canary_count` | which sessions run on a new component before it has proven itself, and what is counted of them |
//! | `drain` | the gate that a drain closes, the turns that it counts, and their guard |
//! | `approval_needed`, `standing` | a call that a human must approve first; those that one has approved for good |
//! | `suspects` | turns that may be what takes the worker down begin one at a time |
//! | `relaunch` | brings sessions back after a restart |
//! | `timers`, `deadlines` | wakes sessions whose timers are due; when that is, however the clock is set |
//! | `hub`, `outcome` | live events for subscribers; how a message's turn ended |
//! | `queries` | reads of the store that need no driver |
//! | `live_config`, `plugins` | what a hot change replaces, and the loaded plugins in it |
//! | `kept_plugins` | plugins on an older component, with the settings that were in force for it |
//! | `memory_budget`, `disk_guard`, `liveness` | limits on memory and disk; what the watchdog reads |
//! | `memory_peaks` | how much memory a turn reserves for its guest |
//! | `shared` | what all drivers share |

mod approval_needed;
mod canary_count;
mod clients;
mod deadlines;
mod disk_guard;
mod drain;
mod driver;
mod drivers;
mod due;
mod forecast;
mod hold_clock;
mod hub;
mod inspect;
mod kept_plugins;
mod lifecycle;
mod live_config;
mod liveness;
mod mailbox;
mod memory_budget;
mod memory_peaks;
mod outcome;
mod plugins;
mod queries;
mod registry;
mod relaunch;
mod replay;
mod rollout_task;
mod rollouts;
mod shared;
mod signs;
mod standing;
mod step_executor;
mod suspects;
mod timers;
mod trial;
mod turn;

pub use clients::Clients;
pub use drain::Drained;
pub use forecast::{ComponentSource, NewComponent, forecast_export, forecast_stored, trial_alone};
pub use hub::{StreamItem, Subscription};
pub use lifecycle::Lifecycle;
pub use live_config::LiveConfig;
pub use mailbox::{Accepted, Adoption, NewSession};
pub use memory_budget::Share;
pub use outcome::{Follower, MessageProgress, TurnOutcome};
pub use plugins::{Plugin, Plugins};
pub use queries::{ListFilter, ListPage, SessionEvents, SessionPoints};
pub use registry::Registry;
pub use relaunch::RestartManifest;
pub use shared::Settings;
pub use signs::Signs;
