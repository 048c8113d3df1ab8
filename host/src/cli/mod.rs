//! The command line: one file per command family.
//!
//! ```text
//! args       arguments                        status, sessions, restarts    inspection
//! target     the daemon's address             operate                       drain, restart
//! client     HTTP, errors  calls  the API     send, chat                    conversation
//! wire       the API's documents              init, serve, config, plugin*  set-up and start
//! out, text  output for humans                bench                         measurement
//! ```
//!
//! Commands are ordinary clients of the API. They exit with 0 when done, 1 when the requested
//! operation failed, 2 for wrong usage and 3 when no daemon answers.

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
