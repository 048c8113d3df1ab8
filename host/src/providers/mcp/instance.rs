//! One life of a server: from its start to its end, however it is reached.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant as Moment, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::catalog::Catalog;
use super::connection::{CallRequest, ConnectionTask, McpConnection, NoResult};
use super::opening::OpenFailure;
use super::settings::{ToolServer, ToolServerAt};
use super::{child, remote};
use crate::domain::UnixMillis;

/// How long what is still in a dead server's pipe may take to be read, and an open connection to
/// be closed.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// How long a call whose connection ended waits to be told what became of the server.
const OBITUARY_PATIENCE: Duration = Duration::from_secs(3);
/// How long a list of tools may take that is not the first one: a call waits for it, and has the one
/// before.
const RELIST_PATIENCE: Duration = Duration::from_secs(10);

/// How many times as long as somebody waits for it a start may take.
const START_FACTOR: u32 = 10;

/// A server that runs, or that has ended.
pub(super) struct Instance {
    server: Arc<str>,
    settings: Arc<ToolServer>,
    connection: McpConnection,
    /// The tools, and the count of changes that they were listed at.
    catalog: Mutex<(u64, Arc<Catalog>)>,
    /// The same tools, for who must not wait for a list.
    known: watch::Sender<Arc<Catalog>>,
    pub(super) since: UnixMillis,
    ended: watch::Receiver<Option<EndedServer>>,
    /// Once nobody has the instance any more, it is ended.
    _stop: DropGuard,
}

/// How a server ended.
#[derive(Clone, Debug)]
pub(super) struct ServerExit {
    pub(super) reason: String,
    /// It goes on, and has only forgotten us: it may be gone back to at once.
    pub(super) forgotten: bool,
}

/// The end of a server.
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

/// An open connection, and the tools that were found on it.
pub(super) struct OpenedServer {
    connection: McpConnection,
    serving: ConnectionTask,
    catalog: (u64, Arc<Catalog>),
}

impl OpenedServer {
    /// Lists a connection's tools.
    pub(super) async fn list(
        server: &str,
        settings: &ToolServer,
        connection: McpConnection,
        serving: ConnectionTask,
    ) -> Result<Self, OpenFailure> {
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

    /// How many there are.
    pub(super) fn tools(&self) -> usize {
        self.catalog.1.len()
    }
}

impl Instance {
    /// Starts a server or connects to it, shakes hands and lists its tools, all within its time. It
    /// ends when `stop` is cancelled.
    pub(super) async fn start(
        server: &Arc<str>,
        settings: &Arc<ToolServer>,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        match &settings.at {
            ToolServerAt::Command(program) => child::start(server, settings, program, stop).await,
            ToolServerAt::Url(endpoint) => remote::start(server, settings, endpoint, stop).await,
        }
    }

    /// Takes an open connection; `watch` waits for its end.
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
        let (told, ended) = watch::channel(None);
        let since = Moment::now();
        let end = watch(serving);
        let name = server.clone();
        tokio::spawn(async move {
            let end = end.await;
            tracing::info!(server = %name, reason = end.reason, "tool server ended");
            let _ = told.send(Some(EndedServer::now(end, since)));
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

    /// Its end, if it has ended.
    pub(super) fn ended(&self) -> Option<EndedServer> {
        match self.ended.has_changed() {
            // The keeper is gone without a word: it panicked, or the runtime goes.
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

    /// Waits for its end.
    pub(super) async fn until_ended(&self) {
        let _ = self.ended.clone().wait_for(Option::is_some).await;
    }

    /// Has the tools listed again before they are used next.
    pub(super) fn doubt(&self) {
        self.connection.doubt();
    }

    /// Its tools as they were listed last.
    pub(super) fn known(&self) -> Arc<Catalog> {
        self.known.borrow().clone()
    }

    /// Its tools; listed again where it has said that they changed.
    pub(super) async fn catalog(&self) -> Arc<Catalog> {
        let mut catalog = self.catalog.lock().await;
        let changes = self.connection.changes();
        if catalog.0 == changes {
            return catalog.1.clone();
        }
        let server = &self.server;
        let patience = self.settings.call_timeout.min(RELIST_PATIENCE);
        let listed = timeout(patience, self.connection.tools()).await;
        // Settled whatever came: else each call would wait anew for a list that does not come. The
        // next word of a change asks for it again.
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

    /// Calls a tool by its own name. Where there is no result, also what became of the server, if
    /// it ended.
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
            // It may have taken the tool away, or changed what it takes, without a word.
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

/// How long a start may take in all: who waits for it waits for `start_timeout` and goes on without the
/// server; the start itself goes on, for programs are downloaded at their first one.
pub(super) fn start_limit(settings: &ToolServer) -> Duration {
    settings.start_timeout.saturating_mul(START_FACTOR)
}

/// Why a server is given up that does not become usable.
pub(super) fn late(server: &str, settings: &ToolServer) -> String {
    format!(
        "it was not ready within {} ({START_FACTOR} times `mcp.{server}.start_timeout`)",
        humantime::format_duration(start_limit(settings))
    )
}
