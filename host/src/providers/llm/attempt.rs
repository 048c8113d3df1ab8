//! One request to one provider, and the streamed answer to it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{NoAnswer, RequestFacts, StreamedAnswer};
use super::classify::{AttemptFailure, place};
use super::ready::Ready;
use super::refusal::ProviderRefusal;
use super::render::Sent;
use super::reply::{self, BodyItem, ResponseBody};
use super::retry_delay;
use super::sse::TooLong;
use super::think::ThinkOutcome;
use super::window::TooMuch;
use crate::domain::{ChatRequest, Completion};
use crate::providers::lossy;

/// How long a server that has finished its answer may take to send the token usage and the end of
/// the stream. Some send neither, and keep the connection open.
const GRACE: Duration = Duration::from_secs(1);
/// How long to wait for the end of the body after the end of the answer. Most arrive together.
const LAST_BYTES: Duration = Duration::from_millis(20);
/// How much of an error response is read, in bytes.
const ERROR_MAX_BYTES: usize = 64 << 10;

/// Sends one request to `model` and reads the answer, within the provider's timeout. Calls
/// `on_shown` with each piece of text as it arrives.
pub(super) async fn attempt(
    name: &str,
    ready: &Ready,
    model: &str,
    request: &ChatRequest,
    sent: &Sent,
    limit_bytes: u64,
    on_shown: impl FnMut(ThinkOutcome),
) -> Result<Completion, AttemptFailure> {
    let limit = ready.provider.timeout;
    let ends = Instant::now() + limit;
    let answer = answer(name, ready, model, request, sent, limit_bytes, on_shown);
    let answer = timeout_at(ends, answer).await.unwrap_or_else(|_| {
        let at = place(name, &ready.provider);
        let limit = humantime::format_duration(limit);
        let text = format!(
            "{at} was not done within {limit}; raise `llm.{name}.timeout` if its answers take longer"
        );
        Err(AttemptFailure::late(&ready.provider, text))
    });
    answer.map_err(|fault| fault.without_key(&ready.provider))
}

async fn answer(
    name: &str,
    Ready {
        provider,
        server,
        tokens,
        ..
    }: &Ready,
    model: &str,
    request: &ChatRequest,
    sent: &Sent,
    limit_bytes: u64,
    mut on_shown: impl FnMut(ThinkOutcome),
) -> Result<Completion, AttemptFailure> {
    let idle = provider.idle_timeout;
    let silent = || {
        let at = place(name, provider);
        let limit = humantime::format_duration(idle);
        let text =
            format!("{at} said nothing for {limit}; raise `llm.{name}.idle_timeout` if it is slow");
        AttemptFailure::late(provider, text)
    };
    let unreached = |error| AttemptFailure::unreached(name, provider, error);
    let no_answer = |no_answer| AttemptFailure::no_answer(name, provider, no_answer);
    // The configured context window is that of the provider's own model.
    let window = provider.context_tokens.filter(|_| model == provider.model);
    if let Some(Err(too_much)) = window.map(|window| tokens.fits(request, window)) {
        let TooMuch { has, room } = too_much;
        return Err(AttemptFailure::shorter(format!(
            "the request has about {has} tokens, and model `{model}` takes {room} beside its answer \
             (`llm.{name}.context_tokens`); shorten the conversation"
        )));
    }
    let names = sent.names.back();
    let asked = RequestFacts::new(request, names.keys().copied());
    let begun = timeout(idle, server.post(&sent.body).send());
    let response = begun.await.map_err(|_| silent())?.map_err(unreached)?;
    if !response.status().is_success() {
        return Err(AttemptFailure::refused(
            name,
            provider,
            refused(response, idle).await,
        ));
    }
    let kind = kind(&response);
    let mut stream = AnswerBody {
        response,
        reply: Some(ResponseBody::new(reply::bound(limit_bytes))),
        ends: None,
        idle,
    };
    let mut answer = StreamedAnswer::new(&asked, limit_bytes);
    loop {
        let items = match stream.next().await {
            NextRead::Items(items) => items,
            // The finish reason has arrived, so the answer is complete.
            NextRead::Silence | NextRead::Broken(_) if answer.is_finished() => break,
            NextRead::Silence => return Err(silent()),
            NextRead::Broken(error) => return Err(unreached(error)),
            NextRead::TooLong => return Err(no_answer(NoAnswer::TooLong(limit_bytes))),
            NextRead::Foreign if kind.starts_with("text/event-stream") => break,
            NextRead::Foreign => return Err(AttemptFailure::foreign(name, provider, &kind)),
            NextRead::End => break,
        };
        let mut has_news = false;
        let mut is_done = false;
        for item in items {
            match item {
                BodyItem::Chunk(chunk) => {
                    has_news |= chunk.brings_something();
                    let shown = answer.take(*chunk).map_err(no_answer)?;
                    if shown != ThinkOutcome::default() {
                        on_shown(shown);
                    }
                }
                BodyItem::Done => {
                    answer.done();
                    is_done = true;
                    break;
                }
                // Junk after a finished answer is harmless.
                BodyItem::Malformed { .. } if answer.is_finished() => {}
                BodyItem::Malformed { error, text } => {
                    return Err(AttemptFailure::malformed(name, provider, &error, &text));
                }
            }
        }
        if is_done {
            // The client reuses a connection only if the body was read to its end.
            let rest = stream.response.chunk();
            let _ = timeout(LAST_BYTES, rest).await;
            break;
        }
        if has_news && answer.is_finished() {
            stream.ends = Some(Instant::now() + GRACE.min(idle));
        }
    }
    let (completion, rest) = answer.complete(model).map_err(no_answer)?;
    if !rest.is_empty() {
        on_shown(ThinkOutcome {
            is_void: false,
            text: rest,
        });
    }
    if let Some(usage) = completion.usage.filter(|_| model == provider.model) {
        tokens.counted(request, usage.input_tokens);
    }
    Ok(completion)
}

/// The body of an answer while it arrives.
struct AnswerBody {
    response: Response,
    /// `None` once the body has ended.
    reply: Option<ResponseBody>,
    /// When the body counts as ended, whatever else arrives.
    ends: Option<Instant>,
    idle: Duration,
}

enum NextRead {
    Items(Vec<BodyItem>),
    End,
    /// Nothing arrived in time.
    Silence,
    Broken(reqwest::Error),
    TooLong,
    /// The body ended and was not an answer of a model server.
    Foreign,
}

impl AnswerBody {
    async fn next(&mut self) -> NextRead {
        let silence = Instant::now() + self.idle;
        if let Some(reply) = self.reply.as_ref().filter(|reply| reply.may_be_whole()) {
            let grace = silence.min(Instant::now() + GRACE);
            // Cancelling `chunk` loses no bytes: the response holds all state.
            match timeout_at(grace, self.response.chunk()).await {
                Ok(bytes) => return self.take(bytes),
                // The server does not end the body: the document is complete if it can be parsed.
                Err(_) => {
                    if let Some(items) = reply.so_far() {
                        self.reply = None;
                        return NextRead::Items(items);
                    }
                }
            }
        }
        if self.reply.is_none() {
            return NextRead::End;
        }
        // Any bytes count as a sign of life, keep-alive comments too.
        let ends = self.ends.map_or(silence, |ends| ends.min(silence));
        match timeout_at(ends, self.response.chunk()).await {
            Ok(bytes) => self.take(bytes),
            Err(_) => NextRead::Silence,
        }
    }

    fn take(&mut self, bytes: reqwest::Result<Option<Bytes>>) -> NextRead {
        let items = match (bytes, &mut self.reply) {
            (Err(error), _) => return NextRead::Broken(error),
            (Ok(Some(bytes)), Some(reply)) => match reply.feed(&bytes) {
                Ok(items) => Some(items),
                Err(TooLong) => return NextRead::TooLong,
            },
            (Ok(_), reply) => reply.take().and_then(ResponseBody::end),
        };
        items.map_or(NextRead::Foreign, NextRead::Items)
    }
}

fn kind(response: &Response) -> String {
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    kind.unwrap_or("nothing that is named").to_ascii_lowercase()
}

/// Reads a body until `until`, or until it ends, breaks or reaches [`ERROR_MAX_BYTES`].
async fn beginning(mut response: Response, until: Instant) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Ok(Some(part))) = timeout_at(until, response.chunk()).await {
        let room = ERROR_MAX_BYTES - bytes.len();
        bytes.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() >= room {
            break;
        }
    }
    bytes
}

/// Reads the body of a response with an error status, as far as it arrives.
async fn refused(response: Response, idle: Duration) -> ProviderRefusal {
    let status = response.status();
    let in_headers = retry_delay::in_headers(response.headers(), SystemTime::now());
    let bytes = beginning(response, Instant::now() + idle).await;
    let document = lossy::parse(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    let after = in_headers.or_else(|| retry_delay::in_document(&document));
    ProviderRefusal {
        status,
        document,
        after,
    }
}
