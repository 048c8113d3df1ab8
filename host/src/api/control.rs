//! What the API asks of the daemon, and what it knows of it: all messages between the two.

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

/// The API's line to the daemon.
#[derive(Clone, Debug)]
pub struct Control {
    /// Requests, answered one by one.
    pub requests: mpsc::Sender<ControlRequest>,
    /// What the daemon is doing.
    pub status: watch::Receiver<Arc<DaemonStatus>>,
}

/// What the API may ask of the daemon.
#[derive(Debug)]
pub enum ControlRequest {
    /// Restart, on the configuration as the file is now.
    Restart {
        /// Where the answer goes.
        reply: oneshot::Sender<Acceptance>,
    },
    /// What saving a configuration file would do.
    Plan {
        /// The file's bytes; none: as it is now.
        config: Option<Vec<u8>>,
        /// Where the answer goes.
        reply: oneshot::Sender<PlanReport>,
    },
    /// Drain, then stop.
    Drain {
        /// Where the answer goes.
        reply: oneshot::Sender<Acceptance>,
    },
    /// The latest restarts, the newest first.
    Restarts {
        /// Only those before this one.
        before: Option<Generation>,
        /// At most so many.
        limit: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<RestartRecord>, crate::domain::Refusal>>,
    },
    /// One restart.
    RestartRecord {
        /// Which.
        generation: Generation,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Option<RestartRecord>, crate::domain::Refusal>>,
    },
}

/// What became of a request for a restart or a drain.
#[derive(Clone, Debug, PartialEq)]
pub enum Acceptance {
    /// It will happen.
    Accepted {
        /// The restart to ask for.
        generation: Generation,
        /// What changes, where this request began it.
        plan: Option<PlanReport>,
    },
    /// The configuration file is invalid; nothing was drained.
    Invalid {
        /// Each with its place and remedy.
        problems: Vec<String>,
    },
    /// The daemon is about to stop for good.
    Stopping,
}

/// What the daemon says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DaemonStatus {
    /// The worker's generation.
    pub generation: Generation,
    /// What it is doing.
    pub state: DaemonState,
    /// The binary's version.
    pub version: String,
    /// The worker's process.
    pub pid: u32,
    /// When the worker began.
    pub started_at: UnixMillis,
    /// The configuration that runs.
    pub config: ConfigStatus,
    /// How many sessions there are: by state, and their `total` (without closed ones).
    pub sessions: BTreeMap<String, u64>,
    /// The drain that goes on.
    pub drain: Option<DrainStatus>,
    /// The latest restart.
    pub restart: Option<RestartRecord>,
    /// The plugins that are loaded.
    pub plugins: Vec<PluginStatus>,
    /// The model providers that are configured.
    pub model_providers: Vec<ModelProviderStatus>,
    /// The tool servers that are configured.
    pub tool_servers: Vec<ToolServerStatus>,
    /// What is wrong at the moment, the gravest first; at most [`FINDINGS_MAX`]. Metrics count all.
    #[schema(value_type = Vec<Finding>)]
    pub watchdog: Arc<[Finding]>,
}

/// The most findings that the status names.
pub const FINDINGS_MAX: usize = 1000;

/// What a daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// Not yet serving: the store is being opened.
    Starting,
    /// All is as it should be.
    Serving,
    /// About to be replaced.
    Draining,
    /// About to stop for good.
    Stopping,
}

/// The configuration that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConfigStatus {
    /// The file.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Of the bytes that run.
    pub digest: Digest,
    /// When they were loaded.
    pub loaded_at: UnixMillis,
    /// Why the file as it is now was not taken.
    pub last_error: Option<String>,
}

/// A drain that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DrainStatus {
    /// Turns that still run.
    pub running: u64,
    /// Messages accepted and held for later.
    pub held: u64,
    /// When what still runs is cut.
    pub ends_at: Option<UnixMillis>,
}

/// A plugin that is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// Of its component.
    pub digest: Digest,
    /// The contract version it was built for.
    pub contract: String,
    /// Its open sessions, where they have been counted.
    pub sessions: Option<u64>,
}

impl Control {
    /// What the daemon is doing.
    pub fn status(&self) -> Arc<DaemonStatus> {
        self.status.borrow().clone()
    }

    /// Whether clients should be sent here. They should during a drain for a restart, in which
    /// messages are accepted and held.
    pub(super) fn is_ready(&self) -> bool {
        matches!(
            self.status.borrow().state,
            DaemonState::Serving | DaemonState::Draining
        )
    }

    /// Asks, and waits for the answer.
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
