//! An MCP connection: its opening, the list of tools, calls. Knows nothing of processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest,
    ErrorCode, ErrorData, Implementation, JsonObject, PaginatedRequestParams, ProtocolVersion,
    RequestMetaObject, ServerResult, Tool,
};
use rmcp::service::{
    ClientInitializeError, NotificationContext, PeerRequestOptions, RequestHandle, RunningService,
    ServiceError,
};
use rmcp::{ClientHandler, Peer, RoleClient, serve_client};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::lines::TOO_LONG;
use super::wire::{Sending, Wire};

/// The longest line that is read of any server, in bytes.
const LINE_MAX_BYTES: usize = 64 << 20;
/// The longest line where no call takes a longer answer: lists of tools have no other limit.
const LINE_BYTES: usize = 4 << 20;
/// How much longer than its content an answer is on the wire, at most: escapes and base64.
const WIRE_FACTOR: u64 = 4;
/// Tools that are taken of one server; further ones are ignored.
const TOOLS_MAX: usize = 1000;
/// The `_meta` key under which a server finds a call's key: the same call has the same key, however
/// often it is sent.
const KEY: &str = "abide/key";

/// The client's side of what servers may say and ask. All that they may ask for is declined.
pub(super) struct Handler {
    changes: Arc<AtomicU64>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let client = Implementation::new("abide", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), client)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// The task that serves a connection.
pub(super) type Serving = RunningService<RoleClient, Handler>;

/// An open connection.
pub(super) struct Connection {
    peer: Peer<RoleClient>,
    changes: Arc<AtomicU64>,
    line_bound: Arc<AtomicUsize>,
}

/// A call.
pub(super) struct Request {
    pub(super) tool: String,
    pub(super) arguments: JsonObject,
    pub(super) key: String,
    pub(super) timeout: Duration,
    pub(super) limit_bytes: u64,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum NoResult {
    /// It was not written, and will not be: the connection has ended.
    NotSent,
    /// It was not written, and will not be: the server reads nothing.
    Busy,
    /// It was written, and the connection ended.
    Lost,
    /// It was written, and nothing came in time.
    Late,
    /// The answer was too long to be taken in.
    TooLong,
    /// The server answered with an error.
    Refused(ErrorData),
}

impl Connection {
    /// Shakes hands. The connection lasts as long as the second value.
    pub(super) async fn open<R, W>(
        read: R,
        write: W,
    ) -> Result<(Self, Serving), ClientInitializeError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let line_bound = Arc::new(AtomicUsize::new(LINE_BYTES));
        let changes = Arc::new(AtomicU64::new(0));
        let handler = Handler {
            changes: changes.clone(),
        };
        let serving = serve_client(handler, Wire::new(read, write, line_bound.clone())).await?;
        let connection = Self {
            peer: serving.peer().clone(),
            changes,
            line_bound,
        };
        Ok((connection, serving))
    }

    /// How often the server has said that its tools have changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// All tools, page by page.
    pub(super) async fn tools(&self) -> Result<Vec<Tool>, ServiceError> {
        let mut tools: Vec<Tool> = Vec::new();
        let mut cursor = None;
        loop {
            let page = PaginatedRequestParams::default().with_cursor(cursor);
            let page = match self.peer.list_tools(Some(page)).await {
                // It has no tools.
                Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
                    return Ok(tools);
                }
                page => page?,
            };
            let empty = page.tools.is_empty();
            tools.extend(page.tools);
            cursor = page.next_cursor;
            if tools.len() > TOOLS_MAX || (empty && cursor.is_some()) {
                tracing::warn!(
                    max = TOOLS_MAX,
                    "a tool server offers too many tools; the rest is ignored"
                );
                tools.truncate(TOOLS_MAX);
                return Ok(tools);
            }
            if cursor.is_none() {
                return Ok(tools);
            }
        }
    }

    /// Calls a tool. Where it gives up, and where the future is dropped, the server is told.
    pub(super) async fn call(&self, request: Request) -> Result<ServerResult, NoResult> {
        let deadline = Instant::now() + request.timeout;
        let bound = request.limit_bytes.saturating_mul(WIRE_FACTOR);
        let bound = usize::try_from(bound).unwrap_or(LINE_MAX_BYTES);
        self.line_bound
            .fetch_max(bound.min(LINE_MAX_BYTES), Ordering::Relaxed);

        let sending = Sending::default();
        let params = CallToolRequestParams::new(request.tool).with_arguments(request.arguments);
        let mut call = CallToolRequest::new(params);
        call.extensions.insert(sending.clone());
        let mut meta = RequestMetaObject::new();
        meta.insert(KEY.to_owned(), request.key.into());
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let call = ClientRequest::CallToolRequest(call);
        let queued = self.peer.send_request_with_option(call, options);
        let handle = match timeout_at(deadline, queued).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(_)) => return Err(NoResult::NotSent),
            Err(_) => return Err(NoResult::Busy),
        };
        let mut in_flight = InFlight {
            sending: sending.clone(),
            handle: Some(handle),
        };
        let Ok(answer) = timeout_at(deadline, in_flight.answer()).await else {
            return Err(if sending.give_up() {
                NoResult::Busy
            } else {
                NoResult::Late
            });
        };
        match answer {
            Some(Ok(result)) => Ok(result),
            Some(Err(ServiceError::McpError(error))) if error.code.0 == TOO_LONG => {
                Err(NoResult::TooLong)
            }
            Some(Err(ServiceError::McpError(error))) => Err(NoResult::Refused(error)),
            // The pipe did not take the whole line, and who reads it acts on whole lines.
            Some(Err(ServiceError::TransportSend(_))) => Err(NoResult::NotSent),
            _ if sending.give_up() => Err(NoResult::NotSent),
            _ => Err(NoResult::Lost),
        }
    }
}

/// A call that waits for its answer.
struct InFlight {
    sending: Sending,
    handle: Option<RequestHandle<RoleClient>>,
}

impl InFlight {
    /// The answer; none where the connection ended.
    async fn answer(&mut self) -> Option<Result<ServerResult, ServiceError>> {
        let answer = (&mut self.handle.as_mut()?.rx).await.ok();
        self.handle = None;
        answer
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.sending.give_up();
        if let Some(handle) = self.handle.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                // Nobody is left to be told where the connection has ended as well.
                let _ = handle.cancel(Some("nobody waits for it".to_owned())).await;
            });
        }
    }
}
