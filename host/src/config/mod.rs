//! The configuration: every key in one place, read strictly, checked as a start would check it,
//! compared with what runs, and watched.
//!
//! - [`Config::draft`] reads bytes (the very bytes that a standby is started on), [`Config::load`]
//!   a file; [`Draft::checked`] looks at what only the machine can tell, too: plugin files and
//!   secrets.
//! - [`plan`] compares two configurations and says what each difference takes.
//! - [`Watch`] reports changes of the file, and of the files it names, by their content.
//! - [`json_schema`] and [`reference`] are made from the types that parse.

mod check;
mod diff;
mod diff_servers;
mod given;
mod grants;
mod listen;
mod meaning;
mod meaning_tools;
mod notes;
mod notifier;
mod observed;
mod overrides;
mod plan;
mod problem;
mod reference;
mod regular;
mod resolved;
mod schema;
mod secret;
mod sight;
mod tree;
mod units;
mod watch;

pub use given::Given;
pub use observed::{Observed, config_bytes, plugin_bytes};
pub use plan::{Change, Class, Plan, Refusal, Verdict, plan};
pub use problem::{ConfigError, Place, Problem};
pub use reference::{json_schema, reference, starter};
pub use resolved::{
    Config, Daemon, Draft, HAND_OVER_BUDGET, LlmProvider, Loaded, Plugin, SUPERVISOR_BUDGET,
    StoreTuning, ToolServer, Transport,
};
pub use schema::{DATA_DIR, LogFormat, LogLevel, OnConfigChange};
pub use secret::{BadSecret, Env, Secret, SecretFiles, SecretRef, process_env};
pub use watch::{Timing, Watch};

#[cfg(test)]
mod tests;
