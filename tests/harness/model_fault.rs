//! The failures of a model's server, one call at a time.

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

/// What a call receives in place of an answer.
#[derive(Clone, Debug)]
pub enum ModelFault {
    /// An error status and its document.
    Status {
        /// The status, such as 429.
        status: u16,
        /// The value of `Retry-After`, if it is present.
        retry_after: Option<String>,
        body: Value,
    },
    /// The connection breaks after one word.
    Cut,
    /// Nothing follows one word, for as long as the caller waits.
    Stall,
    /// An event that is not JSON follows one word.
    Malformed,
    /// An event that reports an error follows one word.
    Told,
    /// The stream ends after one word, without a finish reason.
    Unfinished,
    /// The answer reaches the token limit after one word.
    Length,
    /// A tool call with exactly these arguments, which may be invalid.
    Call {
        name: String,
        arguments: String,
        /// The finish reason.
        finish: String,
    },
}

/// The word that precedes the failure.
const WORD: &str = "Well,";

impl ModelFault {
    /// Returns an error status with a plain document.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            retry_after: None,
            body: json!({"error": {"message": "as you wish", "type": "fake", "code": null}}),
        }
    }

    /// Returns status 429 with a `Retry-After`.
    pub fn busy(retry_after: &str) -> Self {
        Self::Status {
            status: 429,
            retry_after: Some(retry_after.to_owned()),
            body: json!({"error": {"message": "slow down"}}),
        }
    }

    /// Builds the response.
    pub(crate) fn response(self) -> Response {
        let finish = |reason: &str| event(json!({}), json!(reason));
        let rest = match self {
            Self::Status {
                status,
                retry_after,
                body,
            } => {
                let status = StatusCode::from_u16(status).expect("tests name statuses");
                let mut response = (status, Json(body)).into_response();
                if let Some(after) = retry_after {
                    let after = after.parse().expect("tests name values of headers");
                    response.headers_mut().insert(RETRY_AFTER, after);
                }
                return response;
            }
            Self::Call {
                name,
                arguments,
                finish: reason,
            } => {
                let call = json!({
                    "index": 0,
                    "id": "call",
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                });
                let call = event(json!({"tool_calls": [call]}), Value::Null);
                let events = [call, finish(&reason), done()];
                return streamed(stream::iter(events.map(Ok::<_, Infallible>)));
            }
            Self::Cut => {
                // An error in a body aborts the connection.
                let broken = Err(std::io::Error::other("as you wish"));
                return streamed(stream::iter([Ok(word()), broken]));
            }
            Self::Stall => {
                let word = stream::iter([Ok::<_, Infallible>(word())]);
                return streamed(word.chain(stream::pending()));
            }
            Self::Malformed => vec!["data: {\"choices\": [{\"delta\": \n\n".to_owned()],
            Self::Told => vec![format!(
                "data: {}\n\n",
                json!({"error": {"message": "out of memory"}})
            )],
            Self::Unfinished => Vec::new(),
            Self::Length => vec![finish("length"), done()],
        };
        let events = [word()].into_iter().chain(rest);
        streamed(stream::iter(events.map(Ok::<_, Infallible>)))
    }
}

fn streamed<E: std::error::Error + Send + Sync + 'static>(
    events: impl futures::Stream<Item = Result<String, E>> + Send + 'static,
) -> Response {
    let body = Body::from_stream(events);
    ([("content-type", "text/event-stream")], body).into_response()
}

fn word() -> String {
    event(json!({"role": "assistant", "content": WORD}), Value::Null)
}

fn done() -> String {
    "data: [DONE]\n\n".to_owned()
}

fn event(delta: Value, finish: Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    format!(
        "data: {}\n\n",
        json!({"id": "fake", "object": "chat.completion.chunk", "model": "fake", "choices": [choice]})
    )
}
