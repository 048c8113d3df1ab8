//! The messages between the API and the daemon: the API's requests, and the status that the daemon
//! publishes.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::problem::{Problem, ProblemKind};
use crate::documents::{BackupReport, DaemonState, DaemonStatus};
use crate::domain::{Generation, PlanReport, RestartRecord};

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
    Restart {
        /// Who asks, if that is known.
        by: Option<String>,
        reply: oneshot::Sender<Acceptance>,
    },
    /// Plans what saving a configuration file would do. The reply comes once the new components that it brings
    /// were tried; a plan whose client is gone is given up.
    Plan {
        /// The file's bytes; none for its present content.
        config: Option<Vec<u8>>,
        reply: oneshot::Sender<PlanReport>,
    },
    /// Drains the daemon, then stops it.
    Drain {
        /// Who asks, if that is known.
        by: Option<String>,
        reply: oneshot::Sender<Acceptance>,
    },
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
    /// Takes a backup into a folder. The reply comes once it is complete, or has failed; a backup
    /// whose client is gone is given up.
    Backup {
        folder: PathBuf,
        reply: oneshot::Sender<Result<BackupReport, BackupRefusal>>,
    },
}

/// Why there is no backup. The texts name the reason and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupRefusal {
    /// Another one is being taken, into this folder.
    Busy(PathBuf),
    /// The folder cannot take it.
    Folder(String),
    /// The disk has no room for it.
    NoRoom {
        text: String,
        needed_bytes: u64,
        free_bytes: u64,
        reserve_bytes: u64,
    },
    /// The data folder is damaged.
    Damaged(String),
    /// The disk or the store failed.
    Failed(String),
    /// The worker is about to be replaced, or to stop.
    Leaving,
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
