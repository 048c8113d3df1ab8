//! The daemon's status.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{
    Digest, Finding, Generation, ModelProviderStatus, RestartRecord, ToolServerStatus, UnixMillis,
};

/// The daemon's status, as it publishes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DaemonStatus {
    /// The worker's generation.
    pub generation: Generation,
    /// What it is doing.
    pub state: DaemonState,
    /// The binary's version.
    pub version: String,
    /// The worker's process id.
    pub pid: u32,
    /// When the worker started.
    pub started_at: UnixMillis,
    /// The running configuration.
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
    /// Serving normally.
    Serving,
    /// About to be replaced.
    Draining,
    /// About to stop for good.
    Stopping,
    /// A state that a newer daemon has; never sent.
    #[serde(other)]
    Unknown,
}

impl DaemonState {
    /// The name of the state in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Unknown => "unknown",
        }
    }
}

/// The running configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConfigStatus {
    /// The path of the file.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// The digest of the bytes that run.
    pub digest: Digest,
    /// When these bytes were loaded.
    pub loaded_at: UnixMillis,
    /// Why the present content of the file was rejected.
    pub last_error: Option<String>,
}

/// A drain that is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DrainStatus {
    /// Turns that still run.
    pub running: u64,
    /// Messages that were accepted and are held for later.
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
    pub digest: Digest,
    /// The contract version that it was built for.
    pub contract: String,
    /// The number of its open sessions, once they have been counted.
    #[serde(default)]
    #[schema(required = true)]
    pub sessions: Option<u64>,
}

/// The acceptance of a request for a restart or a drain, as far as the command line reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct RestartAccepted {
    /// The generation under which the restart can be queried.
    pub generation: Generation,
}
