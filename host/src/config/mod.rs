//! The configuration: all keys in one schema, strict parsing, validation, comparison with the
//! running configuration, and change detection.
//!
//! - [`Config::draft`] parses bytes (the very bytes that a standby is started on), [`Config::load`]
//!   a file; [`ConfigDraft::checked`] also checks what depends on this machine: plugin files and
//!   secrets.
//! - [`plan()`] compares two configurations and classifies each difference by what applying it takes.
//! - [`ConfigWatch`] reports changes of the file, and of the files it names, by their content.
//! - [`json_schema()`] and [`reference()`] are generated from the types that parse.
//!
//! A file uses only files of its own line and of the lines above it.
//!
//! | file | content |
//! |---|---|
//! | `regular_file.rs`, `file_snapshot.rs` | reading of the file, and of the files it names |
//! | `units.rs`, `listen.rs` | durations, sizes and addresses, as they are written |
//! | `secret.rs`, `given.rs` | secrets, and values that may be secrets |
//! | `schema.rs`, `limit_keys.rs`, `json_schema.rs` | all keys, and the JSON Schema generated from them |
//! | `reference.rs` | the annotated file of all keys, and the file that `abide init` writes |
//! | `place.rs`, `diagnostics.rs` | where keys stand, and the problems of a configuration |
//! | `document.rs`, `overrides.rs`, `parse.rs` | from the file and the environment to keys |
//! | `model.rs`, `secret_files.rs` | the configuration that the daemon uses |
//! | `notes.rs`, `grants.rs`, `resolve_tools.rs`, `resolve.rs` | from keys to the configuration |
//! | `preflight.rs` | the checks that depend on this machine |
//! | `load.rs` | all these steps in their order |
//! | `change.rs`, `diff.rs`, `diff_servers.rs`, `plan.rs` | the comparison of two configurations |
//! | `digest_cache.rs`, `notifier.rs`, `watch.rs` | the detection of changes |
//! | `history.rs` | the configurations that a daemon has run on |

mod canary;
mod change;
mod diagnostics;
mod diff;
mod diff_servers;
mod digest_cache;
mod document;
mod file_snapshot;
mod given;
mod grants;
mod history;
mod json_schema;
mod limit_keys;
mod listen;
mod load;
mod model;
mod notifier;
mod overrides;
mod parse;
mod place;
mod plan;
mod preflight;
mod reference;
mod regular_file;
mod resolve;
mod resolve_tools;
mod schema;
mod secret;
mod secret_files;
mod units;
mod value_checks;
mod watch;

pub use canary::Canary;
pub use change::{ChangeClass, ConfigChange};
pub use diagnostics::{ConfigError, ConfigProblem};
pub use file_snapshot::{Observed, config_bytes, plugin_bytes};
pub use given::Given;
pub use history::{AcceptedConfig, ConfigHistory};
pub use json_schema::json_schema;
pub use load::{ConfigDraft, Loaded};
pub use model::{
    Config, DaemonConfig, HAND_OVER_BUDGET, LlmProviderConfig, PluginConfig, SUPERVISOR_BUDGET,
    StoreTuning, ToolServerConfig, Transport,
};
pub use place::Place;
pub use plan::{Plan, PlanClass, PlanRefusal, plan};
pub use reference::{reference, starter};
pub use schema::{DATA_DIR, LogFormat, LogThreshold, OnConfigChange, OnFailedTrial};
pub use secret::{BadSecret, Env, Secret, SecretRef, process_env};
pub use secret_files::SecretFiles;
pub use watch::{ConfigWatch, Timing};

#[cfg(test)]
mod tests;
