//! The API's endpoints, one method each.

use std::time::{Duration, Instant};

use eventsource_stream::{EventStreamError, Eventsource as _};
use futures::{Stream, StreamExt as _};
use rand::Rng as _;
use reqwest::{Method, header};
use serde_json::{Value, json};

use super::client::{Client, ClientError, escape};
use crate::documents::{AcceptedMessage, DaemonStatus, EventsPage, Page, RestartAccepted};
use crate::domain::{
    DeadLetter, Delta, Event, EventBody, EventId, MessageId, RestartRecord, SessionId, SessionView,
    TimelineName,
};

/// How long a message is retried while connections break. A restart's pause is milliseconds; a
/// worker that has to be compiled and started anew takes seconds.
const SEND_RETRY_MAX: Duration = Duration::from_secs(60);
/// The first and the longest pause between two tries.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// A followed stream that is silent for this long, keep-alive comments included, counts as lost.
const STREAM_SILENCE_MAX: Duration = Duration::from_secs(60);

/// Growing pauses between tries, with jitter so that many clients do not retry at the same time.
#[derive(Debug)]
pub(crate) struct RetryPause(Duration);

impl RetryPause {
    /// Starts with the shortest pause.
    pub(crate) fn new() -> Self {
        Self(RETRY_FIRST)
    }

    /// Waits, and doubles the next pause.
    pub(crate) async fn pause(&mut self) {
        let jittered = self.0.mul_f64(rand::rng().random_range(0.5..1.0));
        tokio::time::sleep(jittered).await;
        self.0 = (self.0 * 2).min(RETRY_LAST);
    }
}

/// One item of a session's stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Streamed {
    /// A durable event.
    Event(Event),
    /// A piece of a model's answer while it is generated.
    Delta(Delta),
    /// The daemon is about to be replaced; the stream ends.
    Restart {
        /// How long to wait before reconnecting, if the daemon specifies it.
        retry: Option<Duration>,
    },
}

/// A filter for the list of sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) plugin: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) pinned: bool,
    pub(crate) limit: Option<u32>,
}

impl Filter {
    /// Returns the path and query of the filtered list behind a place in it.
    pub(crate) fn path(&self, after: Option<&str>) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let pairs = [
            ("plugin", self.plugin.as_deref()),
            ("state", self.state.as_deref()),
            ("pinned", self.pinned.then_some("true")),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        format!("/v1/sessions{}", query(&pairs))
    }
}

/// Returns the path of a session, or of something below it.
pub(crate) fn session_path(id: &SessionId, below: &str) -> String {
    format!("/v1/sessions/{}{below}", escape(id.as_str()))
}

/// Returns the path that cancels a session's turn, or what else `scope` names.
pub(crate) fn cancel_path(id: &SessionId, scope: Option<&str>, message: Option<&str>) -> String {
    let pairs = [("scope", scope), ("message", message)];
    session_path(id, &format!("/cancel{}", query(&pairs)))
}

/// Renders pairs as a query; pairs without a value are left out.
pub(crate) fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", escape((*value)?))))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

impl Client {
    /// Returns the daemon's own report.
    pub(crate) async fn daemon(&self) -> Result<DaemonStatus, ClientError> {
        self.get("/v1/daemon").await
    }

    /// Returns the record of a restart.
    pub(crate) async fn restart(&self, generation: u64) -> Result<RestartRecord, ClientError> {
        self.get(&format!("/v1/daemon/restarts/{generation}")).await
    }

    /// Requests a restart, or a drain and a stop: `restart` or `drain`.
    pub(crate) async fn operate(&self, what: &str) -> Result<RestartAccepted, ClientError> {
        self.post(&format!("/v1/daemon/{what}"), &json!({})).await
    }

    pub(crate) async fn session(&self, id: &SessionId) -> Result<SessionView, ClientError> {
        self.get(&session_path(id, "")).await
    }

    /// Creates a session. Idempotent: the same request returns the same session.
    pub(crate) async fn create(
        &self,
        id: &SessionId,
        plugin: &str,
        args: Option<&Value>,
    ) -> Result<SessionView, ClientError> {
        let mut body = json!({ "plugin": plugin });
        if let Some(args) = args {
            body["args"] = args.clone();
        }
        let request = self.request(Method::PUT, &session_path(id, ""));
        self.json(request.json(&body)).await
    }

    /// Cancels the running turn.
    pub(crate) async fn cancel(&self, id: &SessionId) -> Result<Value, ClientError> {
        self.cancel_at(&cancel_path(id, None, None)).await
    }

    /// Cancels what a [`cancel_path`] names. Retries while the daemon is between two workers:
    /// nothing has been cancelled then.
    pub(crate) async fn cancel_at(&self, path: &str) -> Result<Value, ClientError> {
        let begun = Instant::now();
        let mut backoff = RetryPause::new();
        loop {
            match self.post(path, &json!({})).await {
                Err(ClientError::Problem(problem))
                    if problem.0.status == 503 && begun.elapsed() < SEND_RETRY_MAX =>
                {
                    backoff.pause().await;
                }
                answer => return answer,
            }
        }
    }

    /// Returns the message's dead letter if it never had a turn.
    pub(crate) async fn discarded(
        &self,
        id: &SessionId,
        message: &MessageId,
    ) -> Result<Option<DeadLetter>, ClientError> {
        let page: Page<DeadLetter> = self.get(&session_path(id, "/dead?limit=1000")).await?;
        let mut letters = page.items.into_iter();
        Ok(letters.find(|letter| letter.message.id == *message && letter.turn.is_none()))
    }

    /// Executes one of the operator's actions: `retry` or `replay`.
    pub(crate) async fn act(
        &self,
        id: &SessionId,
        action: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        self.post(&session_path(id, &format!("/{action}")), body)
            .await
    }

    /// Returns the durable events after a position.
    pub(crate) async fn events(
        &self,
        id: &SessionId,
        after: &EventId,
        limit: u32,
    ) -> Result<EventsPage, ClientError> {
        let (cursor, limit) = (after.cursor.to_string(), limit.to_string());
        let pairs = [
            ("after", Some(cursor.as_str())),
            (
                "timeline",
                after.timeline.as_ref().map(TimelineName::as_str),
            ),
            ("limit", Some(limit.as_str())),
        ];
        let below = format!("/events{}", query(&pairs));
        self.get(&session_path(id, &below)).await
    }

    /// Sends one message exactly once: it is retried under the same key while connections break.
    /// Waits up to `wait` for its turn. `lost` is called when a try failed and another follows.
    pub(crate) async fn message(
        &self,
        id: &SessionId,
        text: &str,
        key: &str,
        wait: Duration,
        mut lost: impl FnMut(&ClientError),
    ) -> Result<(AcceptedMessage, Value), ClientError> {
        let begun = Instant::now();
        let mut backoff = RetryPause::new();
        let mut reached = false;
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            match self.message_once(id, text, key, left).await {
                // A daemon that restarts answers early: ask again for the turn.
                Ok((accepted, _)) if accepted.outcome.is_none() && begun.elapsed() < wait => {
                    reached = true;
                }
                Ok(done) => return Ok(done),
                Err(error) => {
                    let passing = error.is_passing()
                        || (reached && matches!(error, ClientError::Unreachable { .. }));
                    if !passing || begun.elapsed() > wait + SEND_RETRY_MAX {
                        return Err(error);
                    }
                    reached = true;
                    lost(&error);
                }
            }
            backoff.pause().await;
        }
    }

    async fn message_once(
        &self,
        id: &SessionId,
        text: &str,
        key: &str,
        wait: Duration,
    ) -> Result<(AcceptedMessage, Value), ClientError> {
        let below = if wait.is_zero() {
            "/messages".to_owned()
        } else {
            format!("/messages?wait={}ms", wait.as_millis().max(1))
        };
        let request = self
            .request(Method::POST, &session_path(id, &below))
            .header("Idempotency-Key", key)
            .json(&json!({ "text": text }));
        let value: Value = self.json_within(request, wait).await?;
        let accepted =
            serde_json::from_value(value.clone()).map_err(|error| self.foreign(error))?;
        Ok((accepted, value))
    }

    /// Returns the error for an answer that cannot be parsed.
    pub(crate) fn foreign(&self, error: impl std::fmt::Display) -> ClientError {
        foreign(self.url(), error)
    }

    /// Follows a session from a position until the connection ends. Kinds of events that this program
    /// does not know are skipped.
    pub(crate) async fn follow(
        &self,
        id: &SessionId,
        after: &EventId,
    ) -> Result<impl Stream<Item = Result<Streamed, ClientError>> + use<>, ClientError> {
        let request = self
            .request(Method::GET, &session_path(id, "/events"))
            .header(header::ACCEPT, "text/event-stream")
            .header("Last-Event-ID", after.to_string());
        let response = self.send(request).await?;
        let client = self.clone();
        let url = self.url().to_owned();
        let bytes = response
            .bytes_stream()
            .map(move |bytes| bytes.map_err(|error| client.broken(error)));
        let events = lively(bytes, url.clone()).eventsource();
        Ok(events.filter_map(move |item| {
            let read = match item {
                Ok(event) => read_event(&event, &url).transpose(),
                Err(EventStreamError::Transport(lost)) => Some(Err(lost)),
                Err(other) => Some(Err(foreign(&url, other))),
            };
            std::future::ready(read)
        }))
    }
}

/// Ends a stream with an error when nothing arrives for [`STREAM_SILENCE_MAX`].
fn lively<T>(
    stream: impl Stream<Item = Result<T, ClientError>>,
    url: String,
) -> impl Stream<Item = Result<T, ClientError>> {
    futures::stream::unfold(Some((Box::pin(stream), url)), async |state| {
        let (mut stream, url) = state?;
        match tokio::time::timeout(STREAM_SILENCE_MAX, stream.next()).await {
            Ok(item) => Some((item?, Some((stream, url)))),
            Err(_) => {
                let reason = format!("nothing came for {} s", STREAM_SILENCE_MAX.as_secs());
                Some((Err(ClientError::Lost { url, reason }), None))
            }
        }
    })
}

/// Parses one event of the stream; `None` for kinds that only a newer daemon has.
fn read_event(
    event: &eventsource_stream::Event,
    url: &str,
) -> Result<Option<Streamed>, ClientError> {
    let bad = |error| foreign(url, error);
    Ok(match event.event.as_str() {
        kind if EventBody::KINDS.contains(&kind) => Some(Streamed::Event(
            serde_json::from_str(&event.data).map_err(bad)?,
        )),
        "delta" => Some(Streamed::Delta(
            serde_json::from_str(&event.data).map_err(bad)?,
        )),
        "restart" => Some(Streamed::Restart { retry: event.retry }),
        _ => None,
    })
}

fn foreign(url: &str, error: impl std::fmt::Display) -> ClientError {
    ClientError::Foreign {
        url: url.to_owned(),
        reason: error.to_string(),
    }
}
