//! Messages: send them, wait for their turns, and retry dead letters.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Caller;
use super::extract::{InPath, Json, JsonOrNothing, QueryOf};
use super::problem::{Problem, ProblemKind};
use crate::documents::AcceptedMessage;
use crate::domain::{Act, Digest, IdempotencyKey, MessageId, NewMessage, Refusal, SessionId};
use crate::session::{Accepted, TurnOutcome};

/// The longest `Idempotency-Key`, in bytes.
const KEY_MAX_BYTES: usize = 256;
/// The longest `wait`; longer ones are reduced to it.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A message to a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageBody {
    /// Its text.
    text: String,
}

/// How to send the message.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SendQuery {
    /// How long to wait for the end of the message's turn, such as `30s`; at most 10 minutes.
    #[param(pattern = "^(0|[0-9]{1,6}(ms|s|m|h)( [0-9]{1,6}(ms|s|m|h))*)$")]
    wait: Option<String>,
}

/// Returns the document of an accepted message.
fn document(accepted: Accepted, outcome: Option<TurnOutcome>) -> AcceptedMessage {
    let Accepted {
        message,
        cursor,
        timeline,
        duplicate,
    } = accepted;
    let body = AcceptedMessage {
        message,
        cursor,
        timeline,
        duplicate,
        turn: None,
        outcome: None,
        reason: None,
        output: None,
    };
    match outcome {
        None => body,
        Some(outcome) => AcceptedMessage {
            turn: outcome.turn,
            outcome: Some(outcome.status),
            reason: outcome.reason,
            output: Some(outcome.output),
            ..body
        },
    }
}

/// Sends a message. The response is sent once the message is on disk.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/messages",
    operation_id = "send_message",
    tag = "messages",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`"), SendQuery, ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 256, pattern = "^[!-~]([ -~]*[!-~])?$", description = "Sending the same message under the same key twice does it once; at most 256 bytes")),
    request_body = MessageBody,
    responses(
        (status = 202, description = "Accepted: it will be consumed by one turn", body = AcceptedMessage),
        (status = 200, description = "Its turn has ended while the request waited", body = AcceptedMessage),
    ),
)]
pub(super) async fn send(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath,
    QueryOf(query): QueryOf<SendQuery>,
    InHeader(key): InHeader,
    Json(MessageBody { text }): Json<MessageBody>,
) -> Result<Response, Problem> {
    let wait = query.wait.as_deref().map(parse_wait).transpose()?;
    let key = key.map(|key| IdempotencyKey {
        key,
        body: Digest::of(text.as_bytes()),
    });
    let message = NewMessage {
        text,
        key,
        sender: caller.sender(),
    };
    let (accepted, outcome) = match wait {
        None => (api.sessions.send(&id, message).await?, None),
        Some(wait) => {
            let (accepted, outcome) = api.sessions.send_and_wait(&id, message).await?;
            match tokio::time::timeout(wait, outcome).await {
                Ok(Ok(outcome)) => (accepted, Some(outcome)),
                Ok(Err(refusal @ (Refusal::Gone | Refusal::Closed { .. }))) => {
                    return Err(refusal.into());
                }
                // The message is accepted, but its outcome is unknown here: the time is up, or the
                // daemon restarts, or the events of a duplicate's original have been trimmed. The
                // client has to follow the events.
                Ok(Err(_)) | Err(_) => (accepted, None),
            }
        }
    };
    let status = match outcome {
        Some(_) => StatusCode::OK,
        None => StatusCode::ACCEPTED,
    };
    Ok((status, Answer(document(accepted, outcome))).into_response())
}

fn parse_wait(text: &str) -> Result<Duration, Problem> {
    match humantime::parse_duration(text) {
        Ok(wait) => Ok(wait.min(WAIT_MAX)),
        Err(error) => {
            let detail = format!("`wait={text}` is no duration ({error}); write it like `30s`");
            Err(Problem::new(ProblemKind::BAD_REQUEST, detail))
        }
    }
}

/// The request's `Idempotency-Key`.
pub(super) struct InHeader(Option<String>);

impl FromRequestParts<Api> for InHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        key(&parts.headers).map(Self)
    }
}

pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    match first.to_str() {
        Ok(key) if (1..=KEY_MAX_BYTES).contains(&key.len()) && values.next().is_none() => {
            Ok(Some(key.to_owned()))
        }
        _ => {
            let detail = format!(
                "the header `idempotency-key` must come once, with 1 to {KEY_MAX_BYTES} visible ASCII characters"
            );
            Err(Problem::new(ProblemKind::BAD_REQUEST, detail))
        }
    }
}

/// Which dead letter to retry.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryBody {
    /// The message's id; if left out, the last dead letter's.
    message: Option<String>,
    /// Retry even if its turn made calls that cannot be repeated: they are made again.
    #[serde(default)]
    force: bool,
}

/// Puts a dead letter back into the inbox.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/retry",
    operation_id = "retry_dead_letter",
    tag = "messages",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    request_body = Option<RetryBody>,
    responses(
        (status = 202, description = "The dead letter is queued again", body = AcceptedMessage),
    ),
)]
pub(super) async fn retry(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath,
    JsonOrNothing(RetryBody { message, force }): JsonOrNothing<RetryBody>,
) -> Result<(StatusCode, Answer<AcceptedMessage>), Problem> {
    let message = message.map(MessageId::from_client);
    if force {
        // Effects are made again: that is not the conversation's affair alone.
        caller.allow(Act::Repair, Some(&id))?;
    }
    let accepted = api.sessions.retry(&id, message, force).await?;
    let body = document(accepted, None);
    Ok((StatusCode::ACCEPTED, Answer(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_durations_with_a_limit() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("1m 5s", Some(65)),
            ("2h", Some(600)),
            ("long", None),
            ("-1s", None),
            ("", None),
        ] {
            let wait = parse_wait(text).ok().map(|wait| wait.as_secs());
            assert_eq!(wait, expected, "{text}");
        }
    }

    #[test]
    fn keys_come_once_and_are_not_long() {
        let headers = |values: &[&str]| -> HeaderMap {
            let name = || http::HeaderName::from_static("idempotency-key");
            let values = values.iter();
            values
                .map(|v| (name(), v.parse().expect("a value")))
                .collect()
        };
        assert_eq!(key(&HeaderMap::new()).expect("none"), None);
        let given = key(&headers(&["a"])).expect("a key");
        assert_eq!(given.as_deref(), Some("a"));
        for bad in [vec![""], vec!["a", "b"], vec!["é"], vec![&"x".repeat(257)]] {
            assert_eq!(
                key(&headers(&bad)).expect_err("bad").status(),
                400,
                "{bad:?}"
            );
        }
    }
}
