//! A model's server whose bytes a test chooses: each request receives the next answer of the
//! script, with its status, its headers and its body in pieces with pauses. After the end of the
//! script it answers `re: ` and the last user message, like [`FakeModel`](crate::FakeModel).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use axum::routing::post;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::LocalServer;
use crate::answer::message_text;

/// The delay between the last bytes and a break of the connection.
const BEFORE_BREAK: Duration = Duration::from_millis(100);

/// How a body ends.
#[derive(Clone, Debug)]
enum End {
    /// As it should.
    Closed,
    /// It never ends: the connection stays open, and nothing more is sent.
    Open,
    /// The connection breaks.
    Broken,
    /// These bytes are sent again and again, with this pause before each.
    Repeated(Vec<u8>, Duration),
}

/// What is sent for one request.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    status: u16,
    headers: Vec<(String, String)>,
    /// Each with the pause before it.
    pieces: Vec<(Duration, Vec<u8>)>,
    end: End,
}

impl RawAnswer {
    /// Returns an empty answer of that status without any header.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            pieces: Vec::new(),
            end: End::Closed,
        }
    }

    /// Returns an event stream, with one event for each item of `data`.
    pub fn sse<T: AsRef<str>>(data: impl IntoIterator<Item = T>) -> Self {
        let begun = Self::new(200).header("content-type", "text/event-stream");
        data.into_iter()
            .fold(begun, |answer, data| answer.event(data.as_ref()))
    }

    /// Returns a JSON document.
    pub fn json(status: u16, document: &Value) -> Self {
        Self::new(status)
            .header("content-type", "application/json")
            .bytes(document.to_string())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces or removes the content type.
    #[must_use]
    pub fn content_type(mut self, kind: Option<&str>) -> Self {
        self.headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()));
        match kind {
            Some(kind) => self.header(CONTENT_TYPE.as_str(), kind),
            None => self,
        }
    }

    /// Appends bytes.
    #[must_use]
    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.bytes_after(Duration::ZERO, bytes)
    }

    /// Appends bytes that are sent after a pause.
    #[must_use]
    pub fn bytes_after(mut self, pause: Duration, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push((pause, bytes.into()));
        self
    }

    /// Appends an event with this data.
    #[must_use]
    pub fn event(self, data: &str) -> Self {
        self.bytes(format!("data: {data}\n\n"))
    }

    /// Keeps the connection open after the last bytes, and sends nothing more.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.end = End::Open;
        self
    }

    /// Breaks the connection after the last bytes.
    #[must_use]
    pub fn broken(mut self) -> Self {
        self.end = End::Broken;
        self
    }

    /// Repeats these bytes endlessly after the last ones, with this pause before each.
    #[must_use]
    pub fn repeating(mut self, every: Duration, bytes: impl Into<Vec<u8>>) -> Self {
        self.end = End::Repeated(bytes.into(), every);
        self
    }

    fn response(self) -> Response<Body> {
        let pieces = stream::iter(self.pieces).then(|(pause, bytes)| async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Ok::<_, io::Error>(bytes)
        });
        let body = match self.end {
            End::Closed => Body::from_stream(pieces),
            End::Open => Body::from_stream(pieces.chain(stream::pending())),
            End::Broken => {
                let broken = stream::once(async {
                    // The earlier bytes have reached the caller by then.
                    tokio::time::sleep(BEFORE_BREAK).await;
                    Err(io::Error::other("as you wish"))
                });
                Body::from_stream(pieces.chain(broken))
            }
            End::Repeated(bytes, every) => {
                let rest = stream::repeat(bytes).then(move |bytes| async move {
                    tokio::time::sleep(every).await;
                    Ok(bytes)
                });
                Body::from_stream(pieces.chain(rest))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).expect("tests name statuses");
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("tests name headers");
            let value = HeaderValue::from_str(&value).expect("tests name values of headers");
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// Returns a chunk with this delta and no finish reason.
pub fn delta(delta: Value) -> String {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string()
}

/// Returns a chunk with this text.
pub fn text(text: &str) -> String {
    delta(json!({ "content": text }))
}

/// Returns a chunk with this finish reason.
pub fn finish(reason: &str) -> String {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
}

/// The data that end a stream.
pub const DONE: &str = "[DONE]";

/// One request.
#[derive(Clone, Debug)]
pub struct RawRequest {
    /// When it arrived.
    pub at: Instant,
    /// Its path and query.
    pub target: String,
    pub headers: HeaderMap,
    /// Its body as JSON, or as a string if it is not JSON.
    pub body: Value,
}

impl RawRequest {
    /// Returns its messages as `role: text` lines.
    pub fn messages(&self) -> Vec<String> {
        let messages = self.body["messages"].as_array();
        let line = |message: &Value| {
            let role = message["role"].as_str().unwrap_or("?");
            format!("{role}: {}", message_text(message))
        };
        messages.into_iter().flatten().map(line).collect()
    }

    /// Returns the text of its last user message.
    pub fn asked(&self) -> String {
        let mut messages = self.body["messages"].as_array().into_iter().flatten();
        let asked = messages.rfind(|message| message["role"] == "user");
        asked.map(message_text).unwrap_or_default()
    }
}

#[derive(Default)]
struct RawModelState {
    script: Mutex<VecDeque<RawAnswer>>,
    requests: Mutex<Vec<RawRequest>>,
}

/// The server. It stops when the value is dropped.
pub struct RawModel {
    shared: Arc<RawModelState>,
    server: LocalServer,
}

impl RawModel {
    /// Starts a server on a free port.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    /// Starts a server on that port of the loopback.
    pub async fn start_on(port: u16) -> Self {
        let shared = Arc::<RawModelState>::default();
        // Accepts every path that a `base_url` may lead to.
        let router = Router::new()
            .route("/{*path}", post(answer))
            .with_state(shared.clone());
        let server = LocalServer::start(port, router).await;
        Self { shared, server }
    }

    /// Returns the value for `base_url`.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// Queues these answers for the next requests, in this order.
    pub fn script(&self, answers: impl IntoIterator<Item = RawAnswer>) {
        let mut script = self.shared.script.lock().expect("nobody panics with it");
        script.extend(answers);
    }

    /// Returns how many answers of the script are left.
    pub fn left(&self) -> usize {
        let script = self.shared.script.lock();
        script.expect("nobody panics with it").len()
    }

    /// Returns all requests so far.
    pub fn requests(&self) -> Vec<RawRequest> {
        let requests = self.shared.requests.lock();
        requests.expect("nobody panics with it").clone()
    }

    /// Returns the requests whose last user message contains this text.
    pub fn requests_about(&self, text: &str) -> Vec<RawRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.asked().contains(text));
        requests
    }
}

async fn answer(
    State(shared): State<Arc<RawModelState>>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let request = RawRequest {
        at: Instant::now(),
        target: uri.to_string(),
        headers,
        body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
    };
    let usual = format!("re: {}", request.asked());
    let requests = shared.requests.lock();
    requests.expect("nobody panics with it").push(request);
    let next = shared
        .script
        .lock()
        .expect("nobody panics with it")
        .pop_front();
    let usual = || RawAnswer::sse([text(&usual), finish("stop"), DONE.to_owned()]);
    next.unwrap_or_else(usual).response()
}
