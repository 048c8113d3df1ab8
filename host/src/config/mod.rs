//! The configuration: all keys in one schema, strict parsing, validation, comparison with the
//! running configuration, and change detection.
//!
//! - [`Config::draft`] parses bytes (the very bytes that a standby is started on), [`Config::load`]
//!   a file; [`ConfigDraft::checked`] also checks what depends on this machine: plugin files and
//!   secrets.
//! - [`plan`] compares two configurations and classifies each difference by what applying it takes.
//! - [`ConfigWatch`] reports changes of the file, and of the files it names, by their content.
//! - [`json_schema`] and [`reference`] are generated from the types that parse.

mod diagnostics;
mod diff;
mod diff_servers;
mod digest_cache;
mod document;
mod file_snapshot;
mod given;
mod grants;
mod listen;
mod model;
mod notes;
mod notifier;
mod overrides;
mod plan;
mod preflight;
mod reference;
mod regular_file;
mod resolve;
mod resolve_tools;
mod schema;
mod secret;
mod units;
mod watch;

pub use diagnostics::{ConfigError, ConfigProblem, Place};
pub use file_snapshot::{Observed, config_bytes, plugin_bytes};
pub use given::Given;
pub use model::{
    Config, ConfigDraft, DaemonConfig, HAND_OVER_BUDGET, LlmProviderConfig, Loaded, PluginConfig,
    SUPERVISOR_BUDGET, StoreTuning, ToolServerConfig, Transport,
};
pub use plan::{ChangeClass, ConfigChange, Plan, PlanClass, PlanRefusal, plan};
pub use reference::{json_schema, reference, starter};
pub use schema::{DATA_DIR, LogFormat, LogThreshold, OnConfigChange};
pub use secret::{BadSecret, Env, Secret, SecretFiles, SecretRef, process_env};
pub use watch::{ConfigWatch, Timing};

#[cfg(test)]
mod tests;
