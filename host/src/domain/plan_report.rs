//! The result of planning for a configuration, as documents for the server and the command line.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PluginTrial;

/// A configuration to plan for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The content of a configuration file (TOML). Relative paths in it are relative to the folder
    /// of the daemon's own file; environment overrides are the daemon's.
    pub config: String,
}

/// What saving a configuration file would do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanReport {
    /// What the daemon would do.
    pub verdict: PlanVerdict,
    /// What differs from the running configuration; empty if nothing does, or if it cannot be
    /// determined.
    pub changes: Vec<PlannedChange>,
    /// Why it would be refused; otherwise empty.
    pub problems: Vec<PlanProblem>,
    /// The running `daemon.on_config_change`.
    pub on_config_change: String,
    /// Turns that run now.
    pub running_turns: u64,
    /// How long a restart now would wait for these turns, in milliseconds.
    pub wait_at_most_ms: u64,
    /// What becomes of sessions with the new components that a restart would bring, plugin by plugin: found on
    /// copies, as the restart itself would. Empty for every other verdict than `restart`, `ignored` and
    /// `refused`, with a `daemon.trial_budget` of 0, and in the answer to a restart, which tries them itself.
    #[serde(default)]
    #[schema(required = true)]
    pub trial: Vec<PluginTrial>,
}

/// What the daemon would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlanVerdict {
    /// Nothing: the file means the same as the running configuration.
    Nothing,
    /// Apply it at once, without a restart.
    Hot,
    /// Restart on it; sessions continue.
    Restart,
    /// Nothing until an operator asks: `on_config_change` is `ignore`.
    Ignored,
    /// Refuse it, and keep the running configuration.
    Refused,
    /// Read it once the current restart is over.
    Deferred,
    /// Nothing: the daemon stops, and its next start reads the file.
    Stopping,
}

/// One difference from the running configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedChange {
    /// The key, as in `plugins.echo.limits.memory`.
    pub key: String,
    /// What the change requires: `hot` nothing, `restart` a restart; what is `fixed` cannot change.
    pub class: String,
    /// The value before, for humans; null for what is new. Secrets are not shown.
    pub from: Option<String>,
    /// The value after; null for what is removed.
    pub to: Option<String>,
}

/// One reason to refuse a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanProblem {
    /// The key that is wrong; empty for the file as a whole.
    pub key: String,
    /// What is wrong and where, and the remedy.
    pub text: String,
}
