//! Chat completions by any server that speaks OpenAI's API, streamed.
//!
//! ```text
//!   ask a provider ---> the whole answer
//!     ^  |
//!     |  +-- refuses something in it, by name: asked again without it, and remembered
//!     |  |
//!     |  +-- broke off, overloaded, silent: retries left? -- yes --> pause, ask it again
//!     |  |                                                  no
//!     |  +-- starts: patience left? -- yes --> pause, ask it again
//!     |  |                            no --------------------+
//!     |  +-- says nothing at all: asked once more -----------+
//!     |  +-- refuses the request or the key -----------------+
//!     |  |                                                   v
//!     |  |                                          it has a fallback? -- no --> error
//!     |  |                                                   | yes
//!     +--------- the fallback, with its own model -----------+
//!        |
//!        +-- the request is too large --> error
//! ```

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
mod mend;
#[cfg(test)]
mod mend_tests;
mod provider;
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
use ask::{Numbers, ToolsLeftOut, ask};
use backoff::{Pauses, STARTING_MAX};
use classify::{AttemptFailure, Remedy};
use dialect::Dialects;
use health::ProviderHealth;
pub use provider::{BadProvider, LlmProvider};
use server::ProviderServer;
use window::Tokens;

struct Ready {
    provider: LlmProvider,
    server: ProviderServer,
    tokens: Tokens,
    dialects: Dialects,
    left_out: ToolsLeftOut,
    health: ProviderHealth,
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
            let server = provider::client(&provider).map_err(|reason| BadProvider {
                name: name.clone(),
                reason,
            })?;
            let ready = Ready {
                provider,
                server,
                tokens: Tokens::new(),
                dialects: Dialects::default(),
                left_out: ToolsLeftOut::default(),
                health: ProviderHealth::default(),
            };
            Ok((name, ready))
        });
        ready.collect::<Result<_, _>>().map(Self)
    }

    /// One chat completion, within about `time`. `on_delta` is told of each piece of text as it
    /// arrives, with a number that grows whenever all that came before is void: it belonged to an
    /// earlier request, or turned out to be a thought. Dropping the future ends the request on the
    /// wire.
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
        let mut numbers = Numbers::default();
        // What is handed out where nobody says more.
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
            // A guest's wish is for a model of the provider that it named.
            model = &ready.provider.model;
            tried.push(name);
        }
    }

    /// How each provider is, in the order of their names.
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

/// Whether the guest has nothing left to leave out: beside what the model is told first there is one
/// message.
fn is_shortest(request: &ChatRequest) -> bool {
    let lines = request.messages.iter();
    lines.filter(|line| line.role != ChatRole::System).count() <= 1
}

/// When a provider is asked again.
fn pauses(provider: &LlmProvider) -> Pauses {
    // Where somebody else can answer, nobody waits; and who wants no retries gets none.
    let waits = provider.fallback.is_none() && provider.retries > 0;
    let patience = waits.then_some(STARTING_MAX.min(provider.timeout));
    Pauses::new(provider.retries, patience)
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

impl AttemptFailure {
    /// The error of a provider that was asked so often.
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
