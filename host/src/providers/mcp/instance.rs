//! One life of a server: from its start to the end of its last descendant.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use rmcp::service::ClientInitializeError;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ToolServer;
use super::catalog::Catalog;
use super::connection::{Connection, NoResult, Request, Serving};
use super::errors::brief;
use super::process::{Pipes, Process};
use super::stderr::{self, LastWords};

/// How long what is still in a dead server's pipe may take to be read, and an open connection to
/// be closed.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// How long a call whose connection ended waits to be told what became of the server.
const OBITUARY_PATIENCE: Duration = Duration::from_secs(3);

/// A server that runs, or that has ended.
pub(super) struct Instance {
    server: Arc<str>,
    settings: Arc<ToolServer>,
    connection: Connection,
    /// The tools, and the count of changes that they were listed at.
    catalog: Mutex<(u64, Arc<Catalog>)>,
    since: Instant,
    ended: watch::Receiver<Option<Ended>>,
    /// Once nobody has the instance any more, it is ended.
    _stop: DropGuard,
}

/// The end of a server.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) reason: String,
    pub(super) at: Instant,
    pub(super) served: Duration,
}

impl Instance {
    /// Starts a server, shakes hands and lists its tools, all within its time. It ends when `stop`
    /// is cancelled.
    pub(super) async fn start(
        server: &Arc<str>,
        settings: &Arc<ToolServer>,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        let (process, pipes) = Process::spawn(server, settings)?;
        let Pipes {
            input,
            output,
            errors,
        } = pipes;
        let last = LastWords::default();
        tokio::spawn(stderr::drain(
            errors,
            server.clone(),
            settings.clone(),
            last.clone(),
        ));
        let opening = async {
            let opened = Connection::open(output, input).await;
            let (connection, serving) = opened.map_err(|error| explain(&error))?;
            let changes = connection.changes();
            let tools = connection.tools().await;
            let tools = tools.map_err(|error| format!("it did not list its tools: {error}"))?;
            let catalog = Catalog::new(server, settings, tools);
            Ok((connection, serving, (changes, Arc::new(catalog))))
        };
        let limit = settings.start_timeout;
        let opened = tokio::select! {
            opened = opening => opened,
            () = process.exited() => Err(String::new()),
            () = sleep(limit) => Err(format!(
                "it was not ready within {} (`mcp.{server}.start_timeout`)",
                humantime::format_duration(limit)
            )),
            () = stop.cancelled() => Err("it was not needed any more".to_owned()),
        };
        let (connection, serving, catalog) = match opened {
            Ok(opened) => opened,
            Err(reason) => {
                // Where it went by itself, its status says more than the broken connection.
                let gone = timeout(CLOSE_PATIENCE, process.exited()).await.is_ok();
                let status = process.end().await;
                let reason = if gone {
                    format!("{status} before it was ready")
                } else {
                    reason
                };
                return Err(last.after(&settings.redact(&brief(&reason))));
            }
        };
        tracing::info!(
            %server,
            pid = process.id(),
            tools = catalog.1.all().count(),
            "tool server started"
        );
        let (told, ended) = watch::channel(None);
        let since = Instant::now();
        let kept = keep(process, serving, stop.clone());
        let name = server.clone();
        tokio::spawn(async move {
            let reason = kept.await;
            tracing::info!(server = %name, reason, "tool server ended");
            let _ = told.send(Some(Ended {
                reason: last.after(&reason),
                at: Instant::now(),
                served: since.elapsed(),
            }));
        });
        Ok(Self {
            server: server.clone(),
            settings: settings.clone(),
            connection,
            catalog: Mutex::new(catalog),
            since,
            ended,
            _stop: stop.drop_guard(),
        })
    }

    /// Its end, if it has ended.
    pub(super) fn ended(&self) -> Option<Ended> {
        match self.ended.has_changed() {
            // The keeper is gone without a word: it panicked, or the runtime goes.
            Err(_) if self.ended.borrow().is_none() => Some(Ended {
                reason: "it is watched by nobody".to_owned(),
                at: Instant::now(),
                served: self.since.elapsed(),
            }),
            _ => self.ended.borrow().clone(),
        }
    }

    /// Waits for its end.
    pub(super) async fn until_ended(&self) {
        let _ = self.ended.clone().wait_for(Option::is_some).await;
    }

    /// Its tools; listed again where it has said that they changed.
    pub(super) async fn catalog(&self) -> Arc<Catalog> {
        let mut catalog = self.catalog.lock().await;
        let changes = self.connection.changes();
        if catalog.0 == changes {
            return catalog.1.clone();
        }
        let server = &self.server;
        match timeout(self.settings.call_timeout, self.connection.tools()).await {
            Ok(Ok(tools)) => {
                let tools = Catalog::new(server, &self.settings, tools);
                tracing::info!(%server, tools = tools.all().count(), "tools changed");
                *catalog = (changes, Arc::new(tools));
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
        request: Request,
    ) -> Result<rmcp::model::ServerResult, (NoResult, Option<String>)> {
        let error = match self.connection.call(request).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let is_over = matches!(error, NoResult::NotSent | NoResult::Lost);
        if is_over {
            let _ = timeout(OBITUARY_PATIENCE, self.until_ended()).await;
        }
        let ended = self.ended().filter(|_| is_over);
        Err((error, ended.map(|ended| ended.reason)))
    }
}

/// Watches over a server to its end. How it ended.
async fn keep(process: Process, serving: Serving, stop: CancellationToken) -> String {
    let connection = serving.cancellation_token();
    let closed = serving.waiting().fuse();
    tokio::pin!(closed);
    tokio::select! {
        () = process.exited() => {
            // Its last answers may lie in the pipe yet, whose end comes once no descendant has it.
            let status = process.end().await;
            let _ = timeout(CLOSE_PATIENCE, &mut closed).await;
            connection.cancel();
            status
        }
        _ = &mut closed => {
            let status = process.end().await;
            format!("it closed its output; {status}")
        }
        () = stop.cancelled() => {
            connection.cancel();
            // Closes its input, unless it blocks a writer: then its end does.
            let _ = timeout(CLOSE_PATIENCE, &mut closed).await;
            process.end().await;
            "it was ended, since the daemon restarts or stops".to_owned()
        }
    }
}

fn explain(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::ConnectionClosed(_) => "it closed its output".to_owned(),
        ClientInitializeError::JsonRpcError(error) => {
            format!("it refused to initialize: {}", error.message)
        }
        ClientInitializeError::TransportError { error, .. } => {
            format!("it takes no input: {}", error.error)
        }
        _ => "what it answered to `initialize` is not MCP".to_owned(),
    }
}
