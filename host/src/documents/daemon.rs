//! The daemon's status.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{
    Digest, Finding, Generation, GuestMemoryStatus, ModelProviderStatus, PlanReport, RestartRecord,
    Rollout, ToolServerStatus, UnixMillis,
};

/// The daemon's status, as it publishes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DaemonStatus {
    /// The worker's generation.
    pub generation: Generation,
    /// What it is doing.
    pub state: DaemonState,
    /// The binary's version.
    #[serde(default)]
    #[schema(required = true)]
    pub version: String,
    /// The format of the data folder, once it is open: versions that read only older ones refuse it.
    #[schema(value_type = u32, required = true)]
    pub format: Option<u32>,
    /// The worker's process id.
    #[schema(value_type = u32, required = true)]
    pub pid: Option<u32>,
    /// When the worker started.
    #[schema(value_type = UnixMillis, required = true)]
    pub started_at: Option<UnixMillis>,
    /// The running configuration.
    #[serde(default)]
    #[schema(required = true)]
    pub config: ConfigStatus,
    /// The number of sessions: by state, and in `total` (without closed ones).
    #[serde(default)]
    #[schema(required = true)]
    pub sessions: BTreeMap<String, u64>,
    /// The drain that is in progress.
    pub drain: Option<DrainStatus>,
    /// The latest restart.
    pub restart: Option<RestartRecord>,
    /// The plugins that are loaded.
    #[serde(default)]
    #[schema(required = true)]
    pub plugins: Vec<PluginStatus>,
    /// The model providers that are configured.
    #[serde(default)]
    #[schema(required = true)]
    pub model_providers: Vec<ModelProviderStatus>,
    /// The tool servers that are configured.
    #[serde(default)]
    #[schema(required = true)]
    pub tool_servers: Vec<ToolServerStatus>,
    /// The memory of all guests together.
    #[serde(default)]
    #[schema(required = true)]
    pub guest_memory: GuestMemoryStatus,
    /// The number of dead letters of all sessions, once they have been counted.
    #[serde(default)]
    pub dead_letters: Option<u64>,
    /// What is wrong at the moment, the most severe first; at most [`FINDINGS_MAX`]. Metrics count
    /// all.
    #[serde(default)]
    #[schema(value_type = Vec<Finding>, required = true)]
    pub watchdog: Arc<[Finding]>,
}

/// The maximum number of findings that the status lists.
pub const FINDINGS_MAX: usize = 1000;

/// What a daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// Not serving yet: the store is being opened.
    Starting,
    /// Not serving, since the store would be opened with less than was acknowledged, or cannot be
    /// opened at all: an operator has to act.
    Refused,
    /// Serving normally.
    Serving,
    /// About to be replaced.
    Draining,
    /// About to stop for good.
    Stopping,
    /// A state that a newer daemon has; never sent.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl DaemonState {
    /// The name of the state in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Refused => "refused",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Unknown => "unknown",
        }
    }
}

/// The running configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConfigStatus {
    /// The path of the file.
    #[serde(default)]
    #[schema(value_type = String, required = true)]
    pub path: PathBuf,
    /// The digest of the bytes that run.
    #[schema(value_type = Digest, required = true)]
    pub digest: Option<Digest>,
    /// When these bytes were loaded.
    #[schema(value_type = UnixMillis, required = true)]
    pub loaded_at: Option<UnixMillis>,
    /// Why the present content of the file was rejected.
    pub last_error: Option<String>,
}

/// A drain that is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DrainStatus {
    /// Turns that still run.
    #[serde(default)]
    #[schema(required = true)]
    pub running: u64,
    /// Messages that were accepted and are held for later.
    #[serde(default)]
    #[schema(required = true)]
    pub held: u64,
    /// When turns that still run are aborted.
    pub ends_at: Option<UnixMillis>,
}

/// A plugin that is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// The digest of its component.
    #[schema(value_type = Digest, required = true)]
    pub digest: Option<Digest>,
    /// The contract version that it was built for.
    #[schema(value_type = String, required = true)]
    pub contract: Option<String>,
    /// The number of its open sessions, once they have been counted.
    pub sessions: Option<u64>,
    /// The components that they last ran on, once they have been counted.
    #[serde(default)]
    #[schema(required = true)]
    pub components: Vec<ComponentStatus>,
    /// The roll-out of its component: the one that goes on, or the last one.
    #[serde(default)]
    pub rollout: Option<Rollout>,
}

/// A component that sessions of a plugin last ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ComponentStatus {
    pub digest: Digest,
    /// The number of these sessions.
    pub sessions: u64,
    /// Of these, the number of those that stay on it, since the plugin's present component could not carry
    /// them on.
    pub pinned: u64,
    /// Since when the first of these does.
    pub pinned_since: Option<UnixMillis>,
}

/// A restart or a drain that was accepted.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RestartAccepted {
    /// The restart's number, for `GET /v1/daemon/restarts/{generation}`.
    pub generation: Generation,
    /// What changes, if this request began the restart.
    pub plan: Option<PlanReport>,
}
