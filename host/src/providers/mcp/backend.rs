//! HTTP below the SDK's transport: it decides when a session begins and which stream is resumed;
//! here requests are sent, answers are read within their bounds, and what became of each request
//! is told to who waits for it.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue, StatusCode, header};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};
use sse_stream::{Sse, SseStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer, Asked};
use super::connection::AnswerBound;
use super::events::EventSize;
use super::sending::{Fate, Sending};
use crate::providers::common::causes;

/// Between two streams that are opened for what the server says by itself, or to go on with one
/// that broke off: a server that ends each at once must not be asked all the time.
const STREAM_PAUSE: Duration = Duration::from_millis(500);
/// How long a server may take to hear that its session is over.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);
const SESSION: &str = "mcp-session-id";
const LAST_EVENT: &str = "last-event-id";
const ANSWERS: &str = "application/json, text/event-stream";
const EVENTS: &str = "text/event-stream";

/// Why a connection is over, though nobody ended it.
#[derive(Clone, Debug)]
pub(super) struct Over {
    pub(super) reason: String,
    /// The server goes on, and has forgotten the session.
    pub(super) forgotten: bool,
}

/// One server's HTTP, for the life of one connection.
#[derive(Clone)]
pub(super) struct Backend(Arc<Inner>);

struct Inner {
    parts: Parts,
    over: watch::Sender<Option<Over>>,
    /// What went wrong last.
    trouble: watch::Sender<Option<String>>,
    /// A stream was asked for before; one was opened.
    asked: AtomicBool,
    heard: AtomicBool,
}

/// What a backend is made of.
pub(super) struct Parts {
    pub(super) server: Arc<str>,
    /// Where it is, and how that is shown.
    pub(super) url: reqwest::Url,
    pub(super) shown: String,
    pub(super) http: reqwest::Client,
    /// Marked as sensitive.
    pub(super) token: Option<HeaderValue>,
    pub(super) bound: AnswerBound,
    /// Ends what is under way. The SDK does not while it shakes hands.
    pub(super) stop: CancellationToken,
}

type Headers = HashMap<HeaderName, HeaderValue>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

impl Backend {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            over: watch::Sender::default(),
            trouble: watch::Sender::default(),
            asked: AtomicBool::new(false),
            heard: AtomicBool::new(false),
        }))
    }

    /// Why the connection is over, once it is.
    pub(super) fn over(&self) -> watch::Receiver<Option<Over>> {
        self.0.over.subscribe()
    }

    /// What went wrong last.
    pub(super) fn trouble(&self) -> Option<String> {
        self.0.trouble.borrow().clone()
    }
}

impl Inner {
    fn request(
        &self,
        method: http::Method,
        session: Option<Arc<str>>,
        headers: Headers,
    ) -> reqwest::RequestBuilder {
        let mut request = self.parts.http.request(method, self.parts.url.clone());
        if let Some(token) = &self.parts.token {
            request = request.header(header::AUTHORIZATION, token.clone());
        }
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

    /// A request that got no answer.
    fn unanswered(&self, error: &reqwest::Error) -> Fate {
        if !error.is_connect() {
            return Fate::Unclear(format!("the connection broke off: {}", causes(error)));
        }
        let reason = format!(
            "{} cannot be reached ({}); check that it runs and that `mcp.{}.url` is right",
            self.parts.shown,
            root(error),
            self.parts.server
        );
        self.end(reason.clone(), false);
        Fate::NotTaken(reason)
    }

    /// Sends a message, and takes its answer, or the stream in which that will come.
    async fn post(
        &self,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Fate> {
        let asked = Asked {
            server: &self.parts.server,
            request: answer::id_of(&message),
            in_session: session.is_some(),
            has_token: self.parts.token.is_some(),
        };
        let sending = Sending::of(&message);
        let request = self
            .request(http::Method::POST, session, headers)
            .header(header::ACCEPT, ANSWERS)
            .json(&message);
        let response = request.send().await;
        let response = response.map_err(|error| self.unanswered(&error))?;
        let session = response.headers().get(SESSION);
        let session = session.and_then(|id| id.to_str().ok()).map(str::to_owned);
        match asked.take(response, self.parts.bound.bytes()).await? {
            Answer::Accepted => Ok(StreamableHttpPostResponse::Accepted),
            Answer::Message(message) => Ok(StreamableHttpPostResponse::Json(*message, session)),
            Answer::Events(response) => {
                let events = self.events(response, sending);
                Ok(StreamableHttpPostResponse::Sse(events, session))
            }
        }
    }

    /// An answer's events; `sending` is told how it broke off.
    fn events(&self, response: reqwest::Response, sending: Option<Sending>) -> Events {
        let bound = self.parts.bound.clone();
        let mut size = EventSize::default();
        let settle = move |fate: Fate| {
            let error = io::Error::other(fate.to_string());
            if let Some(sending) = &sending {
                sending.settle(fate);
            }
            error
        };
        let bytes = response.bytes_stream().map(move |chunk| match chunk {
            Ok(chunk) if size.take(&chunk, bound.bytes()) => Ok(chunk),
            Ok(_) => Err(settle(Fate::TooLong)),
            Err(error) => {
                let why = causes(&error);
                Err(settle(Fate::Unclear(format!(
                    "its answer broke off: {why}"
                ))))
            }
        });
        let stopped = self.parts.stop.clone().cancelled_owned();
        SseStream::from_bytes_stream(bytes.take_until(Box::pin(stopped))).boxed()
    }

    /// A stream of what the server says by itself, or of what is left of an answer. None if there
    /// is none to be had, now or ever.
    async fn stream(
        &self,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        headers: Headers,
    ) -> Result<Option<Events>, Fate> {
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
                    // It is gone.
                    Fate::NotTaken(_) => Ok(None),
                    fate => Err(fate),
                };
            }
        };
        let status = response.status();
        if status.is_success() && answer::kind_of(&response).starts_with(EVENTS) {
            self.heard.store(true, Ordering::Release);
            return Ok(Some(self.events(response, None)));
        }
        if status == StatusCode::NOT_FOUND && in_session && self.heard.load(Ordering::Acquire) {
            self.end(Fate::Forgotten.to_string(), true);
        }
        if status.is_server_error() {
            return Err(Fate::Unclear(format!("it failed ({status})")));
        }
        Ok(None)
    }

    async fn unless_stopped<T>(
        &self,
        what: impl Future<Output = Result<T, Fate>>,
    ) -> Result<T, Fate> {
        tokio::select! {
            () = self.parts.stop.cancelled() => {
                Err(Fate::Unclear("it was ended, since the daemon restarts or stops".to_owned()))
            }
            done = what => done,
        }
    }
}

/// What lies at the bottom of an error: of one that kept a connection from coming about, it says it
/// all.
fn root(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}

impl StreamableHttpClient for Backend {
    type Error = Fate;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<Fate>> {
        let sending = Sending::of(&message);
        if sending.as_ref().is_some_and(|sending| !sending.begin()) {
            return Err(StreamableHttpError::Client(Fate::NotSent));
        }
        let inner = &self.0;
        let posted = inner.unless_stopped(inner.post(message, session, headers));
        posted.await.map_err(|fate| {
            if let Some(sending) = sending {
                sending.settle(fate.clone());
            }
            inner.trouble.send_replace(Some(fate.to_string()));
            if fate == Fate::Forgotten {
                inner.end(fate.to_string(), true);
                return StreamableHttpError::SessionExpired;
            }
            StreamableHttpError::Client(fate)
        })
    }

    /// The bounds are our own: they follow the calls.
    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: Headers,
        _: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, StreamableHttpError<Fate>> {
        self.post_message(uri, message, session, auth, headers)
            .await
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<(), StreamableHttpError<Fate>> {
        let goodbye = self.0.request(http::Method::DELETE, Some(session), headers);
        // Whatever it answers: nobody is left to act on it.
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
    ) -> Result<Events, StreamableHttpError<Fate>> {
        let stream = self.0.stream(session, last_event, headers);
        match self.0.unless_stopped(stream).await {
            Ok(Some(events)) => Ok(events),
            // The one error after which the SDK does not ask again.
            Ok(None) => Err(StreamableHttpError::ServerDoesNotSupportSse),
            Err(fate) => Err(StreamableHttpError::Client(fate)),
        }
    }
}
