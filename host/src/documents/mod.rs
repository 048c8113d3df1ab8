//! The documents of the HTTP API that are no notions of the domain. The server writes them and the
//! command line reads them, each by this one definition. A reader ignores fields that a newer daemon
//! adds; fields that an older one lacks have defaults.
//!
//! | file | content |
//! |---|---|
//! | `daemon` | the daemon's status |
//! | `message` | the answer to a message |
//! | `page` | one page of a list |
//! | `problem` | problem documents |

mod daemon;
mod message;
mod page;
mod problem;

pub use daemon::{
    ConfigStatus, DaemonState, DaemonStatus, DrainStatus, FINDINGS_MAX, PluginStatus,
    RestartAccepted,
};
pub use message::AcceptedMessage;
pub use page::Page;
pub use problem::ProblemDocument;
