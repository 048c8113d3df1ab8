//! One request to one provider, and its answer as it comes.

use futures::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::Ready;
use super::answer::{Answer, Chunk};
use super::fault::{Fault, place};
use super::render::Sent;
use super::window::TooMuch;
use crate::domain::{ChatRequest, Completion, StepError};

/// Asks for `model` once. `on_delta` is told of each piece of text as it arrives.
pub(super) async fn attempt(
    name: &str,
    ready: &Ready,
    model: &str,
    request: &ChatRequest,
    sent: &Sent,
    limit_bytes: u64,
    on_delta: impl FnMut(&str),
) -> Result<Completion, Fault> {
    let limit = ready.provider.timeout;
    let ends = Instant::now() + limit;
    let answer = answer(name, ready, model, request, sent, limit_bytes, on_delta);
    let answer = timeout_at(ends, answer).await.unwrap_or_else(|_| {
        let at = place(name, &ready.provider);
        let limit = humantime::format_duration(limit);
        let text = format!(
            "{at} was not done within {limit}; raise `llm.{name}.timeout` if its answers take longer"
        );
        Err(Fault::late(&ready.provider, text))
    });
    answer.map_err(|fault| fault.without_key(&ready.provider))
}

async fn answer(
    name: &str,
    Ready {
        provider,
        client,
        tokens,
        ..
    }: &Ready,
    model: &str,
    request: &ChatRequest,
    sent: &Sent,
    limit_bytes: u64,
    mut on_delta: impl FnMut(&str),
) -> Result<Completion, Fault> {
    let idle = provider.idle_timeout;
    let silent = || {
        let at = place(name, provider);
        let limit = humantime::format_duration(idle);
        let text =
            format!("{at} said nothing for {limit}; raise `llm.{name}.idle_timeout` if it is slow");
        Fault::late(provider, text)
    };
    let fault = |error| Fault::of(name, provider, error);
    // What the operator says of the window is said of the provider's own model.
    let window = provider.context_tokens.filter(|_| model == provider.model);
    if let Some(Err(too_much)) = window.map(|window| tokens.fits(request, window)) {
        let TooMuch { has, room } = too_much;
        return Err(Fault::nothing(StepError::TooLarge(format!(
            "the request has about {has} tokens, and model `{model}` takes {room} beside its answer \
             (`llm.{name}.context_tokens`); shorten the conversation"
        ))));
    }
    let chat = client.chat();
    let begin = chat.create_stream_byot::<_, Chunk>(&sent.body);
    let begun = timeout(idle, begin).await.map_err(|_| silent())?;
    let mut chunks = begun.map_err(fault)?;
    let mut answer = Answer::new(place(name, provider), limit_bytes);
    while let Some(chunk) = timeout(idle, chunks.next()).await.map_err(|_| silent())? {
        if let Some(delta) = answer.take(chunk.map_err(fault)?)? {
            on_delta(&delta);
        }
    }
    let completion = answer.complete(model)?;
    if let Some(usage) = completion.usage.filter(|_| model == provider.model) {
        tokens.counted(request, usage.input_tokens);
    }
    Ok(completion)
}
