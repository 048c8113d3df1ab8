//! The command line: one file per command family.
//!
//! ```text
//! args      the grammar                       status, sessions, restarts    what there is
//! target    which daemon                      operate                       drain, restart
//! client    HTTP, errors   calls  the API     send, chat                    talking
//! wire      its documents                     init, serve, config, plugin*  starting
//! out, text what humans see                 bench                         measuring
//! ```
//!
//! Commands are clients of the API like any other. They exit with 0 when done, 1 when what was
//! asked for failed, 2 for wrong usage and 3 when no daemon answers.

mod approvals;
mod args;
mod bench;
mod calls;
mod chat;
mod client;
mod config;
mod error;
mod init;
mod operate;
mod out;
mod plugin;
mod plugin_check;
mod plugins;
mod restarts;
mod run;
mod send;
mod serve;
mod sessions;
mod status;
mod target;
mod text;
mod turns;
mod wire;

pub use run::run;
