//! `POST /v1/chat/completions`: sends the last message, and responds with its turn's output.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::Json as Answer;
use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};
use http::HeaderMap;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::error::OpenAiError;
use super::request::{self, SessionRequest};
use super::stream_state::{BETWEEN, StreamState};
use super::wire::{self, Choice, CompletionObject, CompletionRequest};
use crate::api::Api;
use crate::api::auth::Caller;
use crate::api::extract::LongJson;
use crate::api::messages::key;
use crate::api::problem::{Problem, ProblemKind};
use crate::domain::{
    Act, Digest, Event, EventBody, EventId, IdempotencyKey, MessageId, ModelUsage, NewMessage,
    Refusal, TRUNCATED, TimelineName, TurnStatus,
};
use crate::session::{Follower, MessageProgress, NewSession, TurnOutcome};

/// How long a request waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(600);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many events back a repeated request searches for its message.
const LOOK_BACK: u64 = 1000;

/// Sends the last message to a session, in the form of OpenAI's chat completions.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    operation_id = "create_chat_completion",
    tag = "openai",
    params(
        ("X-Abide-Session" = Option<crate::domain::SessionId>, Header, description = "The session; else the field `user` names it. It is created, with the plugin that `model` names, if it is not there"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 256, pattern = "^[!-~]([ -~]*[!-~])?$", description = "Sending the same message under the same key twice does it once; at most 256 bytes"),
    ),
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The turn's output, at once or by server-sent events", content(
            (CompletionObject = "application/json"),
            (SentChunk = "text/event-stream"),
        )),
        (status = 503, description = "The daemon restarts; the message, if it was accepted, is kept and its turn goes on"),
    ),
)]
pub(in crate::api) async fn complete(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<LongJson<CompletionRequest>, Problem>,
) -> Result<Response, OpenAiError> {
    let LongJson(body) = body?;
    let key = key(&headers)?;
    let ask = request::read(&headers, body)?;
    caller.allow(Act::Converse, Some(&ask.session))?;
    let (stream, usage) = (ask.stream, ask.usage);
    let plugin = ask.plugin.clone();
    let mut talk = PendingMessage {
        deadline: Instant::now() + WAIT_MAX,
        ..begin(&api, ask, key, caller.sender()).await?
    };
    if stream {
        // Until the first piece is sent, a failure can still be reported by a status.
        let first = talk.piece().await?;
        let head = talk.completion("chat.completion.chunk", &plugin);
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
        let sent = sent(head, first, talk, usage);
        return Ok(Sse::new(sent).keep_alive(keep_alive).into_response());
    }
    let reply = loop {
        if let MessageProgress::Ended(outcome) = talk.next().await? {
            break output(outcome)?;
        }
    };
    let mut answer = talk.completion("chat.completion", &plugin);
    answer.choices.push(Choice {
        index: 0,
        message: Some(wire::AssistantMessage {
            role: Some("assistant"),
            content: Some(reply.text),
        }),
        delta: None,
        finish_reason: Some(reply.finish),
    });
    answer.usage = Some(reply.usage.into());
    Ok(Answer(answer).into_response())
}

/// A piece of a streamed answer, as it is sent.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the document alone needs it")]
pub(in crate::api) struct SentChunk {
    /// A `CompletionObject` as JSON, an `ErrorBody`, or `[DONE]` at the end.
    data: String,
}

/// A message that was sent, and whose turn is awaited.
struct PendingMessage {
    follower: Follower,
    message: MessageId,
    session: String,
    /// The session's timeline; none if it is the first.
    timeline: Option<TimelineName>,
    stream: StreamState,
    /// Whether deltas may have been missed, so that only the end is complete.
    late: bool,
    deadline: Instant,
}

/// A piece of a streamed answer.
enum StreamPiece {
    Text(String),
    /// The last piece.
    End(StreamEnd),
}

/// The end of an answer.
struct StreamEnd {
    /// The text that was not sent yet.
    text: String,
    finish: &'static str,
    usage: ModelUsage,
}

/// Finds or creates the session. Then sends the message, or finds the one that was sent before.
async fn begin(
    api: &Api,
    ask: SessionRequest,
    key: Option<String>,
    sender: Option<String>,
) -> Result<PendingMessage, OpenAiError> {
    let SessionRequest {
        session: id,
        plugin,
        text,
        stream: _,
        usage: _,
        again,
    } = ask;
    let view = match api.sessions.view(&id).await {
        Err(Refusal::UnknownSession(_)) => {
            let new = NewSession {
                plugin,
                args: serde_json::Value::Null,
                labels: None,
            };
            api.sessions.create(&id, new).await?.0
        }
        Ok(view) if view.plugin != plugin => {
            return Err(Refusal::Exists { what: "plugin" }.into());
        }
        view => view?,
    };
    // All of the session's history is on its present timeline, whenever it was recorded.
    let timeline = view.timeline.clone();
    let at = |cursor| EventId {
        timeline: timeline.clone(),
        cursor,
    };
    let before = if again && key.is_none() {
        let after = at(view.cursor.saturating_sub(LOOK_BACK));
        let limit = usize::try_from(LOOK_BACK).unwrap_or(usize::MAX);
        let page = match api.sessions.events(&id, &after, limit).await {
            Err(Refusal::Trimmed { oldest, .. }) => {
                api.sessions.events(&id, &at(oldest), limit).await?
            }
            page => page?,
        };
        request::sent_before(&page.items, &text).flatten()
    } else {
        None
    };
    // Subscribe before sending, so that no event is missed in between.
    let (message, events, late) = if let Some(message) = before {
        let cursor = message.cursor().unwrap_or(view.cursor);
        let events = api.sessions.subscribe(&id, &at(cursor)).await?;
        (message, events, true)
    } else {
        let events = api.sessions.subscribe(&id, &at(view.cursor)).await?;
        let key = key.map(|key| IdempotencyKey {
            key,
            body: Digest::of(text.as_bytes()),
        });
        let message = NewMessage { text, key, sender };
        let accepted = api.sessions.send(&id, message).await?;
        let events = if accepted.duplicate {
            let cursor = accepted.message.cursor().unwrap_or(accepted.cursor);
            api.sessions.subscribe(&id, &at(cursor)).await?
        } else {
            events
        };
        (accepted.message, events, accepted.duplicate)
    };
    Ok(PendingMessage {
        follower: Follower::new(events, message.clone()),
        message,
        session: id.to_string(),
        timeline,
        stream: StreamState::default(),
        late,
        deadline: Instant::now(),
    })
}

impl PendingMessage {
    async fn next(&mut self) -> Result<MessageProgress, OpenAiError> {
        match tokio::time::timeout_at(self.deadline, self.follower.next()).await {
            Ok(Ok(progress)) => Ok(progress),
            Ok(Err(Refusal::Restarting)) => {
                let detail = format!(
                    "the daemon restarts; the message is kept, its turn goes on, {}",
                    self.where_to_look()
                );
                let problem = Problem::new(ProblemKind::RESTARTING, detail);
                Err(problem.header(http::header::RETRY_AFTER, 1).into())
            }
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(_) => {
                let detail = format!(
                    "no end of the turn within 10 minutes; it goes on, {}",
                    self.where_to_look()
                );
                Err(Problem::new(ProblemKind::STILL_RUNS, detail).into())
            }
        }
    }

    fn where_to_look(&self) -> String {
        format!(
            "and GET /v1/sessions/{}/events?after={}{} tells what becomes of it",
            percent_encoding::utf8_percent_encode(
                &self.session,
                percent_encoding::NON_ALPHANUMERIC
            ),
            self.message.cursor().unwrap_or_default(),
            self.timeline
                .as_ref()
                .map_or(String::new(), |name| format!("&timeline={name}"))
        )
    }

    /// Returns the next piece that is not empty, or the last one.
    async fn piece(&mut self) -> Result<StreamPiece, OpenAiError> {
        loop {
            match self.next().await? {
                MessageProgress::Delta(_) if self.late => {}
                MessageProgress::Delta(delta) => {
                    let text = self.stream.delta(&delta);
                    if !text.is_empty() {
                        return Ok(StreamPiece::Text(text));
                    }
                }
                MessageProgress::Ended(outcome) => {
                    let whole = output(outcome)?;
                    return Ok(StreamPiece::End(StreamEnd {
                        text: self.stream.end(&whole.text),
                        ..whole
                    }));
                }
            }
        }
    }

    fn completion(&self, object: &'static str, plugin: &str) -> CompletionObject {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        CompletionObject {
            id: format!("chatcmpl-{}", self.message),
            object,
            created: now.map(|now| now.as_secs()).unwrap_or_default(),
            model: plugin.to_owned(),
            choices: Vec::new(),
            usage: None,
        }
    }
}

/// Returns all texts of a turn, or an error if it failed.
fn output(outcome: TurnOutcome) -> Result<StreamEnd, OpenAiError> {
    if outcome.status == TurnStatus::Failed {
        let reason = outcome.reason.unwrap_or_default();
        return Err(Problem::new(
            ProblemKind::TURN_FAILED,
            format!("the turn failed: {reason}"),
        )
        .into());
    }
    let cut = outcome
        .output
        .iter()
        .any(|event| matches!(&event.body, EventBody::Custom { name, .. } if name == TRUNCATED));
    let texts: Vec<String> = outcome.output.into_iter().filter_map(text_of).collect();
    Ok(StreamEnd {
        text: texts.join(BETWEEN),
        finish: if cut { "length" } else { "stop" },
        usage: outcome.usage,
    })
}

fn text_of(event: Event) -> Option<String> {
    match event.body {
        EventBody::Message { text, .. } => Some(text),
        _ => None,
    }
}

/// The position of a stream in its answer.
enum StreamPosition {
    First(StreamPiece, PendingMessage),
    Next(PendingMessage),
    Over,
}

/// Converts an answer to server-sent events. A client that disconnects ends the stream, not the
/// turn.
fn sent(
    head: CompletionObject,
    first: StreamPiece,
    talk: PendingMessage,
    usage: bool,
) -> impl Stream<Item = Result<Sent, Infallible>> {
    let role = chunk(&head, Some("assistant"), Some(String::new()), None);
    let pieces = stream::unfold(StreamPosition::First(first, talk), |turn| async move {
        let (piece, talk) = match turn {
            StreamPosition::First(piece, talk) => (Ok(piece), talk),
            StreamPosition::Next(mut talk) => (talk.piece().await, talk),
            StreamPosition::Over => return None,
        };
        let next = match &piece {
            Ok(StreamPiece::Text(_)) => StreamPosition::Next(talk),
            Ok(StreamPiece::End(_)) | Err(_) => StreamPosition::Over,
        };
        Some((piece, next))
    });
    let rest = pieces.flat_map(move |piece: Result<StreamPiece, OpenAiError>| {
        stream::iter(match piece {
            Ok(StreamPiece::Text(text)) => vec![chunk(&head, None, Some(text), None)],
            Ok(StreamPiece::End(end)) => {
                let mut last = vec![
                    chunk(&head, None, Some(end.text), None),
                    chunk(&head, None, None, Some(end.finish)),
                ];
                if usage {
                    let mut cost = head.clone();
                    cost.usage = Some(end.usage.into());
                    last.push(data(&cost));
                }
                last.push(Sent::default().data("[DONE]"));
                last
            }
            Err(failed) => vec![data(&failed.into_body())],
        })
    });
    stream::iter([role]).chain(rest).map(Ok)
}

fn chunk(
    head: &CompletionObject,
    role: Option<&'static str>,
    content: Option<String>,
    finish_reason: Option<&'static str>,
) -> Sent {
    let mut chunk = head.clone();
    chunk.choices.push(Choice {
        index: 0,
        message: None,
        delta: Some(wire::AssistantMessage { role, content }),
        finish_reason,
    });
    data(&chunk)
}

/// Encodes a value as one event. The types consist of texts and numbers: serialization cannot fail.
fn data(value: &impl serde::Serialize) -> Sent {
    Sent::default().data(serde_json::to_string(value).unwrap_or_default())
}
