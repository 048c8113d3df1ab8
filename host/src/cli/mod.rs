//! The command line: one file per command family.
//!
//! ```text
//! args, global      arguments                 status, sessions, restarts    inspection
//! value_parsers     checks of their values    operate, resume               drain, restart, resume
//! target            the daemon's address      send, chat                    conversation
//! client            HTTP, errors              init, serve, config, plugin*  set-up and start
//! calls, wire       the API, its documents    backup, restore               backups
//! out, text, table  output for humans         store                         a stopped daemon's store
//! tokens, audit     access tokens, the audit log     bench   measurement
//! ```
//!
//! Commands are ordinary clients of the API, but for those that need no daemon. They exit with 0 when
//! done, 1 when the requested operation failed, 2 for wrong usage and 3 when no daemon answers.

mod adopt;
mod approvals;
mod args;
mod audit;
mod backup;
mod bench;
mod calls;
mod chat;
mod client;
mod config;
mod config_history;
mod dead;
mod error;
mod global;
mod init;
mod operate;
mod out;
mod pages;
mod plugin;
mod plugin_args;
mod plugin_check;
mod plugin_trial;
mod plugins;
mod restarts;
mod restore;
mod resume;
mod run;
mod send;
mod serve;
mod sessions;
mod status;
mod store;
mod table;
mod target;
mod text;
mod tokens;
mod turns;
mod value_parsers;
mod way_back;
mod way_back_args;

pub use run::run;
