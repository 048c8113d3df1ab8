//! Classifies a request that got no answer: the reason, in words for a human, a guest and its
//! model, and the possible remedy. The words never contain a key.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::LlmProvider;
use super::answer::NoAnswer;
use super::refusal::{self, ProviderRefusal, brief};
use super::retry_delay;
use super::too_large::{is_too_large, says_too_large};
use crate::domain::StepError;
use crate::providers::http_body::chain;

/// Codes for an account without credit, where no pause helps: OpenAI's and others'.
const NO_QUOTA: [&str; 3] = [
    "insufficient_quota",
    "billing_not_active",
    "insufficient_balance",
];
/// Codes and phrases of servers that could not parse the output of their own model: Groq's,
/// Gemini's, Ollama's, llama.cpp's. A retry mostly succeeds.
pub(super) const MODEL_FAILED: [&str; 16] = [
    "tool_use_failed",
    "malformed_function_call",
    "malformed_tool_call",
    "output_parse_failed",
    "json_validate_failed",
    "failed to call a function",
    "failed to parse tool call",
    "error parsing tool call",
    "failed to parse input at pos",
    "model output could not be parsed",
    "model produced invalid",
    "tokens remaining in message header",
    "unknown role: final",
    "failed during generation",
    "no valid response generated",
    "parsing the output of",
];
/// Phrases of servers that are still starting: llama.cpp, TGI, Ollama, vLLM and those who host
/// them.
const STARTING: [&str; 16] = [
    "loading model",
    "model loading",
    "model is loading",
    "still loading",
    "currently loading",
    "loading the model",
    "is being loaded",
    "not loaded yet",
    "not yet loaded",
    "is starting",
    "starting up",
    "warming up",
    "initializing",
    "not ready",
    "cold start",
    "scaling up",
];

/// Phrases of servers that refuse a conversation because of its content.
const OF_CONTENT: [&str; 5] = [
    "moderation",
    "flagged",
    "content policy",
    "content_policy",
    "content filter",
];

/// Phrases, with status 503, of servers that run but are overloaded.
const OVERLOADED: [&str; 5] = ["overload", "capacity", "busy", "too many", "rate limit"];

/// Why a request got no answer, and what may help.
#[derive(Debug)]
pub(super) struct AttemptFailure {
    pub(super) error: StepError,
    pub(super) remedy: Remedy,
    /// The server's refusal, if it refused the request: with an error status, or within an answer
    /// that names one.
    pub(super) refusal: Option<ProviderRefusal>,
}

/// What may help after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Retry with the same provider, after the delay that it asked for, if any.
    Again { after: Option<Duration> },
    /// The same, for as long as a server takes to start.
    Starting { after: Option<Duration> },
    /// Ask another provider.
    Elsewhere,
    /// Shorten the request. If it cannot be shortened, ask another provider.
    Shorter,
    /// Nothing: the request is at fault, or the answer exceeds what the guest may be given.
    Nothing,
}

impl AttemptFailure {
    fn new(error: StepError, remedy: Remedy) -> Self {
        Self {
            error,
            remedy,
            refusal: None,
        }
    }

    fn again(error: StepError) -> Self {
        Self::new(error, Remedy::Again { after: None })
    }

    pub(super) fn elsewhere(error: StepError) -> Self {
        Self::new(error, Remedy::Elsewhere)
    }

    /// The request is too large for this provider.
    pub(super) fn shorter(text: String) -> Self {
        Self::new(StepError::TooLarge(text), Remedy::Shorter)
    }

    pub(super) fn nothing(error: StepError) -> Self {
        Self::new(error, Remedy::Nothing)
    }

    /// A timeout expired.
    pub(super) fn late(provider: &LlmProvider, text: String) -> Self {
        let error = StepError::Timeout(text);
        // A retry may take as long again, so prefer the fallback if there is one.
        match provider.fallback {
            Some(_) => Self::elsewhere(error),
            None => Self::again(error),
        }
    }

    /// The connection could not be established, or it broke.
    pub(super) fn unreached(name: &str, provider: &LlmProvider, error: reqwest::Error) -> Self {
        let at = place(name, provider);
        let is_refused = is_refused(&error);
        if error.is_connect() && error.is_timeout() {
            let limit = humantime::format_duration(provider.connect_timeout);
            let text =
                format!("{at} did not take the connection within {limit}; check that it runs");
            return Self::again(StepError::Timeout(text));
        }
        if error.is_connect() {
            let text = format!(
                "{at} cannot be reached ({}); check that it runs and that `llm.{name}.base_url` is \
                 right",
                chain(&error.without_url())
            );
            let error = StepError::Unavailable(text);
            return match is_refused {
                true => Self::new(error, Remedy::Starting { after: None }),
                false => Self::again(error),
            };
        }
        let why = chain(&error.without_url());
        Self::again(StepError::Unavailable(format!(
            "{at} broke the connection off: {why}"
        )))
    }

    /// The response does not come from a model server.
    pub(super) fn foreign(name: &str, provider: &LlmProvider, kind: &str) -> Self {
        let at = place(name, provider);
        Self::elsewhere(StepError::Failed(format!(
            "{at} answered with {kind} in place of an event stream; check `llm.{name}.base_url` \
             (most end in /v1)"
        )))
    }

    /// The answer contains something that cannot be parsed.
    pub(super) fn malformed(name: &str, provider: &LlmProvider, error: &str, text: &str) -> Self {
        let (at, text) = (place(name, provider), brief(text));
        Self::again(StepError::Failed(format!(
            "{at} sent a malformed answer ({error}): {text}"
        )))
    }

    /// The answer is empty. `again` rules out another retry with this provider: an answer was empty
    /// before, or retries are disabled.
    pub(super) fn empty(name: &str, provider: &LlmProvider, again: bool) -> Self {
        let at = place(name, provider);
        let error = StepError::Failed(format!("{at} answered without a word"));
        match again {
            true => Self::elsewhere(error),
            false => Self::again(error),
        }
    }

    /// The answer is void, incomplete or too long, or contains an error.
    pub(super) fn no_answer(name: &str, provider: &LlmProvider, no_answer: NoAnswer) -> Self {
        let at = place(name, provider);
        let document = match no_answer {
            NoAnswer::Broken(why) => return Self::again(StepError::Failed(format!("{at} {why}"))),
            NoAnswer::TooLong(limit) => {
                return Self::nothing(StepError::TooLarge(format!(
                    "the answer of {at} has more than the {limit} bytes that `limits.event` allows"
                )));
            }
            NoAnswer::Refused(document) => document,
        };
        let after = retry_delay::in_document(&document);
        match refusal::status(&document) {
            Some(status) => Self::refused(
                name,
                provider,
                ProviderRefusal {
                    status,
                    document,
                    after,
                },
            ),
            None if says_too_large(&refusal::words(&document)) => Self::too_large(
                format!("{at} says within its answer"),
                &refusal::message(&document),
            ),
            None => Self::new(
                StepError::Failed(format!(
                    "{at} broke its answer off: {}",
                    refusal::message(&document)
                )),
                Remedy::Again { after },
            ),
        }
    }

    fn too_large(who: String, text: &str) -> Self {
        Self::shorter(format!(
            "{who} that the request is over the model's context window: {text}; shorten the \
             conversation"
        ))
    }

    /// The server refused the request.
    pub(super) fn refused(name: &str, provider: &LlmProvider, refusal: ProviderRefusal) -> Self {
        let fault = classify(name, &place(name, provider), &refusal);
        Self {
            refusal: Some(refusal),
            ..fault
        }
    }
}

/// Returns the text by which error messages name a provider.
pub(super) fn place(name: &str, provider: &LlmProvider) -> String {
    // The query may hold a key, so leave it out.
    let base = provider.base_url.split('?').next().unwrap_or_default();
    format!("model provider `{name}` at {base}")
}

/// Returns whether the connection was refused: no server listens at the address.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Classifies a server's refusal.
fn classify(name: &str, at: &str, refusal: &ProviderRefusal) -> AttemptFailure {
    let (status, text, words) = (refusal.status, refusal.text(), refusal.words());
    if is_too_large(refusal) {
        return AttemptFailure::too_large(format!("{at} says ({status})"), &text);
    }
    let after = refusal.after;
    let again = |error| AttemptFailure::new(error, Remedy::Again { after });
    let says = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    match status.as_u16() {
        // Without the server's text: it often repeats the key, or a part of it.
        401 => AttemptFailure::elsewhere(StepError::Failed(format!(
            "{at} refused the API key ({status}); check `llm.{name}.api_key_env` or `api_key_file`"
        ))),
        403 if says(&OF_CONTENT) => AttemptFailure::elsewhere(StepError::Invalid(format!(
            "{at} refused what the conversation says ({status}): {text}"
        ))),
        403 => AttemptFailure::elsewhere(StepError::Failed(format!(
            "{at} refused the API key ({status}): {text}; check `llm.{name}.api_key_env` or \
             `api_key_file`, and what the key may do"
        ))),
        402 => AttemptFailure::elsewhere(StepError::Unavailable(format!(
            "{at} wants to be paid first ({status}): {text}"
        ))),
        429 if refusal.codes().iter().any(|code| NO_QUOTA.contains(code)) => {
            AttemptFailure::elsewhere(StepError::Unavailable(format!(
                "{at} takes no more requests of this account ({status}): {text}"
            )))
        }
        // The model is at fault, not the request.
        400.. if says(&MODEL_FAILED) => again(StepError::Failed(format!(
            "{at} could not read what its model said ({status}): {text}"
        ))),
        400 | 404 | 409 | 424 | 425 | 429 | 500.. if says(&STARTING) => AttemptFailure::new(
            StepError::Unavailable(format!("{at} is starting ({status}): {text}")),
            Remedy::Starting { after },
        ),
        408 | 504 => again(StepError::Timeout(format!(
            "{at} took too long ({status}): {text}"
        ))),
        429 => again(StepError::Unavailable(format!(
            "{at} takes no more requests now ({status}): {text}"
        ))),
        // A gateway reports no more than this about an upstream that is still starting.
        502 | 503 | 521..=523 if !says(&OVERLOADED) => AttemptFailure::new(
            StepError::Unavailable(format!("{at} is not there now ({status}): {text}")),
            Remedy::Starting { after },
        ),
        500.. => again(StepError::Unavailable(format!(
            "{at} failed ({status}): {text}"
        ))),
        409 | 424 | 425 => again(StepError::Failed(format!("{at} answered {status}: {text}"))),
        // Most servers use 404 for a model that they do not have.
        404 => AttemptFailure::elsewhere(StepError::Invalid(format!(
            "{at} refused the request ({status}): {text}; check `llm.{name}.model` and `base_url`"
        ))),
        // Gemini refuses keys with status 400.
        400 if says(&["api key not valid", "api_key_invalid", "invalid api key"]) => {
            AttemptFailure::elsewhere(StepError::Failed(format!(
                "{at} refused the API key ({status}): {text}; check `llm.{name}.api_key_env` or \
                 `api_key_file`"
            )))
        }
        300..400 => AttemptFailure::elsewhere(StepError::Failed(format!(
            "{at} answered with a redirect ({status}), and none is followed; write the address that \
             it leads to in `llm.{name}.base_url`"
        ))),
        // Another provider may accept what this one refuses.
        400..500 => AttemptFailure::elsewhere(StepError::Invalid(format!(
            "{at} refused the request ({status}): {text}"
        ))),
        _ => {
            AttemptFailure::elsewhere(StepError::Failed(format!("{at} answered {status}: {text}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    fn remedy(status: u16, document: Value) -> Remedy {
        let status = StatusCode::from_u16(status).expect("a status");
        let after = retry_delay::in_document(&document);
        classify(
            "p",
            "p",
            &ProviderRefusal {
                status,
                document,
                after,
            },
        )
        .remedy
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        let body = |text: &str| json!({"error": {"message": text}});
        let (again, starting) = (
            Remedy::Again { after: None },
            Remedy::Starting { after: None },
        );
        for (status, document, expected) in [
            (
                503,
                json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
                starting,
            ),
            (
                503,
                json!({"error": "Model gpt2 is currently loading", "estimated_time": 20.0}),
                starting,
            ),
            (503, body("The model is warming up"), starting),
            (500, body("server is starting"), starting),
            (503, body("overloaded"), again),
            (503, json!(""), starting),
            (503, json!("no healthy upstream"), starting),
            (502, json!("<html>Bad Gateway</html>"), starting),
            (521, json!("<html>Web server is down</html>"), starting),
            (404, body("Model llama is still loading"), starting),
            (400, body("Model not ready: the model is loading"), starting),
            (424, body("Request failed during generation"), again),
            (
                400,
                body("Model produced invalid sequence as part of ToolUse"),
                again,
            ),
            (
                403,
                body("Input was flagged by moderation"),
                Remedy::Elsewhere,
            ),
            (529, body("Overloaded"), again),
            (
                400,
                json!({"error": {"message": "Failed to call a function.", "code": "tool_use_failed"}}),
                again,
            ),
            (
                400,
                json!({"error": {"status": "MALFORMED_FUNCTION_CALL", "message": "x"}}),
                again,
            ),
            (
                400,
                body("System message must be at the beginning."),
                Remedy::Elsewhere,
            ),
            (
                422,
                json!({"detail": [{"loc": ["body", "tools"], "msg": "extra fields"}]}),
                Remedy::Elsewhere,
            ),
            (
                400,
                body("This model's maximum context length is 10 tokens."),
                Remedy::Shorter,
            ),
            (413, json!("x"), Remedy::Shorter),
            (401, body("x"), Remedy::Elsewhere),
            (404, body("x"), Remedy::Elsewhere),
            (
                429,
                json!({"error": {"code": "insufficient_quota", "message": "x"}}),
                Remedy::Elsewhere,
            ),
            (
                429,
                body("try again in 3s"),
                Remedy::Again {
                    after: Some(Duration::from_secs(3)),
                },
            ),
            (302, json!(""), Remedy::Elsewhere),
        ] {
            assert_eq!(
                remedy(status, document.clone()),
                expected,
                "{status} {document}"
            );
        }
    }
}
