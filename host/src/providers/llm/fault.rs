//! A request that gave no answer: why, in words for a human, a guest and its model, and what may
//! help. Never tells a key.

use std::time::Duration;

use async_openai::error::OpenAIError;
use http::StatusCode;
use serde_json::Value;

use super::LlmProvider;
use super::transport::Reply;
use crate::domain::StepError;
use crate::providers::common::chain;

/// The longest text of a server that an error repeats, in characters.
const REPEATED_MAX_CHARS: usize = 500;
/// How servers name a request that is over the model's context window, in codes and types: OpenAI's,
/// then llama.cpp's.
const OVER_WINDOW: [&str; 2] = ["context_length_exceeded", "exceed_context_size_error"];
/// What servers without such a code say of it: OpenAI's and vLLM's, llama.cpp's, Anthropic's,
/// Google's, Ollama's.
const OVER_WINDOW_TEXTS: [&str; 6] = [
    "maximum context length",
    "context size",
    "context window",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "exceeds context length",
];
/// The shortest value of a header or a query that may be a key, in bytes: shorter ones are words.
const SECRET_MIN_BYTES: usize = 8;
/// OpenAI's code for an account without money: no pause helps.
const NO_QUOTA: &str = "insufficient_quota";

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: StepError,
    pub(super) remedy: Remedy,
    /// What the server said of the request, where it refused it.
    pub(super) refusal: Option<Refusal>,
}

/// A server's refusal of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) document: Value,
}

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Asking the same provider again; not before so long, where it says so.
    Again { after: Option<Duration> },
    /// Asking another one.
    Elsewhere,
    /// Nothing: the request is at fault, or what the guest may be given.
    Nothing,
}

impl Fault {
    fn again(error: StepError) -> Self {
        let remedy = Remedy::Again { after: None };
        Self {
            error,
            remedy,
            refusal: None,
        }
    }

    fn elsewhere(error: StepError) -> Self {
        let remedy = Remedy::Elsewhere;
        Self {
            error,
            remedy,
            refusal: None,
        }
    }

    pub(super) fn nothing(error: StepError) -> Self {
        let remedy = Remedy::Nothing;
        Self {
            error,
            remedy,
            refusal: None,
        }
    }

    /// Time was over.
    pub(super) fn late(provider: &LlmProvider, text: String) -> Self {
        let error = StepError::Timeout(text);
        // It may take as long once more: not where somebody else can answer.
        match provider.fallback {
            Some(_) => Self::elsewhere(error),
            None => Self::again(error),
        }
    }

    /// An answer that began and did not come to its end, or that makes no sense.
    pub(super) fn broken(text: String) -> Self {
        Self::again(StepError::Failed(text))
    }

    /// The client's error.
    pub(super) fn of(name: &str, provider: &LlmProvider, error: OpenAIError) -> Self {
        let at = place(name, provider);
        match error {
            OpenAIError::Boxed(error) => match error.downcast::<Reply>() {
                Ok(reply) => replied(name, &at, *reply),
                Err(error) => {
                    Self::elsewhere(StepError::Failed(format!("{at}: {}", chain(&*error))))
                }
            },
            OpenAIError::Reqwest(error) if error.is_timeout() && error.is_connect() => {
                let limit = humantime::format_duration(provider.connect_timeout);
                let text =
                    format!("{at} did not take the connection within {limit}; check that it runs");
                Self::again(StepError::Timeout(text))
            }
            OpenAIError::Reqwest(error) if error.is_connect() => {
                let text = format!(
                    "{at} cannot be reached ({}); check that it runs and that \
                     `llm.{name}.base_url` is right",
                    chain(&error.without_url())
                );
                Self::again(StepError::Unavailable(text))
            }
            OpenAIError::Reqwest(error) => {
                let text = format!(
                    "{at} broke the connection off: {}",
                    chain(&error.without_url())
                );
                Self::again(StepError::Unavailable(text))
            }
            OpenAIError::JSONDeserialize(error, content) => Self::broken(format!(
                "{at} sent a malformed answer ({error}): {}",
                brief(&content)
            )),
            OpenAIError::StreamError(error) => Self::again(StepError::Unavailable(format!(
                "{at} broke its answer off: {}",
                brief(&error.to_string())
            ))),
            error => Self::elsewhere(StepError::Failed(format!(
                "{at}: {}",
                brief(&error.to_string())
            ))),
        }
    }

    /// What is repeated of a server, without what it was sent: some repeat keys.
    pub(super) fn without_key(mut self, provider: &LlmProvider) -> Self {
        let text = self.error.text_mut();
        if let Some(key) = provider.api_key.as_ref().filter(|key| !key.0.is_empty()) {
            *text = text.replace(&key.0, "[API key]");
        }
        let given = provider.headers.iter().chain(&provider.query);
        for (name, value) in given.filter(|(_, value)| value.0.len() >= SECRET_MIN_BYTES) {
            *text = text.replace(&value.0, &format!("[{name}]"));
        }
        self
    }
}

/// How a provider is named.
pub(super) fn place(name: &str, provider: &LlmProvider) -> String {
    // A query may hold a key.
    let base = provider.base_url.split('?').next().unwrap_or_default();
    format!("model provider `{name}` at {base}")
}

/// What the server's reply means that is no answer.
fn replied(name: &str, at: &str, reply: Reply) -> Fault {
    let (status, after, said) = match reply {
        Reply::NoStream { kind } => {
            return Fault::elsewhere(StepError::Failed(format!(
                "{at} answered with {kind} in place of an event stream; check \
                 `llm.{name}.base_url` (most end in /v1)"
            )));
        }
        Reply::Malformed { error, text } => {
            let text = brief(&text);
            return Fault::broken(format!("{at} sent a malformed answer ({error}): {text}"));
        }
        Reply::TooLong { limit } => {
            return Fault::nothing(StepError::TooLarge(format!(
                "the answer of {at} has more than {limit} bytes, over `limits.event`"
            )));
        }
        Reply::Refused {
            status,
            retry_after,
            said,
        } => (status, retry_after, said),
    };
    let fault = refused(name, at, status, after, &said);
    Fault {
        refusal: Some(Refusal {
            status,
            document: said,
        }),
        ..fault
    }
}

fn refused(
    name: &str,
    at: &str,
    status: StatusCode,
    after: Option<Duration>,
    said: &Value,
) -> Fault {
    let text = message(said);
    if over_window(status, said, &text) {
        return Fault::nothing(StepError::TooLarge(format!(
            "{at} says that the request is over the model's context window ({status}): {text}; \
             shorten the conversation"
        )));
    }
    let again = |error| Fault {
        error,
        remedy: Remedy::Again { after },
        refusal: None,
    };
    match status.as_u16() {
        // Servers repeat the key here, or a part of it.
        401 => Fault::elsewhere(StepError::Failed(format!(
            "{at} refused the API key ({status}); check `llm.{name}.api_key_env` or `api_key_file`"
        ))),
        403 => Fault::elsewhere(StepError::Failed(format!(
            "{at} refused the API key ({status}): {text}; check `llm.{name}.api_key_env` or \
             `api_key_file`, and what the key may do"
        ))),
        402 => Fault::elsewhere(StepError::Unavailable(format!(
            "{at} wants to be paid first ({status}): {text}"
        ))),
        // Most say so of a model that they do not have.
        404 => Fault::elsewhere(StepError::Invalid(format!(
            "{at} refused the request ({status}): {text}; check `llm.{name}.model` and `base_url`"
        ))),
        408 | 504 => again(StepError::Timeout(format!(
            "{at} took too long ({status}): {text}"
        ))),
        429 if code(said).any(|code| code == NO_QUOTA) => Fault::elsewhere(StepError::Unavailable(
            format!("{at} takes no more requests of this account ({status}): {text}"),
        )),
        429 => again(StepError::Unavailable(format!(
            "{at} takes no more requests now ({status}): {text}"
        ))),
        500.. => again(StepError::Unavailable(format!(
            "{at} failed ({status}): {text}"
        ))),
        409 | 425 => again(StepError::Failed(format!("{at} answered {status}: {text}"))),
        400..500 => Fault::nothing(StepError::Invalid(format!(
            "{at} refused the request ({status}): {text}"
        ))),
        _ => Fault::elsewhere(StepError::Failed(format!("{at} answered {status}: {text}"))),
    }
}

fn over_window(status: StatusCode, said: &Value, text: &str) -> bool {
    if !matches!(status.as_u16(), 400 | 413 | 422 | 500) {
        return false;
    }
    let text = text.to_lowercase();
    code(said).any(|code| OVER_WINDOW.contains(&code))
        || OVER_WINDOW_TEXTS.iter().any(|said| text.contains(said))
}

/// What an error document has for programs.
fn code(said: &Value) -> impl Iterator<Item = &str> {
    let error = said.get("error").unwrap_or(said);
    ["code", "type"]
        .into_iter()
        .filter_map(|key| error.get(key)?.as_str())
}

/// What a server's error document says.
pub(super) fn message(value: &Value) -> String {
    let error = value.get("error").unwrap_or(value);
    let said = match error {
        Value::String(text) => text.clone(),
        error => ["message", "detail", "title"]
            .iter()
            .find_map(|key| error.get(key)?.as_str())
            .map_or_else(|| error.to_string(), str::to_owned),
    };
    brief(&said)
}

fn brief(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(REPEATED_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if text.is_empty() => "(it does not say why)".to_owned(),
        None => text.to_owned(),
    }
}
