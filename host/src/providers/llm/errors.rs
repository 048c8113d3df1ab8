//! What went wrong, for a human, a guest and its model. Never tells a key.

use std::error::Error;

use async_openai::error::OpenAIError;
use serde_json::Value;

use super::LlmProvider;
use crate::domain::StepError;

/// The longest text of a server that an error repeats, in characters.
const REPEATED_MAX_CHARS: usize = 500;

/// A client's error as the step's.
pub(super) fn explain(name: &str, provider: &LlmProvider, error: OpenAIError) -> StepError {
    let at = format!("model provider `{name}` at {}", provider.base_url);
    let step = match error {
        OpenAIError::Boxed(error) => match error.downcast::<StepError>() {
            Ok(step) => *step,
            Err(error) => StepError::Failed(format!("{at}: {}", chain(&*error))),
        },
        OpenAIError::Reqwest(error) if error.is_timeout() && error.is_connect() => {
            StepError::Timeout(format!(
                "{at} did not take the connection within {}; check that it runs",
                humantime::format_duration(provider.connect_timeout)
            ))
        }
        OpenAIError::Reqwest(error) if error.is_connect() => StepError::Unavailable(format!(
            "{at} cannot be reached ({}); check that it runs and that `llm.{name}.base_url` is right",
            chain(&error.without_url())
        )),
        OpenAIError::Reqwest(error) => StepError::Unavailable(format!(
            "{at} broke the connection off: {}",
            chain(&error.without_url())
        )),
        OpenAIError::ApiError(error) => {
            let status = error.status_code;
            let said = brief(&error.api_error.message);
            match status.as_u16() {
                401 | 403 => StepError::Failed(format!(
                    "{at} refused the API key ({status}); check `llm.{name}.api_key_env` or `api_key_file`"
                )),
                400 | 404 | 405 | 413 | 415 | 422 => {
                    StepError::Invalid(format!("{at} refused the request ({status}): {said}"))
                }
                408 | 504 => StepError::Timeout(format!("{at} took too long ({status}): {said}")),
                429 => StepError::Unavailable(format!(
                    "{at} takes no more requests now ({status}): {said}"
                )),
                500.. => StepError::Unavailable(format!("{at} failed ({status}): {said}")),
                _ => StepError::Failed(format!("{at} answered {status}: {said}")),
            }
        }
        OpenAIError::JSONDeserialize(error, content) => StepError::Failed(format!(
            "{at} sent a malformed answer ({error}): {}",
            brief(&content)
        )),
        OpenAIError::StreamError(error) => StepError::Unavailable(format!(
            "{at} broke its answer off: {}",
            brief(&error.to_string())
        )),
        error => StepError::Failed(format!("{at}: {}", brief(&error.to_string()))),
    };
    without_key(step, provider)
}

/// Servers repeat what they were sent, keys included.
fn without_key(mut step: StepError, provider: &LlmProvider) -> StepError {
    let (StepError::Denied(text)
    | StepError::Invalid(text)
    | StepError::Unavailable(text)
    | StepError::Timeout(text)
    | StepError::TooLarge(text)
    | StepError::UnknownOutcome(text)
    | StepError::Failed(text)) = &mut step;
    if let Some(key) = &provider.api_key
        && !key.0.is_empty()
    {
        *text = text.replace(&key.0, "[API key]");
    }
    step
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

/// An error with its causes, which is where most say what happened.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn brief(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(REPEATED_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if text.is_empty() => "(it does not say why)".to_owned(),
        None => text.to_owned(),
    }
}
