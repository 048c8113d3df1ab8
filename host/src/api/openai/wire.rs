//! The part of OpenAI's types that this API uses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::ModelUsage;

/// A request for a completion. Fields that are not listed are accepted and ignored (`temperature`,
/// `max_tokens`: the plugin's own settings apply), unless they would change the answer's meaning.
#[derive(Deserialize, ToSchema)]
pub(in crate::api) struct CompletionRequest {
    /// The name of the plugin.
    pub(super) model: String,
    /// The conversation; the session already has all but the last message.
    pub(super) messages: Vec<InputMessage>,
    /// The session, unless the header `X-Abide-Session` names it.
    #[serde(default)]
    pub(super) user: Option<String>,
    /// Whether to answer with server-sent events.
    #[serde(default)]
    pub(super) stream: Option<bool>,
    #[serde(default)]
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub(super) rest: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    /// Whether a last chunk without choices reports what the turn cost.
    #[serde(default)]
    pub(super) include_usage: bool,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct InputMessage {
    pub(super) role: String,
    /// Absent in an assistant's message that consists only of tool calls.
    #[serde(default)]
    pub(super) content: Option<Content>,
}

/// A text, or a list of parts.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Deserialize, ToSchema)]
pub(super) struct ContentPart {
    /// `text`; others are refused by name.
    pub(super) r#type: String,
    #[serde(default)]
    pub(super) text: Option<String>,
}

/// An answer, or a piece of one.
#[derive(Clone, Serialize, ToSchema)]
pub(in crate::api) struct CompletionObject {
    /// `chatcmpl-` and the message's id in its session.
    pub(super) id: String,
    /// `chat.completion`, or `chat.completion.chunk` in a stream.
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The name of the plugin.
    pub(super) model: String,
    pub(super) choices: Vec<Choice>,
    /// The cost of all model calls of the turn; zeros if no model was called, or if its provider
    /// does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<TokenUsage>,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
pub(super) struct TokenUsage {
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) total_tokens: u64,
}

impl From<ModelUsage> for TokenUsage {
    fn from(usage: ModelUsage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
        }
    }
}

#[derive(Clone, Serialize, ToSchema)]
pub(super) struct Choice {
    pub(super) index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<AssistantMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delta: Option<AssistantMessage>,
    /// At the end `stop`, or `length` if the plugin reports (by an event `truncated`) that its
    /// answer was cut at the model's token limit.
    pub(super) finish_reason: Option<&'static str>,
}

/// The assistant's message, or a piece of it.
#[derive(Clone, Default, Serialize, ToSchema)]
pub(super) struct AssistantMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
}
