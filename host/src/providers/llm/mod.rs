//! Chat completions by any server that speaks OpenAI's API, streamed.
//!
//! ```text
//!   ask a provider ---> the whole answer
//!     ^  |
//!     |  +-- refuses something in it, by name: asked again without it, and remembered
//!     |  |
//!     |  +-- broke off, overloaded, silent: retries left? -- yes --> pause, ask it again
//!     |  |                                                  no
//!     |  +-- refuses the key, knows no such model -----------+
//!     |  |                                                   v
//!     |  |                                          it has a fallback? -- no --> error
//!     |  |                                                   | yes
//!     +--------- the fallback, with its own model -----------+
//!        |
//!        +-- the request makes no sense, or is too large --> error
//! ```

mod answer;
mod ask;
mod attempt;
mod call_id;
mod dialect;
mod fault;
mod mend;
mod pauses;
mod provider;
mod render;
#[cfg(test)]
mod tests;
mod transport;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use tokio::time::Instant;

use crate::domain::{ChatRequest, Completion, StepError};
use ask::{LeftOuts, ask};
use dialect::Dialects;
use fault::{Fault, Remedy};
use pauses::Pauses;
pub use provider::{BadProvider, LlmProvider};
use window::Tokens;

struct Ready {
    provider: LlmProvider,
    client: Client<OpenAIConfig>,
    tokens: Tokens,
    dialects: Dialects,
    left_out: LeftOuts,
}

/// All providers, by name.
pub struct LlmProviders(BTreeMap<String, Ready>);

impl LlmProviders {
    /// Prepares a client for each. Nothing is connected yet.
    ///
    /// # Errors
    /// A base URL that is none, a key that cannot stand in a header, or no TLS.
    pub fn new(providers: BTreeMap<String, LlmProvider>) -> Result<Self, BadProvider> {
        // An error means that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ready = providers.into_iter().map(|(name, provider)| {
            let client = provider::client(&provider).map_err(|reason| BadProvider {
                name: name.clone(),
                reason,
            })?;
            let ready = Ready {
                provider,
                client,
                tokens: Tokens::new(),
                dialects: Dialects::default(),
                left_out: LeftOuts::default(),
            };
            Ok((name, ready))
        });
        ready.collect::<Result<_, _>>().map(Self)
    }

    /// One chat completion, within about `time`. `on_delta` is told of each piece of text as it
    /// arrives, with the number of the request that brought it, from 1: what an earlier request
    /// brought is void. Dropping the future ends the request on the wire.
    ///
    /// # Errors
    /// `Denied` without a provider, `Invalid` where the request makes no sense to the server,
    /// `Unavailable` where it cannot be reached or is overloaded, `Timeout` where it says nothing
    /// for the idle timeout or is not done in time, `TooLarge` where the request is over the
    /// model's window or the answer has more than `limit_bytes` of text and tool calls, `Failed`
    /// for the rest. Where a fallback was asked too, the kind is that of the first provider.
    pub async fn chat(
        &self,
        request: &ChatRequest,
        limit_bytes: u64,
        time: Duration,
        mut on_delta: impl FnMut(u32, &str),
    ) -> Result<Completion, StepError> {
        let ends = Instant::now() + time;
        let (mut name, mut ready) = self.find(request.provider.as_deref().unwrap_or_default())?;
        let mut model = request.model.as_deref().unwrap_or(&ready.provider.model);
        let mut before: Option<StepError> = None;
        let mut tried = vec![name];
        let mut asked = 0;
        loop {
            let first = asked;
            let mut pauses = Pauses::new(ready.provider.retries);
            let fault = loop {
                let answer = ask(
                    name,
                    ready,
                    model,
                    request,
                    limit_bytes,
                    &mut asked,
                    &mut on_delta,
                );
                let fault = match answer.await {
                    Ok(completion) => {
                        count(name, "ok");
                        count_tokens(name, &completion);
                        return Ok(completion);
                    }
                    Err(fault) => fault,
                };
                count(name, fault.error.kind());
                let left = ends.saturating_duration_since(Instant::now());
                let Some(pause) = pauses.next(fault.remedy, left) else {
                    break fault;
                };
                tracing::info!(
                    provider = name, error = %fault.error, pause_ms = pause.as_millis(),
                    "no answer from a model; it is asked again"
                );
                tokio::time::sleep(pause).await;
            };
            let error = fault.told(asked - first);
            let error = match before.take() {
                Some(before) => fallen(before, name, error),
                None => error,
            };
            let next = ready.provider.fallback.as_deref();
            let next = next.filter(|next| fault.remedy != Remedy::Nothing && !tried.contains(next));
            let Some(next) = next else {
                return Err(error);
            };
            tracing::warn!(provider = name, fallback = next, %error, "no answer from a model; its fallback is asked");
            before = Some(error);
            (name, ready) = self.find(next)?;
            // A guest's wish is for a model of the provider that it named.
            model = &ready.provider.model;
            tried.push(name);
        }
    }

    fn find(&self, name: &str) -> Result<(&str, &Ready), StepError> {
        let found = self.0.get_key_value(name);
        let (name, ready) = found.ok_or_else(|| {
            StepError::Denied(format!(
                "there is no model provider `{name}`; add `[llm.{name}]` to the configuration"
            ))
        })?;
        Ok((name, ready))
    }
}

/// The error of a call whose fallback gave no answer either.
fn fallen(mut before: StepError, fallback: &str, mut error: StepError) -> StepError {
    let text = format!(
        "{}; its fallback `{fallback}`: {}",
        before.text_mut(),
        error.text_mut()
    );
    // A shorter request may be answered by the fallback: that is news for the guest.
    let mut all = match error {
        StepError::TooLarge(_) => error,
        _ => before,
    };
    *all.text_mut() = text;
    all
}

impl Fault {
    /// The error of a provider that was asked so often.
    fn told(&self, asked: u32) -> StepError {
        let mut error = self.error.clone();
        if let Remedy::Again { after: Some(after) } = self.remedy
            && !after.is_zero()
        {
            let after = humantime::format_duration(after);
            error
                .text_mut()
                .push_str(&format!("; it asks to be left alone for {after}"));
        }
        if asked > 1 {
            error
                .text_mut()
                .push_str(&format!(" (asked {asked} times)"));
        }
        error
    }
}

fn count(provider: &str, outcome: &'static str) {
    let provider = provider.to_owned();
    metrics::counter!("abide_llm_requests_total", "provider" => provider, "outcome" => outcome)
        .increment(1);
}

fn count_tokens(provider: &str, completion: &Completion) {
    let Some(usage) = completion.usage else {
        return;
    };
    for (direction, tokens) in [
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
    ] {
        let provider = provider.to_owned();
        metrics::counter!("abide_llm_tokens_total", "provider" => provider, "direction" => direction)
            .increment(tokens);
    }
}
