//! How a model's server goes wrong, one call at a time.

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

/// What becomes of one call in place of an answer.
#[derive(Clone, Debug)]
pub enum ModelFault {
    /// An error's status and document.
    Status {
        /// Like 429.
        status: u16,
        /// What `Retry-After` says, if it is there.
        retry_after: Option<String>,
        /// Its body.
        body: Value,
    },
    /// A word, and then the connection breaks.
    Cut,
    /// A word, and then nothing, for as long as the caller waits.
    Stall,
    /// A word, and then an event that is no JSON.
    Malformed,
    /// A word, and then an event that tells of an error.
    Told,
    /// A word, and then the stream's end without a reason.
    Unfinished,
    /// A word, and then the token limit.
    Length,
    /// A tool call whose arguments are not what they should be: as they are here.
    Call {
        /// The tool.
        name: String,
        /// The arguments.
        arguments: String,
        /// Why the answer ends.
        finish: String,
    },
}

/// The word that comes before an answer goes wrong.
const WORD: &str = "Well,";

impl ModelFault {
    /// An error's status with a plain document.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            retry_after: None,
            body: json!({"error": {"message": "as you wish", "type": "fake", "code": null}}),
        }
    }

    /// 429 that asks for a pause.
    pub fn busy(retry_after: &str) -> Self {
        Self::Status {
            status: 429,
            retry_after: Some(retry_after.to_owned()),
            body: json!({"error": {"message": "slow down"}}),
        }
    }

    /// The response, and whether the caller has all that it gets at once.
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
                // An error in a body breaks the connection off.
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
