//! The part of OpenAI's types that this API uses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::documents::FromObject;
use crate::domain::{ModelUsage, SessionId};

/// A request for a completion. Fields that are not listed are accepted and ignored (`temperature`,
/// `max_tokens`: the plugin's own settings apply), unless they would change the answer's meaning.
#[derive(ToSchema)]
pub(in crate::api) struct CompletionRequest {
    /// The name of the plugin.
    pub(super) model: String,
    /// The conversation; the session already has all but the last message.
    #[schema(value_type = Vec<InputMessage>, min_items = 1)]
    pub(super) messages: LastMessage,
    /// The session, unless the header `X-Abide-Session` names it.
    #[schema(value_type = Option<SessionId>)]
    pub(super) user: Option<String>,
    /// Whether to answer with server-sent events.
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    /// The fields that would change the answer's meaning; others are not kept.
    #[schema(ignore)]
    pub(super) rest: BTreeMap<&'static str, Value>,
}

/// The fields that would change the answer's meaning, unless their value asks for what there is anyway.
const MEANINGFUL: [&str; 7] = [
    "n",
    "tools",
    "functions",
    "response_format",
    "audio",
    "modalities",
    "logprobs",
];

impl<'de> Deserialize<'de> for CompletionRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RequestVisitor)
    }
}

/// Reads a request. What is ignored takes no memory, however large it is.
struct RequestVisitor;

impl<'de> Visitor<'de> for RequestVisitor {
    type Value = CompletionRequest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request for a completion")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CompletionRequest, A::Error> {
        let (mut model, mut messages) = (None, None);
        let (mut user, mut stream, mut stream_options) = (None, None, None);
        let mut rest = BTreeMap::new();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match &*key {
                "model" => model = Some(map.next_value()?),
                "messages" => messages = Some(map.next_value()?),
                "user" => user = map.next_value()?,
                "stream" => stream = map.next_value()?,
                "stream_options" => {
                    let given: Option<FromObject<StreamOptions>> = map.next_value()?;
                    stream_options = given.map(|FromObject(options)| options);
                }
                other => match MEANINGFUL.into_iter().find(|name| *name == other) {
                    Some(name) => drop(rest.insert(name, map.next_value()?)),
                    None => drop(map.next_value::<IgnoredAny>()?),
                },
            }
        }
        Ok(CompletionRequest {
            model: model.ok_or_else(|| Error::missing_field("model"))?,
            messages: messages.ok_or_else(|| Error::missing_field("messages"))?,
            user,
            stream,
            stream_options,
            rest,
        })
    }
}

/// The last message of a conversation, if it has any. Each is read, and the ones before are not kept.
pub(super) struct LastMessage(pub(super) Option<InputMessage>);

impl<'de> Deserialize<'de> for LastMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(LastVisitor)
    }
}

struct LastVisitor;

impl<'de> Visitor<'de> for LastVisitor {
    type Value = LastMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LastMessage, A::Error> {
        let mut last = None;
        while let Some(FromObject(message)) = list.next_element()? {
            last = Some(message);
        }
        Ok(LastMessage(last))
    }
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
    #[schema(value_type = Vec<ContentPart>)]
    Parts(Vec<FromObject<ContentPart>>),
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
