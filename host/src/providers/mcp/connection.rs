//! An MCP connection: the handshake, the list of tools, and calls. Independent of processes and
//! HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest,
    ErrorCode, ErrorData, Implementation, JsonObject, ListToolsRequest, PaginatedRequestParams,
    ProtocolVersion, RequestMetaObject, ServerResult,
};
use rmcp::service::{
    ClientInitializeError, NotificationContext, PeerRequestOptions, RequestHandle, RunningService,
    ServiceError,
};
use rmcp::transport::Transport;
use rmcp::{ClientHandler, Peer, RoleClient, serve_client};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::bound::AnswerBound;
use super::delivery::{Delivery, DeliveryFate};
use super::jsonrpc::{TOO_LONG, UNREADABLE, unseal};
use super::listing::ToolList;
use super::throttle::Paced;
use super::wire::StdioPipes;

/// The `_meta` field that carries a call's key: the same call has the same key each time it is
/// sent.
const KEY: &str = "abide/key";

/// Handles requests and notifications from the server. Every request is declined.
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

/// The running SDK service of a connection.
pub(super) type ConnectionTask = RunningService<RoleClient, Handler>;

/// An open MCP connection.
pub(super) struct McpConnection {
    peer: Peer<RoleClient>,
    changes: Arc<AtomicU64>,
    bound: AnswerBound,
}

/// A tool call to send.
pub(super) struct CallRequest {
    pub(super) tool: String,
    pub(super) arguments: JsonObject,
    pub(super) key: String,
    /// How long the server may stay silent.
    pub(super) patience: Duration,
    /// How long the call may take in total, however much progress the server reports.
    pub(super) limit: Duration,
    pub(super) limit_bytes: u64,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum NoResult {
    /// The request was not and will not be written: the connection has ended.
    NotSent,
    /// The request was not and will not be written: the server does not read its input.
    Busy,
    /// The request did not reach the server or was rejected there, for this reason.
    NotTaken(String),
    /// Like `NotTaken`: the server no longer knows this session; a new session may accept the call.
    Forgotten,
    /// The request was written, and the connection ended or what came back is not an answer; the
    /// reason, if known.
    Lost(Option<String>),
    /// The request was written, and no answer came within this time.
    Late(Duration),
    /// The answer exceeded the size bound.
    TooLong,
    /// The server answered with an error.
    Refused(ErrorData),
}

/// The maximum number of pages that are read of a list of tools.
const PAGES_MAX: usize = 100;

impl McpConnection {
    /// Performs the handshake over a server's pipes. The connection lasts as long as the second
    /// value.
    pub(super) async fn open<R, W>(
        read: R,
        write: W,
    ) -> Result<(Self, ConnectionTask), ClientInitializeError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let bound = AnswerBound::new();
        Self::over(StdioPipes::new(read, write, bound.clone()), bound).await
    }

    /// As [`McpConnection::open`], over any transport that enforces the bound and reports the fate
    /// of each request ([`Delivery`]).
    pub(super) async fn over<T>(
        transport: T,
        bound: AnswerBound,
    ) -> Result<(Self, ConnectionTask), ClientInitializeError>
    where
        T: Transport<RoleClient> + 'static,
    {
        let changes = Arc::new(AtomicU64::new(0));
        let handler = Handler {
            changes: changes.clone(),
        };
        let serving = serve_client(handler, Paced::new(transport)).await?;
        let connection = Self {
            peer: serving.peer().clone(),
            changes,
            bound,
        };
        Ok((connection, serving))
    }

    /// Returns how often the server has announced that its tools changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Makes the next use of the list of tools fetch it again.
    pub(super) fn doubt(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Lists all tools, page by page.
    pub(super) async fn tools(&self) -> Result<ToolList, ServiceError> {
        let mut all = ToolList::default();
        let mut seen = BTreeSet::new();
        let mut cursor = None;
        loop {
            let page = PaginatedRequestParams::default().with_cursor(cursor);
            let request = ListToolsRequest::with_param(page);
            let request = ClientRequest::ListToolsRequest(request);
            let answer = match self.peer.send_request(request).await {
                // A server without tools need not implement the method.
                Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
                    return Ok(all);
                }
                answer => unseal(answer?),
            };
            all.take(answer);
            let Some(next) = all.next.take() else {
                return Ok(all);
            };
            // An empty page need not be the last one: some servers filter a page after cutting it.
            if seen.len() >= PAGES_MAX || !seen.insert(next.clone()) {
                tracing::warn!("a tool server's list of tools does not end; the rest is ignored");
                return Ok(all);
            }
            cursor = Some(next);
        }
    }

    /// Calls a tool. On a timeout, and when the future is dropped, the server is sent a
    /// cancellation.
    pub(super) async fn call(&self, request: CallRequest) -> Result<Value, NoResult> {
        let begun = Instant::now();
        let last = begun + request.limit;
        let deadline = last.min(begun + request.patience);
        self.bound.make_room_for(request.limit_bytes);
        let sending = Delivery::default();
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
        let mut in_flight = CallInFlight {
            sending: sending.clone(),
            handle: Some(handle),
        };
        let Some(answer) = in_flight.wait(deadline, request.patience, last).await else {
            return Err(match sending.fate() {
                _ if sending.give_up() => NoResult::Busy,
                Some(DeliveryFate::TooLong) => NoResult::TooLong,
                _ => NoResult::Late(begun.elapsed()),
            });
        };
        match answer {
            Some(Ok(result)) => Ok(unseal(result)),
            Some(Err(ServiceError::McpError(error))) if error.code.0 == TOO_LONG => {
                Err(NoResult::TooLong)
            }
            Some(Err(ServiceError::McpError(error))) if error.code.0 == UNREADABLE => {
                Err(NoResult::Lost(Some(error.message.into_owned())))
            }
            Some(Err(ServiceError::McpError(error))) => Err(NoResult::Refused(error)),
            _ => Err(match sending.fate() {
                Some(DeliveryFate::NotSent) => NoResult::NotSent,
                Some(DeliveryFate::NotTaken(why)) => NoResult::NotTaken(why),
                Some(DeliveryFate::Forgotten) => NoResult::Forgotten,
                Some(DeliveryFate::TooLong) => NoResult::TooLong,
                Some(DeliveryFate::Unclear(why)) => NoResult::Lost(Some(why)),
                None if sending.give_up() => NoResult::NotSent,
                None => NoResult::Lost(None),
            }),
        }
    }
}

/// A call that waits for its answer; dropping it cancels the call.
struct CallInFlight {
    sending: Delivery,
    handle: Option<RequestHandle<RoleClient>>,
}

impl CallInFlight {
    /// Waits for the answer; `None` if it does not come in time. Progress that the server reports
    /// extends the deadline, up to `last`.
    async fn wait(
        &mut self,
        mut deadline: Instant,
        patience: Duration,
        last: Instant,
    ) -> Option<Option<Result<ServerResult, ServiceError>>> {
        let sending = self.sending.clone();
        let answer = self.answer();
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return Some(answer),
                () = sending.progress() => deadline = last.min(Instant::now() + patience),
                () = sleep_until(deadline) => return None,
            }
        }
    }

    /// Receives the answer; `None` if the connection ended.
    async fn answer(&mut self) -> Option<Result<ServerResult, ServiceError>> {
        let answer = (&mut self.handle.as_mut()?.rx).await.ok();
        self.handle = None;
        answer
    }
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        // First: a request that is not being written yet must never be written after this.
        self.sending.give_up();
        if let Some(handle) = self.handle.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                // If the connection has ended as well, there is no one to notify.
                let _ = handle.cancel(Some("nobody waits for it".to_owned())).await;
            });
        }
    }
}
