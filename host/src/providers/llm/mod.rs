//! Streamed chat completions from any server that speaks OpenAI's API.
//!
//! ```text
//!   ask a provider ---> the whole answer
//!     ^  |
//!     |  +-- refuses a named part of the request: retry without it, and remember that
//!     |  |
//!     |  +-- connection broken, overloaded, silent: retries left? -- yes --> pause, retry
//!     |  |                                                  no
//!     |  +-- still starting: patience left? -- yes --> pause, retry
//!     |  |                            no --------------------+
//!     |  +-- empty answer: retry once -----------------------+
//!     |  +-- refuses the request or the key -----------------+
//!     |  |                                                   v
//!     |  |                                    has a fallback? -- no --> error, or the empty answer
//!     |  |                                                   | yes
//!     +--------- ask the fallback, with its own model -------+
//!        |
//!        +-- the request is too large --> error
//! ```
//!
//! | file | content |
//! |---|---|
//! | `provider.rs`, `server.rs` | the configuration of a provider, and its HTTP client |
//! | `ready.rs` | both of them, with what was learned about the provider |
//! | `dialect.rs`, `window.rs`, `left_out.rs`, `health.rs` | what that is |
//! | `ask.rs`, `attempt.rs`, `backoff.rs` | one question, each request for it, and the retries |
//! | `render/`, `call_id.rs` | a request as it is sent |
//! | `reply.rs`, `sse.rs`, `chunk.rs` | reads the body of a response |
//! | `answer.rs`, `calls.rs`, `think.rs`, `ending.rs` | assembles the answer from what was read |
//! | `refusal.rs`, `words.rs`, `too_large.rs`, `retry_delay.rs` | reads a refusal |
//! | `classify.rs`, `hiding.rs` | the error after a request without an answer, and the remedy |
//! | `mend.rs` | what to leave out of a refused request |

mod answer;
mod ask;
mod attempt;
mod backoff;
mod call_id;
mod calls;
mod chunk;
mod classify;
mod dialect;
mod ending;
mod health;
mod hiding;
mod left_out;
mod mend;
#[cfg(test)]
mod mend_tests;
mod provider;
mod ready;
mod refusal;
mod render;
mod reply;
mod retry_delay;
mod server;
mod sse;
#[cfg(test)]
mod tests;
mod think;
mod too_large;
mod window;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{ChatRequest, ChatRole, Completion, ModelProviderStatus, StepError};
use ask::{Numbers, ask};
use backoff::{Pauses, STARTING_MAX};
use classify::{AttemptFailure, Remedy};
pub use provider::{BadProvider, LlmProvider};
use ready::Ready;

/// All configured model providers, by name.
pub struct LlmProviders(BTreeMap<String, Ready>);

impl LlmProviders {
    /// Builds a client for each provider, without connecting to any.
    ///
    /// # Errors
    /// Fails if a base URL is invalid, if a key cannot be a header value, or if TLS is unavailable.
    pub fn new(providers: BTreeMap<String, LlmProvider>) -> Result<Self, BadProvider> {
        // This fails only if a crypto provider is already installed, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ready = providers.into_iter();
        let ready = ready.map(|(name, provider)| match Ready::new(provider) {
            Ok(ready) => Ok((name, ready)),
            Err(reason) => Err(BadProvider { name, reason }),
        });
        ready.collect::<Result<_, _>>().map(Self)
    }

    /// Runs one chat completion, within about `time`. Calls `on_delta` with each piece of text as
    /// it arrives, and with a number that grows whenever all earlier pieces become void: they
    /// belonged to an earlier request, or turned out to be the model's thoughts. Dropping the
    /// future aborts the request on the wire.
    ///
    /// # Errors
    /// `Denied` if there is no such provider, `Invalid` if the server rejects the request,
    /// `Unavailable` if the server cannot be reached or is overloaded, `Timeout` if it sends
    /// nothing for the idle timeout or does not finish in time, `TooLarge` if the request exceeds
    /// the model's context window or the answer has more than `limit_bytes` of text and tool calls,
    /// `Failed` for everything else. If a fallback failed too, the kind is that of the first
    /// provider, unless the fallback's is `TooLarge`.
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
        let mut numbers = Numbers::default();
        // The last empty but complete answer: returned if no provider has a better one.
        let mut empty = None;
        loop {
            let first = numbers.asked;
            let mut pauses = pauses(&ready.provider);
            let mut may_be_empty = ready.provider.retries == 0;
            let fault = loop {
                let answer = ask(
                    name,
                    ready,
                    model,
                    request,
                    limit_bytes,
                    &mut numbers,
                    &mut on_delta,
                );
                let fault = match answer.await {
                    Ok(completion) => {
                        count(name, "ok");
                        count_tokens(name, &completion);
                        ready.health.answered();
                        if !answer::is_empty(&completion) {
                            return Ok(completion);
                        }
                        empty = Some(completion);
                        let fault = AttemptFailure::empty(name, &ready.provider, may_be_empty);
                        may_be_empty = true;
                        fault
                    }
                    Err(fault) => {
                        count(name, fault.error.kind());
                        fault
                    }
                };
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
            let error = fault.step_error(numbers.asked - first);
            ready.health.failed(&error);
            let error = match before.take() {
                Some(before) => fallen(before, name, error),
                None => error,
            };
            let next = ready.provider.fallback.as_deref();
            let may_help = match fault.remedy {
                Remedy::Again { .. } | Remedy::Starting { .. } | Remedy::Elsewhere => true,
                Remedy::Shorter => is_shortest(request),
                Remedy::Nothing => false,
            };
            let next = next.filter(|next| may_help && !tried.contains(next));
            let Some(next) = next else {
                return empty.ok_or(error);
            };
            tracing::warn!(provider = name, fallback = next, %error, "no answer from a model; its fallback is asked");
            before = Some(error);
            (name, ready) = self.find(next)?;
            // The guest's choice of model applies only to the provider that it named.
            model = &ready.provider.model;
            tried.push(name);
        }
    }

    /// Returns the status of each provider, ordered by name.
    pub fn status(&self) -> Vec<ModelProviderStatus> {
        let providers = self.0.iter().map(|(name, ready)| ModelProviderStatus {
            name: name.clone(),
            failing: ready.health.failing(),
            found_out: ready.dialects.known(),
            left_out: ready.left_out.known(),
        });
        providers.collect()
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

/// Returns whether the guest cannot shorten the request: apart from system messages it has at most
/// one message.
fn is_shortest(request: &ChatRequest) -> bool {
    let lines = request.messages.iter();
    lines.filter(|line| line.role != ChatRole::System).count() <= 1
}

/// Returns the retry schedule of one provider.
fn pauses(provider: &LlmProvider) -> Pauses {
    // Wait for a starting server only if there is no fallback to ask and retries are not disabled.
    let waits = provider.fallback.is_none() && provider.retries > 0;
    let patience = waits.then_some(STARTING_MAX.min(provider.timeout));
    Pauses::new(provider.retries, patience)
}

/// Combines the errors of a provider and of its fallback, which failed too.
fn fallen(mut before: StepError, fallback: &str, mut error: StepError) -> StepError {
    let text = format!(
        "{}; its fallback `{fallback}`: {}",
        before.text_mut(),
        error.text_mut()
    );
    // The fallback may answer a shorter request, so the guest must see `TooLarge`.
    let mut all = match error {
        StepError::TooLarge(_) => error,
        _ => before,
    };
    *all.text_mut() = text;
    all
}

impl AttemptFailure {
    /// Returns the error to report for a provider that was asked `asked` times.
    fn step_error(&self, asked: u32) -> StepError {
        let mut error = self.error.clone();
        if let Remedy::Again { after: Some(after) } | Remedy::Starting { after: Some(after) } =
            self.remedy
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
