//! One instance of a server, whether it is a child process or remote: its connection, its tools and
//! its end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant as Moment, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::catalog::Catalog;
use super::connection::{CallRequest, ConnectionTask, McpConnection, NoResult};
use super::opening::OpenFailure;
use super::settings::ToolServer;
use crate::domain::UnixMillis;

/// How long draining a dead server's pipe may take, and closing an open connection.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// How long a call whose connection ended waits to learn how the server ended.
const OBITUARY_PATIENCE: Duration = Duration::from_secs(3);
/// How long relisting the tools may take: a call waits for it, and falls back to the previous list.
const RELIST_PATIENCE: Duration = Duration::from_secs(10);

/// The total time for a start, as a multiple of the time that callers wait for it.
const START_FACTOR: u32 = 10;

/// A server that is running or has ended.
pub(super) struct Instance {
    server: Arc<str>,
    settings: Arc<ToolServer>,
    connection: McpConnection,
    /// The tools, and the change counter at which they were listed.
    catalog: Mutex<(u64, Arc<Catalog>)>,
    /// The same tools, for readers that must not wait for a relisting.
    known: watch::Sender<Arc<Catalog>>,
    pub(super) since: UnixMillis,
    ended: watch::Receiver<Option<EndedServer>>,
    /// Ends the server when the instance is dropped.
    _stop: DropGuard,
}

/// Why a server ended.
#[derive(Clone, Debug)]
pub(super) struct ServerExit {
    pub(super) reason: String,
    /// The server is still running and has only forgotten the session: it may be reconnected to at
    /// once.
    pub(super) forgotten: bool,
}

/// The end of a server, and when it happened.
#[derive(Clone, Debug)]
pub(super) struct EndedServer {
    pub(super) end: ServerExit,
    pub(super) at: Moment,
    pub(super) at_ms: UnixMillis,
    pub(super) served: Duration,
}

impl EndedServer {
    fn now(end: ServerExit, since: Moment) -> Self {
        Self {
            end,
            at: Moment::now(),
            at_ms: UnixMillis::now(),
            served: since.elapsed(),
        }
    }
}

/// An open connection, and the tools that were listed on it.
pub(super) struct OpenedServer {
    connection: McpConnection,
    serving: ConnectionTask,
    catalog: (u64, Arc<Catalog>),
}

impl OpenedServer {
    /// Lists the tools of a connection.
    pub(super) async fn list(
        server: &str,
        settings: &ToolServer,
        connection: McpConnection,
        serving: ConnectionTask,
    ) -> Result<Self, OpenFailure> {
        // Read before listing: a change during the listing must cause another one.
        let changes = connection.changes();
        let listed = connection.tools().await;
        let listed = listed.map_err(|error| OpenFailure::of_list(&error))?;
        let catalog = Catalog::new(server, settings, listed);
        catalog.log_news(server, &[]);
        Ok(Self {
            connection,
            serving,
            catalog: (changes, Arc::new(catalog)),
        })
    }

    /// Returns the number of tools.
    pub(super) fn tools(&self) -> usize {
        self.catalog.1.len()
    }
}

impl Instance {
    /// Wraps an open connection; the future that `watch` returns waits for its end.
    pub(super) fn new<F>(
        server: &Arc<str>,
        settings: &Arc<ToolServer>,
        opened: OpenedServer,
        stop: CancellationToken,
        watch: impl FnOnce(ConnectionTask) -> F,
    ) -> Self
    where
        F: Future<Output = ServerExit> + Send + 'static,
    {
        let OpenedServer {
            connection,
            serving,
            catalog,
        } = opened;
        let (report, ended) = watch::channel(None);
        let since = Moment::now();
        let end = watch(serving);
        let name = server.clone();
        tokio::spawn(async move {
            let end = end.await;
            tracing::info!(server = %name, reason = end.reason, "tool server ended");
            let _ = report.send(Some(EndedServer::now(end, since)));
        });
        Self {
            server: server.clone(),
            settings: settings.clone(),
            connection,
            known: watch::Sender::new(catalog.1.clone()),
            catalog: Mutex::new(catalog),
            since: UnixMillis::now(),
            ended,
            _stop: stop.drop_guard(),
        }
    }

    /// Returns the server's end, if it has ended.
    pub(super) fn ended(&self) -> Option<EndedServer> {
        match self.ended.has_changed() {
            // The task that watches the server is gone without a result: it panicked, or the
            // runtime is shutting down.
            Err(_) if self.ended.borrow().is_none() => {
                let end = ServerExit {
                    reason: "it is watched by nobody".to_owned(),
                    forgotten: false,
                };
                Some(EndedServer::now(end, Moment::now()))
            }
            _ => self.ended.borrow().clone(),
        }
    }

    /// Waits until the server has ended.
    pub(super) async fn until_ended(&self) {
        let _ = self.ended.clone().wait_for(Option::is_some).await;
    }

    /// Makes the next use of the tools list them again.
    pub(super) fn doubt(&self) {
        self.connection.doubt();
    }

    /// Returns the tools as they were listed last.
    pub(super) fn known(&self) -> Arc<Catalog> {
        self.known.borrow().clone()
    }

    /// Returns the tools, listed again if the server has announced a change.
    pub(super) async fn catalog(&self) -> Arc<Catalog> {
        let mut catalog = self.catalog.lock().await;
        let changes = self.connection.changes();
        if catalog.0 == changes {
            return catalog.1.clone();
        }
        let server = &self.server;
        let patience = self.settings.call_timeout.min(RELIST_PATIENCE);
        let listed = timeout(patience, self.connection.tools()).await;
        // The change counts as handled whatever came of it: otherwise each call would wait anew for
        // a list that does not come. The next announced change triggers another listing.
        catalog.0 = changes;
        match listed {
            Ok(Ok(listed)) => {
                let tools = Arc::new(Catalog::new(server, &self.settings, listed));
                tools.log_news(server, catalog.1.left_out());
                tracing::info!(%server, tools = tools.len(), "tools changed");
                self.known.send_replace(tools.clone());
                catalog.1 = tools;
            }
            Ok(Err(error)) => {
                tracing::warn!(%server, %error, "tools changed, and cannot be listed again");
            }
            Err(_) => tracing::warn!(%server, "tools changed, and are not listed in time"),
        }
        catalog.1.clone()
    }

    /// Calls a tool by its name on the server. If there is no result, also returns how the server
    /// ended, if it has.
    pub(super) async fn call(
        &self,
        request: CallRequest,
    ) -> Result<Value, (NoResult, Option<String>)> {
        let error = match self.connection.call(request).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if let NoResult::Refused(refused) = &error
            && matches!(
                refused.code,
                rmcp::model::ErrorCode::INVALID_PARAMS | rmcp::model::ErrorCode::METHOD_NOT_FOUND
            )
        {
            // The server may have removed or changed the tool without announcing it.
            self.connection.doubt();
        }
        let is_over = matches!(error, NoResult::NotSent | NoResult::Lost(None));
        if is_over || matches!(error, NoResult::Forgotten) {
            let _ = timeout(OBITUARY_PATIENCE, self.until_ended()).await;
        }
        let ended = self.ended().filter(|_| is_over);
        Err((error, ended.map(|ended| ended.end.reason)))
    }
}

/// Returns how long a start may take in total. Callers wait for `start_timeout` and then go on
/// without the server; the start itself continues, since some programs are downloaded at their
/// first start.
pub(super) fn start_limit(settings: &ToolServer) -> Duration {
    settings.start_timeout.saturating_mul(START_FACTOR)
}

/// The error for a server that was not ready within its start limit.
pub(super) fn late(server: &str, settings: &ToolServer) -> String {
    format!(
        "it was not ready within {} ({START_FACTOR} times `mcp.{server}.start_timeout`)",
        humantime::format_duration(start_limit(settings))
    )
}
