//! OpenAI's types, as far as they matter here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::ModelUsage;

/// A request for a completion. What is not listed is accepted and ignored (`temperature`,
/// `max_tokens`: the plugin's own settings hold), unless the answer's meaning hangs on it.
#[derive(Deserialize, ToSchema)]
pub(in crate::api) struct CompletionRequest {
    /// The plugin.
    pub(super) model: String,
    /// The conversation; the session knows it, all but the last one.
    pub(super) messages: Vec<InputMessage>,
    /// The session, where the header `X-Abide-Session` does not name it.
    #[serde(default)]
    pub(super) user: Option<String>,
    /// Whether to answer by server-sent events.
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
    /// Whether a last chunk without choices says what the turn cost.
    #[serde(default)]
    pub(super) include_usage: bool,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct InputMessage {
    pub(super) role: String,
    /// Left out by what an assistant says by tool calls alone.
    #[serde(default)]
    pub(super) content: Option<Content>,
}

/// A text, or parts of one.
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
    /// The plugin.
    pub(super) model: String,
    pub(super) choices: Vec<Choice>,
    /// What the turn's model calls cost, all of them; zeros where no model was asked, or its
    /// provider does not say.
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
    /// At the end `stop`, or `length` where the plugin says (by an event `truncated`) that its
    /// answer was cut at the model's token limit.
    pub(super) finish_reason: Option<&'static str>,
}

/// What the assistant says.
#[derive(Clone, Default, Serialize, ToSchema)]
pub(super) struct AssistantMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
}
