//! The messages between the API and the daemon: the API's requests, and the status that the daemon
//! publishes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::problem::{Problem, ProblemKind};
use crate::domain::{
    Digest, Finding, Generation, ModelProviderStatus, PlanReport, RestartRecord, ToolServerStatus,
    UnixMillis,
};

/// The API's connection to the daemon.
#[derive(Clone, Debug)]
pub struct Control {
    /// Requests, which the daemon answers one by one.
    pub requests: mpsc::Sender<ControlRequest>,
    /// The status that the daemon publishes.
    pub status: watch::Receiver<Arc<DaemonStatus>>,
}

/// A request of the API to the daemon.
#[derive(Debug)]
pub enum ControlRequest {
    /// Restarts with the present content of the configuration file.
    Restart { reply: oneshot::Sender<Acceptance> },
    /// Plans what saving a configuration file would do.
    Plan {
        /// The file's bytes; none for its present content.
        config: Option<Vec<u8>>,
        reply: oneshot::Sender<PlanReport>,
    },
    /// Drains the daemon, then stops it.
    Drain { reply: oneshot::Sender<Acceptance> },
    /// Lists the latest restarts, the newest first.
    Restarts {
        /// Only restarts before this generation.
        before: Option<Generation>,
        /// The maximum number of restarts to return.
        limit: usize,
        reply: oneshot::Sender<Result<Vec<RestartRecord>, crate::domain::Refusal>>,
    },
    /// Returns one restart.
    RestartRecord {
        generation: Generation,
        reply: oneshot::Sender<Result<Option<RestartRecord>, crate::domain::Refusal>>,
    },
}

/// The reply to a request for a restart or a drain.
#[derive(Clone, Debug, PartialEq)]
pub enum Acceptance {
    /// The request is accepted.
    Accepted {
        /// The number of the restart.
        generation: Generation,
        /// What changes, if this request began the restart.
        plan: Option<PlanReport>,
    },
    /// The configuration file is invalid; nothing was drained.
    Invalid {
        /// The problems, each with its place and remedy.
        problems: Vec<String>,
    },
    /// The daemon is about to stop for good.
    Stopping,
}

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
    pub sessions: BTreeMap<String, u64>,
    /// The drain that is in progress.
    pub drain: Option<DrainStatus>,
    /// The latest restart.
    pub restart: Option<RestartRecord>,
    /// The plugins that are loaded.
    pub plugins: Vec<PluginStatus>,
    /// The model providers that are configured.
    pub model_providers: Vec<ModelProviderStatus>,
    /// The tool servers that are configured.
    pub tool_servers: Vec<ToolServerStatus>,
    /// What is wrong at the moment, the most severe first; at most [`FINDINGS_MAX`]. Metrics count
    /// all.
    #[schema(value_type = Vec<Finding>)]
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
    pub sessions: Option<u64>,
}

impl Control {
    pub fn status(&self) -> Arc<DaemonStatus> {
        self.status.borrow().clone()
    }

    /// Whether clients should be sent here. They should also be during a drain for a restart, as
    /// messages are then accepted and held.
    pub(super) fn is_ready(&self) -> bool {
        matches!(
            self.status.borrow().state,
            DaemonState::Serving | DaemonState::Draining
        )
    }

    /// Sends a request, and waits for the reply.
    pub(super) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> ControlRequest,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let leaving = || {
            let detail = "the daemon is being replaced; ask again in a moment";
            Problem::new(ProblemKind::RESTARTING, detail).header(http::header::RETRY_AFTER, 1_u16)
        };
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| leaving())?;
        answer.await.map_err(|_| leaving())
    }
}
