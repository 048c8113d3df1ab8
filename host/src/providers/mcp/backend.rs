//! The HTTP client below the SDK's transport. The SDK decides when a session begins and which
//! stream is resumed; this module sends requests, reads responses within their bounds, and reports
//! the fate of each request to its caller.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};
use sse_stream::{Sse, SseStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::{self, PostResponse, PostedRequest};
use super::bodies::{self, ByteChunks};
use super::bound::AnswerBound;
use super::delivery::{Delivery, DeliveryFate};
use super::events::EventSize;
use super::jsonrpc::JsonRpcReader;
use super::requests::Requests;
use super::scan::JsonScan;
use super::utf8::Utf8;
use crate::providers::http_body::causes;

/// The pause before opening another stream for server messages, or resuming one that broke off: a
/// server that ends each stream at once must not be polled in a tight loop.
const STREAM_PAUSE: Duration = Duration::from_millis(500);
/// How long a server may take to show that it speaks MCP's first HTTP transport, and within how
/// many bytes.
const OLD_PATIENCE: Duration = Duration::from_secs(2);
const OLD_MAX_BYTES: usize = 8 << 10;
/// The timeout of the request that ends a session.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);
const SESSION: &str = "mcp-session-id";
const LAST_EVENT: &str = "last-event-id";
const ANSWERS: &str = "application/json, text/event-stream";
const EVENTS: &str = "text/event-stream";

/// Why a connection ended without being closed by Abide.
#[derive(Clone, Debug)]
pub(super) struct Over {
    pub(super) reason: String,
    /// The server is still running and has forgotten the session.
    pub(super) forgotten: bool,
}

/// The HTTP client of one server, for the lifetime of one connection.
#[derive(Clone)]
pub(super) struct Backend(Arc<BackendCore>);

struct BackendCore {
    parts: BackendParts,
    requests: Requests,
    over: watch::Sender<Option<Over>>,
    /// The first error: the later ones follow from it.
    trouble: watch::Sender<Option<String>>,
    /// The first request was rejected with a status that servers use which do not support such
    /// requests.
    unfit: AtomicBool,
    /// Whether a stream was requested before, and (`heard`) whether one was ever opened.
    asked: AtomicBool,
    has_answered: AtomicBool,
}

/// The parts of a [`Backend`].
pub(super) struct BackendParts {
    pub(super) server: Arc<str>,
    /// The server's URL, and (`shown`) its form for messages.
    pub(super) url: reqwest::Url,
    pub(super) shown: String,
    pub(super) http: reqwest::Client,
    /// The headers that each request carries, marked as sensitive.
    pub(super) headers: HeaderMap,
    pub(super) bound: AnswerBound,
    /// Aborts requests in flight. The SDK does not do so during the handshake.
    pub(super) stop: CancellationToken,
}

type Headers = HashMap<HeaderName, HeaderValue>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

impl Backend {
    pub(super) fn new(parts: BackendParts) -> Self {
        Self(Arc::new(BackendCore {
            parts,
            requests: Requests::default(),
            over: watch::Sender::default(),
            trouble: watch::Sender::default(),
            unfit: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
        }))
    }

    /// Watches for the end of the connection.
    pub(super) fn over(&self) -> watch::Receiver<Option<Over>> {
        self.0.over.subscribe()
    }

    /// Returns the first error.
    pub(super) fn trouble(&self) -> Option<String> {
        self.0.trouble.borrow().clone()
    }

    /// Returns whether the server, which rejected the first request, speaks MCP's first HTTP
    /// transport: its event stream begins with the address for requests.
    pub(super) async fn speaks_old_http(&self) -> bool {
        if !self.0.unfit.load(Ordering::Acquire) {
            return false;
        }
        let asked = async {
            let request = self.0.request(http::Method::GET, None, Headers::new());
            let response = request.header(header::ACCEPT, EVENTS).send().await.ok()?;
            let is_stream =
                response.status().is_success() && answer::kind_of(&response).starts_with(EVENTS);
            let mut text = Vec::new();
            let mut chunks = bodies::chunks(response);
            while is_stream && text.len() < OLD_MAX_BYTES {
                text.extend_from_slice(&chunks.next().await?.ok()?);
                if begins_as_old_http(&text) {
                    return Some(());
                }
            }
            None
        };
        timeout(OLD_PATIENCE, asked)
            .await
            .is_ok_and(|is_so| is_so.is_some())
    }
}

impl BackendCore {
    fn request(
        &self,
        method: http::Method,
        session: Option<Arc<str>>,
        headers: Headers,
    ) -> reqwest::RequestBuilder {
        let mut request = self.parts.http.request(method, self.parts.url.clone());
        request = request.headers(self.parts.headers.clone());
        if let Some(session) = session {
            request = request.header(SESSION, session.as_ref());
        }
        headers.into_iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    }

    fn end(&self, reason: String, forgotten: bool) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert(Over { reason, forgotten });
            first
        });
    }

    /// Classifies a request that got no response.
    fn unanswered(&self, error: &reqwest::Error) -> DeliveryFate {
        if !error.is_connect() {
            return DeliveryFate::Unclear(format!("the connection broke off: {}", causes(error)));
        }
        let reason = format!(
            "{} cannot be reached ({}); check that it runs and that `mcp.{}.url` is right",
            self.parts.shown,
            root(error),
            self.parts.server
        );
        self.end(reason.clone(), false);
        DeliveryFate::NotTaken(reason)
    }

    /// Sends a message, and returns its answer or the stream in which the answer will arrive.
    async fn post(
        &self,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, DeliveryFate> {
        // Registered before it is sent: the answer must find the request.
        self.requests.sent(&message);
        let id = answer::id_of(&message);
        let asked = PostedRequest {
            server: &self.parts.server,
            url: &self.parts.shown,
            request: id,
            requests: &self.requests,
            in_session: session.is_some(),
            has_token: self.parts.headers.contains_key(header::AUTHORIZATION),
        };
        let opens = id.is_some() && session.is_none();
        let sending = Delivery::of(&message);
        let request = self
            .request(http::Method::POST, session, headers)
            .header(header::ACCEPT, ANSWERS)
            .json(&message);
        let response = request.send().await;
        let response = response.map_err(|error| self.unanswered(&error))?;
        if opens && matches!(response.status().as_u16(), 400 | 404..=406 | 415 | 501) {
            self.unfit.store(true, Ordering::Release);
        }
        let session = response.headers().get(SESSION);
        let session = session.and_then(|id| id.to_str().ok()).map(str::to_owned);
        match asked.take(response, self.parts.bound.bytes()).await? {
            PostResponse::Accepted => Ok(StreamableHttpPostResponse::Accepted),
            PostResponse::Message(message) => {
                Ok(StreamableHttpPostResponse::Json(*message, session))
            }
            PostResponse::Events(chunks) => {
                let events = self.events(chunks, id, sending);
                Ok(StreamableHttpPostResponse::Sse(events, session))
            }
        }
    }

    /// Returns the events of a stream: the answer to a request, or messages that the server sends
    /// on its own. If the stream breaks off, `sending` is settled with the reason.
    fn events(&self, chunks: ByteChunks, posted: Option<i64>, sending: Option<Delivery>) -> Events {
        let bound = self.parts.bound.clone();
        let mut size = EventSize::default();
        let mut utf8 = Utf8::default();
        let settle = move |fate: DeliveryFate| {
            let error = io::Error::other(fate.to_string());
            if let Some(sending) = &sending {
                sending.settle(fate);
            }
            error
        };
        let bytes = chunks.map(move |chunk| match chunk {
            Ok(chunk) if size.take(&chunk, bound.bytes()) => Ok(utf8.take(chunk)),
            Ok(_) => Err(settle(DeliveryFate::TooLong)),
            Err(why) => Err(settle(DeliveryFate::Unclear(format!(
                "its answer broke off: {why}"
            )))),
        });
        let stopped = self.parts.stop.clone().cancelled_owned();
        let requests = self.requests.clone();
        let events = SseStream::from_bytes_stream(bytes.take_until(Box::pin(stopped)));
        let read = move |event: Result<Sse, SseError>| {
            let events = match event {
                Ok(event) => {
                    let requests = &requests;
                    messages(&JsonRpcReader { requests, posted }, event)
                }
                Err(error) => vec![Err(error)],
            };
            stream::iter(events)
        };
        events.flat_map(read).boxed()
    }

    /// Opens a stream for messages that the server sends on its own, or for the rest of an answer.
    /// `None` if the server does not offer one.
    async fn stream(
        &self,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        headers: Headers,
    ) -> Result<Option<Events>, DeliveryFate> {
        if self.asked.swap(true, Ordering::AcqRel) {
            sleep(STREAM_PAUSE).await;
        }
        let in_session = session.is_some();
        let mut request = self
            .request(http::Method::GET, session, headers)
            .header(header::ACCEPT, EVENTS);
        if let Some(last_event) = last_event {
            request = request.header(LAST_EVENT, last_event);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                return match self.unanswered(&error) {
                    // The server cannot be reached, so the connection has just been marked as over.
                    DeliveryFate::NotTaken(_) => Ok(None),
                    fate => Err(fate),
                };
            }
        };
        let status = response.status();
        if status.is_success() && answer::kind_of(&response).starts_with(EVENTS) {
            self.has_answered.store(true, Ordering::Release);
            return Ok(Some(self.events(bodies::chunks(response), None, None)));
        }
        if status == StatusCode::NOT_FOUND
            && in_session
            && self.has_answered.load(Ordering::Acquire)
        {
            self.end(DeliveryFate::Forgotten.to_string(), true);
        }
        if status.is_server_error() {
            return Err(DeliveryFate::Unclear(format!("it failed ({status})")));
        }
        Ok(None)
    }

    async fn unless_stopped<T>(
        &self,
        what: impl Future<Output = Result<T, DeliveryFate>>,
    ) -> Result<T, DeliveryFate> {
        tokio::select! {
            () = self.parts.stop.cancelled() => {
                Err(DeliveryFate::Unclear("it was ended, since the daemon restarts or stops".to_owned()))
            }
            done = what => done,
        }
    }
}

/// Normalizes an event for the SDK; one event may hold several messages.
fn messages(reader: &JsonRpcReader<'_>, event: Sse) -> Vec<Result<Sse, SseError>> {
    let is_message = matches!(event.event.as_deref(), None | Some("" | "message"));
    let Some(data) = event.data.as_deref().filter(|_| is_message) else {
        return vec![Ok(event)];
    };
    let answers = || {
        let mut scan = JsonScan::default();
        data.bytes().for_each(|byte| scan.take(byte));
        scan.answers()
    };
    let messages = reader.read(data.as_bytes(), answers).into_iter();
    let text = |message: ServerJsonRpcMessage| serde_json::to_string(&message).ok();
    let mut events: Vec<Sse> = messages
        .filter_map(text)
        .map(|data| Sse {
            event: None,
            data: Some(data),
            id: None,
            retry: None,
        })
        .collect();
    // Keep the id even of an event without data: the SDK resumes a broken stream from the last id.
    events.push(Sse {
        data: None,
        ..event
    });
    events.into_iter().map(Ok).collect()
}

/// Returns whether a stream begins with the address for requests.
fn begins_as_old_http(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.any(|(field, value)| field.trim() == "event" && value.trim() == "endpoint")
}

/// Returns the root cause of an error: it alone tells why a connection could not be established.
fn root(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}

impl StreamableHttpClient for Backend {
    type Error = DeliveryFate;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<DeliveryFate>> {
        let (id, sending) = (answer::id_of(&message), Delivery::of(&message));
        // Before anything is sent: a caller that gave up first is certain that nothing ever is.
        if sending.as_ref().is_some_and(|sending| !sending.begin()) {
            return Err(StreamableHttpError::Client(DeliveryFate::NotSent));
        }
        let inner = &self.0;
        let posted = inner.unless_stopped(inner.post(message, session, headers));
        posted.await.map_err(|fate| {
            if let Some(id) = id {
                inner.requests.forget(id);
            }
            if let Some(sending) = sending {
                sending.settle(fate.clone());
            }
            inner.trouble.send_if_modified(|trouble| {
                let first = trouble.is_none();
                trouble.get_or_insert_with(|| fate.to_string());
                first
            });
            if fate == DeliveryFate::Forgotten {
                inner.end(fate.to_string(), true);
                return StreamableHttpError::SessionExpired;
            }
            StreamableHttpError::Client(fate)
        })
    }

    /// Ignores the SDK's limits: [`AnswerBound`] follows the limits of the calls.
    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: Headers,
        _: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<DeliveryFate>> {
        self.post_message(uri, message, session, auth, headers)
            .await
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<(), StreamableHttpError<DeliveryFate>> {
        let goodbye = self.0.request(http::Method::DELETE, Some(session), headers);
        // The response is ignored: no one is left to act on it.
        let _ = timeout(GOODBYE_PATIENCE, goodbye.send()).await;
        Ok(())
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<Events, StreamableHttpError<DeliveryFate>> {
        let stream = self.0.stream(session, last_event, headers);
        match self.0.unless_stopped(stream).await {
            Ok(Some(events)) => Ok(events),
            // The only error after which the SDK does not retry.
            Ok(None) => Err(StreamableHttpError::ServerDoesNotSupportSse),
            Err(fate) => Err(StreamableHttpError::Client(fate)),
        }
    }
}
