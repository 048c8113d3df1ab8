//! A streamed answer, put together from its chunks. Reads what it needs and ignores the rest, for
//! servers differ in the rest.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::errors;
use crate::domain::{Completion, FinishReason, ModelToolCall, StepError, Usage};

/// What a tool call weighs besides its texts, so that empty ones are bounded too.
const CALL_BYTES: u64 = 64;

/// One server-sent event of the answer.
#[derive(Deserialize)]
pub(super) struct Chunk {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Tokens>,
    /// Some servers find out late.
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Fragment>>,
}

#[derive(Deserialize)]
struct Fragment {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionFragment>,
}

#[derive(Deserialize)]
struct FunctionFragment {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// What has arrived so far.
pub(super) struct Answer {
    content: String,
    calls: BTreeMap<u64, ModelToolCall>,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
    model: Option<String>,
    bytes: u64,
    limit_bytes: u64,
}

impl Answer {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            content: String::new(),
            calls: BTreeMap::new(),
            finish: None,
            usage: None,
            model: None,
            bytes: 0,
            limit_bytes,
        }
    }

    /// Adds a chunk; gives the text that it brought.
    pub(super) fn take(&mut self, chunk: Chunk) -> Result<Option<String>, StepError> {
        if let Some(error) = chunk.error {
            return Err(StepError::Failed(format!(
                "the model provider broke off its answer: {}",
                errors::message(&error)
            )));
        }
        if let Some(model) = chunk.model.filter(|model| !model.is_empty()) {
            self.model = Some(model);
        }
        if let Some(tokens) = chunk.usage {
            self.usage = Some(Usage {
                input_tokens: tokens.prompt_tokens,
                output_tokens: tokens.completion_tokens,
            });
        }
        // Only one choice is asked for.
        let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() else {
            return Ok(None);
        };
        if let Some(reason) = choice.finish_reason {
            self.finish = Some(finish(&reason));
        }
        let Some(delta) = choice.delta else {
            return Ok(None);
        };
        for fragment in delta.tool_calls.unwrap_or_default() {
            self.add_call(fragment)?;
        }
        let text = delta
            .content
            .or(delta.refusal)
            .filter(|text| !text.is_empty());
        if let Some(text) = &text {
            self.grow(text.len() as u64)?;
            self.content.push_str(text);
        }
        Ok(text)
    }

    fn add_call(&mut self, fragment: Fragment) -> Result<(), StepError> {
        let last = self.calls.last_key_value().map(|(index, _)| *index);
        // Without an index, an id begins a new call, and anything else goes on with the last.
        let index = fragment.index.unwrap_or(match (last, &fragment.id) {
            (Some(last), None) => last,
            (last, _) => last.map_or(0, |last| last.saturating_add(1)),
        });
        let function = fragment.function.unwrap_or(FunctionFragment {
            name: None,
            arguments: None,
        });
        let id = fragment.id.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let arguments = function.arguments.unwrap_or_default();
        let known = self.calls.contains_key(&index);
        let texts = id.len() + name.len() + arguments.len();
        self.grow(texts as u64 + if known { 0 } else { CALL_BYTES })?;
        let call = self.calls.entry(index).or_insert_with(|| ModelToolCall {
            id: String::new(),
            name: String::new(),
            arguments: String::new(),
        });
        // Ids and names come whole; some servers repeat them.
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name.is_empty() {
            call.name = name;
        }
        call.arguments.push_str(&arguments);
        Ok(())
    }

    fn grow(&mut self, by: u64) -> Result<(), StepError> {
        self.bytes = self.bytes.saturating_add(by);
        if self.bytes <= self.limit_bytes {
            return Ok(());
        }
        Err(StepError::TooLarge(format!(
            "the model's answer has more than the {} bytes that `limits.event` allows",
            self.limit_bytes
        )))
    }

    /// The whole answer, once the stream has ended. `asked` is the model that was asked for, and
    /// takes `context_tokens`.
    pub(super) fn complete(
        self,
        asked: &str,
        context_tokens: Option<u64>,
    ) -> Result<Completion, StepError> {
        let finish = self.finish.ok_or_else(|| {
            StepError::Failed(
                "the model provider's answer ended before it was complete (no finish reason)"
                    .to_owned(),
            )
        })?;
        let calls = self.calls.into_values().enumerate();
        let tool_calls: Vec<ModelToolCall> = calls
            .map(|(n, mut call)| {
                if call.id.is_empty() {
                    call.id = format!("call_{n}");
                }
                call
            })
            .collect();
        Ok(Completion {
            content: self.content,
            // Some servers say `stop` although they ask for tools.
            finish: match finish {
                FinishReason::Stop if !tool_calls.is_empty() => FinishReason::ToolCalls,
                finish => finish,
            },
            tool_calls,
            usage: self.usage,
            model: self.model.unwrap_or_else(|| asked.to_owned()),
            context_tokens,
        })
    }
}

fn finish(reason: &str) -> FinishReason {
    match reason {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}
