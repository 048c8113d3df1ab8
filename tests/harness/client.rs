//! An HTTP client that counts its errors, and repeats no request by itself.
//!
//! The exceptions are the helpers that panic, which are there to look at a daemon, not to judge its
//! connections: a worker that is killed resets the connections that it held, and one of them may still
//! be in the client's pool when the next request is made. They repeat such a request once. The error
//! is counted all the same.

use std::error::Error as _;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::reply::Reply;
use crate::{Event, until};

/// Request timeout. Longer than every pause that is allowed.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// Why a request received no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the response did.
    Eof,
    /// The request timed out.
    Timeout,
    /// Any other error.
    Other(String),
}

/// How often each kind of [`Trouble`] occurred.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that received a response, whatever its status.
    pub answered: AtomicU64,
    /// See [`Trouble::Refused`].
    pub refused: AtomicU64,
    /// See [`Trouble::Reset`].
    pub reset: AtomicU64,
    /// See [`Trouble::Eof`].
    pub eof: AtomicU64,
    /// See [`Trouble::Timeout`].
    pub timeout: AtomicU64,
    /// See [`Trouble::Other`].
    pub other: AtomicU64,
}

impl Tally {
    fn count(&self, trouble: &Trouble) {
        let counter = match trouble {
            Trouble::Refused => &self.refused,
            Trouble::Reset => &self.reset,
            Trouble::Eof => &self.eof,
            Trouble::Timeout => &self.timeout,
            Trouble::Other(_) => &self.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of requests without a response.
    pub fn troubles(&self) -> u64 {
        [
            &self.refused,
            &self.reset,
            &self.eof,
            &self.timeout,
            &self.other,
        ]
        .map(|counter| counter.load(Ordering::Relaxed))
        .iter()
        .sum()
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} answered, {:?} refused, {:?} reset, {:?} cut off, {:?} timed out, {:?} others",
            self.answered, self.refused, self.reset, self.eof, self.timeout, self.other
        )
    }
}

/// An acknowledged message.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// 200 if its turn has ended, 202 if it is only accepted.
    pub status: u16,
    /// The message's id.
    pub message: String,
    /// The cursor from which to follow the events.
    pub cursor: u64,
    /// Whether the idempotency key was known already.
    pub duplicate: bool,
    /// How its turn ended, if the status is 200.
    pub outcome: Option<String>,
    /// The output of its turn, if the status is 200.
    pub output: Vec<Event>,
}

impl Posted {
    fn read(reply: Reply) -> Result<Self, Refused> {
        if !matches!(reply.status, 200 | 202) {
            return Err(Refused::Status(reply));
        }
        let body = &reply.body;
        let message = body["message"].as_str();
        let output = &body["output"];
        Ok(Self {
            status: reply.status,
            message: message
                .unwrap_or_else(|| panic!("an acknowledgement names its message: {body}"))
                .to_owned(),
            cursor: body["cursor"].as_u64().unwrap_or_default(),
            duplicate: body["duplicate"].as_bool().unwrap_or_default(),
            outcome: body["outcome"].as_str().map(str::to_owned),
            output: match output {
                Value::Null => Vec::new(),
                output => serde_json::from_value(output.clone())
                    .unwrap_or_else(|error| panic!("output is a list of events: {error}: {body}")),
            },
        })
    }

    /// Returns the texts of its output.
    pub fn said(&self) -> Vec<&str> {
        self.output
            .iter()
            .filter(|event| event.kind == "message")
            .map(Event::said)
            .collect()
    }
}

/// Why a message was not acknowledged.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The daemon replied with an error status.
    Status(Reply),
    /// The daemon did not reply.
    Trouble(Trouble),
}

/// Returns an idempotency key that no other message has.
fn drawn_key() -> String {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    format!("drawn-{}", DRAWN.fetch_add(1, Ordering::Relaxed))
}

/// Builds an HTTP client that never retries, with a timeout per request or without one.
pub fn http_client(timeout: Option<Duration>) -> reqwest::Client {
    client_builder(timeout)
        .build()
        .expect("the client's settings are constant")
}

pub(crate) fn client_builder(timeout: Option<Duration>) -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    // It fails only if a provider is installed already.
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut http = reqwest::Client::builder()
        .no_proxy()
        // All servers are on this machine and speak plain HTTP: else each client reads and parses all of
        // the system's certificates.
        .tls_certs_only([])
        .retry(reqwest::retry::never());
    if let Some(timeout) = timeout {
        http = http.timeout(timeout);
    }
    http
}

/// A client of one daemon. Clones share connections and the tally.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    base: String,
    /// Sent with each request.
    token: Option<String>,
    /// The errors so far.
    pub tally: Arc<Tally>,
}

impl Client {
    /// Returns a client of the daemon on that port of the loopback.
    pub fn new(port: u16) -> Self {
        Self {
            http: http_client(Some(REQUEST_TIMEOUT)),
            base: format!("http://127.0.0.1:{port}"),
            token: None,
            tally: Arc::default(),
        }
    }

    /// Returns a client that sends this token, with a tally of its own.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            tally: Arc::default(),
            ..self.clone()
        }
    }

    /// Returns a client of the same daemon that sends its requests so.
    #[must_use]
    pub(crate) fn over(&self, http: reqwest::Client) -> Self {
        Self {
            http,
            ..self.clone()
        }
    }

    /// Starts a request to that path, which the caller completes.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request, once.
    ///
    /// # Errors
    /// If there was no complete response. The error is counted.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply, Trouble> {
        let result = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let content_type = response
                .headers()
                .get(header::CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.split(';').next())
                .unwrap_or_default()
                .trim()
                .to_owned();
            let bytes = response.bytes().await?;
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
            Ok(Reply {
                status,
                content_type,
                body,
            })
        };
        match result.await {
            Ok(reply) => {
                self.tally.answered.fetch_add(1, Ordering::Relaxed);
                Ok(reply)
            }
            Err(error) => {
                let trouble = trouble(&error);
                self.tally.count(&trouble);
                Err(trouble)
            }
        }
    }

    /// Sends `GET path`.
    ///
    /// # Errors
    /// If there was no complete response.
    pub async fn get(&self, path: &str) -> Result<Reply, Trouble> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Sends `POST path` with JSON.
    ///
    /// # Errors
    /// If there was no complete response.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply, Trouble> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Creates a session, or finds the existing one.
    ///
    /// # Errors
    /// If there was no complete response.
    pub async fn put(&self, id: &str, body: &Value) -> Result<Reply, Trouble> {
        let path = session_path(id, "");
        self.send(self.request(Method::PUT, &path).json(body)).await
    }

    /// Sends `GET path`, again if the connection was gone.
    async fn read(&self, path: &str) -> Result<Reply, Trouble> {
        self.send_again(|| self.request(Method::GET, path)).await
    }

    /// Sends a request that may be repeated, again if the connection was gone.
    async fn send_again(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<Reply, Trouble> {
        match self.send(request()).await {
            Err(Trouble::Reset | Trouble::Eof) => self.send(request()).await,
            reply => reply,
        }
    }

    /// Creates a session of that plugin without arguments.
    ///
    /// # Panics
    /// If the session exists already.
    pub async fn open(&self, id: &str, plugin: &str) {
        let reply = self.put(id, &json!({"plugin": plugin})).await;
        reply
            .unwrap_or_else(|trouble| panic!("session {id}: {trouble:?}"))
            .expect(201);
    }

    /// Sends a message, once, and does not wait for its turn.
    ///
    /// # Errors
    /// If it was not acknowledged.
    pub async fn say(&self, id: &str, text: &str, key: Option<&str>) -> Result<Posted, Refused> {
        self.message(id, text, key, "").await
    }

    /// Sends a message, once, and waits up to a minute for the end of its turn.
    ///
    /// # Errors
    /// If it was not acknowledged.
    pub async fn ask(&self, id: &str, text: &str, key: Option<&str>) -> Result<Posted, Refused> {
        self.message(id, text, key, "?wait=60s").await
    }

    /// Sends a message and waits for the output of its turn.
    ///
    /// # Panics
    /// If the turn does not complete.
    pub async fn chat(&self, id: &str, text: &str) -> Posted {
        // With a key, the message can be sent again.
        let key = drawn_key();
        let mut asked = self.ask(id, text, Some(&key)).await;
        if let Err(Refused::Trouble(Trouble::Reset | Trouble::Eof)) = asked {
            asked = self.ask(id, text, Some(&key)).await;
        }
        match asked {
            Ok(posted) if posted.outcome.as_deref() == Some("completed") => posted,
            other => panic!("session {id} does not answer {text:?}: {other:?}"),
        }
    }

    async fn message(
        &self,
        id: &str,
        text: &str,
        key: Option<&str>,
        query: &str,
    ) -> Result<Posted, Refused> {
        let path = session_path(id, &format!("/messages{query}"));
        let mut request = self
            .request(Method::POST, &path)
            .json(&json!({"text": text}));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let reply = self.send(request).await.map_err(Refused::Trouble)?;
        Posted::read(reply)
    }

    /// Sends `GET /v1/sessions/{id}`.
    ///
    /// # Panics
    /// If there is no such session.
    pub async fn session(&self, id: &str) -> Value {
        let reply = self.read(&session_path(id, "")).await;
        reply
            .unwrap_or_else(|trouble| panic!("session {id}: {trouble:?}"))
            .expect(200)
    }

    /// Waits until a session is idle. Returns the session.
    ///
    /// # Panics
    /// If it is not for [`PATIENCE`](crate::PATIENCE).
    pub async fn until_idle(&self, id: &str) -> Value {
        until(&format!("{id} to be idle"), async || {
            // During a restart a request may fail.
            let session = self.get(&session_path(id, "")).await.ok()?.body;
            (session["state"] == "idle").then_some(session)
        })
        .await
    }

    /// Returns the dead letters of a session.
    ///
    /// # Panics
    /// If there is no such session.
    pub async fn dead_letters(&self, id: &str) -> Vec<Value> {
        let reply = self.read(&session_path(id, "/dead")).await;
        let body = reply
            .unwrap_or_else(|trouble| panic!("session {id}: {trouble:?}"))
            .expect(200);
        body["items"].as_array().cloned().unwrap_or_default()
    }

    /// Returns all events after a cursor, read page by page.
    ///
    /// # Panics
    /// If a page is anything but events.
    pub async fn events(&self, id: &str, after: u64) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        let mut timeline = String::new();
        loop {
            let after = events.last().map_or(after, |event| event.cursor);
            let path = session_path(id, &format!("/events?after={after}{timeline}"));
            let request = || {
                self.request(Method::GET, &path)
                    .header(header::ACCEPT, "application/json")
            };
            let reply = self.send_again(request).await;
            let body = reply
                .unwrap_or_else(|trouble| panic!("events of {id}: {trouble:?}"))
                .expect(200);
            let page: Vec<Event> = serde_json::from_value(body["items"].clone())
                .unwrap_or_else(|error| panic!("a page of events: {error}: {body}"));
            if page.is_empty() {
                return events;
            }
            let last = page.last().and_then(|event| event.timeline.as_ref());
            timeline = last.map_or(String::new(), |name| format!("&timeline={name}"));
            events.extend(page);
        }
    }

    /// Waits until the turn that consumed that message has ended. Returns all events of the
    /// session.
    pub async fn events_once_ended(&self, id: &str, message: &str) -> Vec<Event> {
        until(
            &format!("the end of {message}'s turn in {id}"),
            async || {
                let events = self.events(id, 0).await;
                events
                    .iter()
                    .any(|event| event.ends(message))
                    .then_some(events)
            },
        )
        .await
    }
}

/// Returns the path of a session with a suffix. Ids may contain any character.
pub(crate) fn session_path(id: &str, rest: &str) -> String {
    let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
    format!("/v1/sessions/{id}{rest}")
}

fn trouble(error: &reqwest::Error) -> Trouble {
    if error.is_timeout() {
        return Trouble::Timeout;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Trouble::Refused,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    return Trouble::Reset;
                }
                io::ErrorKind::UnexpectedEof => return Trouble::Eof,
                _ => {}
            }
        }
        // hyper's error text for a connection that ended too early.
        if cause.to_string().contains("before message completed") {
            return Trouble::Eof;
        }
        source = cause.source();
    }
    Trouble::Other(format!("{error:?}"))
}
