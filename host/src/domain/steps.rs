//! Steps: the calls by which a turn reaches outside its session, and their results.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::shorten::{one_line, shorten};
use super::{Digest, Message, Notice};

/// The longest text of a [`StepCallName`], in bytes.
const CALL_TEXT_BYTES: usize = 512;
/// The longest [`StepCallName::line`], in bytes.
const CALL_LINE_BYTES: usize = 120;

/// One step, as the guest asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepRequest {
    /// A chat completion.
    Llm(ChatRequest),
    /// A list of the tools that may be called.
    ToolsList,
    /// One tool call.
    ToolCall(ToolCall),
    /// Several tool calls at once.
    ToolCallAll(Vec<ToolCall>),
    /// An outgoing HTTP request.
    Http(HttpRequest),
    /// The messages that arrived since the turn began.
    Receive,
}

impl StepRequest {
    /// The name of the kind in events, logs and messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Llm(_) => "llm",
            Self::ToolsList => "tools.list",
            Self::ToolCall(_) => "tools.call",
            Self::ToolCallAll(_) => "tools.call-all",
            Self::Http(_) => "http",
            Self::Receive => "inbox.receive",
        }
    }
}

/// The identity of a step in a journal: enough to distinguish it from another, and to show it to a
/// human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCallName {
    /// Its kind, like `tools.call`.
    pub kind: String,
    /// The digest of all that the guest passed.
    pub digest: Digest,
    /// What the guest passed, shortened.
    pub text: String,
}

impl StepCallName {
    /// Returns the name of a request as the guest made it, without anything that the host fills in.
    pub fn of(request: &StepRequest) -> Self {
        // The derived encoding has no maps, so equal requests give equal bytes. Writing to memory
        // cannot fail.
        let bytes = rmp_serde::to_vec(request).unwrap_or_default();
        let mut text = match request {
            StepRequest::Llm(request) => match request.messages.last() {
                Some(last) => format!(
                    "{} messages, the last: {}",
                    request.messages.len(),
                    last.content
                ),
                None => "no messages".to_owned(),
            },
            StepRequest::ToolsList | StepRequest::Receive => String::new(),
            StepRequest::ToolCall(call) => format!("{} {}", call.name, call.arguments),
            StepRequest::ToolCallAll(calls) => {
                let calls: Vec<_> = calls
                    .iter()
                    .map(|call| format!("{} {}", call.name, call.arguments))
                    .collect();
                calls.join("; ")
            }
            StepRequest::Http(request) => format!("{} {}", request.method, request.url),
        };
        shorten(&mut text, CALL_TEXT_BYTES);
        Self {
            kind: request.kind().to_owned(),
            digest: Digest::of(&bytes),
            text,
        }
    }

    /// Returns each of several calls at once, shortened; nothing for any other request, as its text
    /// contains the call.
    pub fn parts(request: &StepRequest) -> Vec<String> {
        let StepRequest::ToolCallAll(calls) = request else {
            return Vec::new();
        };
        let parts = calls.iter().map(|call| {
            let mut text = format!("{} {}", call.name, call.arguments);
            shorten(&mut text, CALL_TEXT_BYTES);
            text
        });
        parts.collect()
    }

    /// Returns kind and text on one line, shortened.
    pub fn line(&self) -> String {
        one_line(&self.to_string(), CALL_LINE_BYTES)
    }

    /// Returns one of its effects, as `kind name`.
    pub fn what(&self, effect: &Effect) -> String {
        match effect.name() {
            "" => self.kind.clone(),
            name => format!("{} {name}", self.kind),
        }
    }
}

impl fmt::Display for StepCallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => f.write_str(&self.kind),
            text => write!(f, "{} {text}", self.kind),
        }
    }
}

/// The effect of a part of a step outside of its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// None: the host answers the call itself, or refuses it.
    Local,
    /// It asks a model; this may be repeated.
    Model { provider: String },
    /// It calls a tool.
    Tool {
        name: String,
        /// Whether calling it twice has the same effect as calling it once.
        repeatable: bool,
        /// Whether the call changes nothing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
    /// It sends an HTTP request.
    Http {
        /// Its method and destination, such as `GET api.example`.
        name: String,
        /// Whether a request of this method may be sent twice.
        repeatable: bool,
    },
}

impl Effect {
    /// Whether the effect may be executed again when its outcome is unknown.
    pub fn repeatable(&self) -> bool {
        match self {
            Self::Local | Self::Model { .. } => true,
            Self::Tool { repeatable, .. } | Self::Http { repeatable, .. } => *repeatable,
        }
    }

    /// Whether the effect may change something outside of the session.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Local | Self::Model { .. } => false,
            Self::Tool { read_only, .. } => !read_only,
            Self::Http { name, .. } => {
                let method = name.split(' ').next().unwrap_or_default();
                !["GET", "HEAD", "OPTIONS"].contains(&method)
            }
        }
    }

    /// The name of what the effect reaches; empty if it reaches nothing outside.
    pub fn name(&self) -> &str {
        match self {
            Self::Local => "",
            Self::Model { provider } => provider,
            Self::Tool { name, .. } | Self::Http { name, .. } => name,
        }
    }
}

/// The result of a step, in the order of [`StepRequest`]'s kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepResult {
    /// The model's complete answer.
    Llm(Completion),
    ToolsList(Vec<Tool>),
    ToolCall(ToolOutcome),
    /// The tools' answers, in the order of the calls.
    ToolCallAll(Vec<Result<ToolOutcome, StepError>>),
    Http(HttpResponse),
    Receive(FromInbox),
}

impl StepResult {
    /// Returns the approximate size of the result, in bytes.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Llm(completion) => {
                let calls = completion.tool_calls.iter();
                let calls: usize = calls
                    .map(|c| c.id.len() + c.name.len() + c.arguments.len())
                    .sum();
                completion.content.len() + calls
            }
            Self::ToolsList(tools) => tools
                .iter()
                .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.len())
                .sum(),
            Self::ToolCall(outcome) => outcome.bytes(),
            Self::ToolCallAll(outcomes) => outcomes.iter().flatten().map(ToolOutcome::bytes).sum(),
            Self::Http(response) => response.body.len(),
            Self::Receive(received) => received.messages.iter().map(|m| m.text.len()).sum(),
        };
        bytes as u64
    }
}

/// The result of `inbox.receive`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FromInbox {
    /// The notice that precedes the messages, if any.
    pub notice: Option<Notice>,
    pub messages: Vec<Message>,
}

/// Why a step has no result. The text is for humans and models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StepError {
    /// The operator has not granted it.
    #[error("denied: {0}")]
    Denied(String),
    /// The arguments are invalid.
    #[error("invalid: {0}")]
    Invalid(String),
    /// What it needs cannot be reached.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It exceeded its time limit.
    #[error("timeout: {0}")]
    Timeout(String),
    /// The request or the result is over a limit.
    #[error("too large: {0}")]
    TooLarge(String),
    /// It began, and it is unknown whether it took effect.
    #[error("unknown outcome: {0}")]
    UnknownOutcome(String),
    /// The other side answered with an error.
    #[error("failed: {0}")]
    Failed(String),
}

impl StepError {
    /// The name of the kind in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Invalid(_) => "invalid",
            Self::Unavailable(_) => "unavailable",
            Self::Timeout(_) => "timeout",
            Self::TooLarge(_) => "too_large",
            Self::UnknownOutcome(_) => "unknown_outcome",
            Self::Failed(_) => "failed",
        }
    }

    pub fn text_mut(&mut self) -> &mut String {
        match self {
            Self::Denied(text)
            | Self::Invalid(text)
            | Self::Unavailable(text)
            | Self::Timeout(text)
            | Self::TooLarge(text)
            | Self::UnknownOutcome(text)
            | Self::Failed(text) => text,
        }
    }
}

/// The role of a message in a chat with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChatRole {
    /// Instructions.
    System,
    /// The human.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// A tool call that a model asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelToolCall {
    /// The model's id for it.
    pub id: String,
    pub name: String,
    /// A JSON object as the model wrote it; it may be malformed.
    pub arguments: String,
}

/// One message of a chat with a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: ChatRole,
    pub content: String,
    /// The tool calls of an assistant message.
    pub tool_calls: Vec<ModelToolCall>,
    /// The id of the call that a tool message answers.
    pub tool_call_id: Option<String>,
}

/// A tool that the model may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolDefinition {
    pub name: String,
    pub description: String,
    /// The JSON Schema of its arguments.
    pub parameters: String,
}

/// A chat completion request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The provider, as in `[llm.NAME]`; none for the first one that is granted. The engine fills
    /// it in.
    pub provider: Option<String>,
    /// The model; none for the provider's default.
    pub model: Option<String>,
    pub messages: Vec<ChatMessage>,
    /// The tools that the model may ask for.
    pub tools: Vec<ToolDefinition>,
    /// The maximum length of the answer, in tokens.
    pub max_tokens: Option<u32>,
    /// From 0 to 2.
    pub temperature: Option<f32>,
}

/// Why a model ended its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The answer is complete.
    Stop,
    /// It was cut at the token limit.
    Length,
    /// The model waits for tool results.
    ToolCalls,
    /// The provider withheld it.
    ContentFilter,
    /// Anything else.
    Other,
}

/// What an answer cost, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// A model's complete answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    pub content: String,
    /// The tool calls that it asks for.
    pub tool_calls: Vec<ModelToolCall>,
    pub finish: FinishReason,
    /// Its cost, if the provider reports it.
    pub usage: Option<Usage>,
    /// The model that answered.
    pub model: String,
}

/// A tool as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub description: String,
    /// The JSON Schema of its arguments.
    pub parameters: String,
    /// Whether a call changes nothing.
    pub read_only: bool,
    /// Whether calling it twice has the same effect as calling it once.
    pub idempotent: bool,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    pub name: String,
    /// The arguments, as a JSON object.
    pub arguments: String,
}

/// A piece of a tool's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolContent {
    /// Text.
    Text(String),
    /// One JSON value.
    Json(String),
    /// Bytes of a MIME type.
    Blob { mime_type: String, data: Vec<u8> },
}

/// A tool's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolOutcome {
    pub content: Vec<ToolContent>,
    /// The tool ran and reported a failure.
    pub is_error: bool,
}

impl ToolOutcome {
    fn bytes(&self) -> usize {
        let pieces = self.content.iter().map(|piece| match piece {
            ToolContent::Text(text) | ToolContent::Json(text) => text.len(),
            ToolContent::Blob { mime_type, data } => mime_type.len() + data.len(),
        });
        pieces.sum()
    }
}

/// An outgoing HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    pub method: String,
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}
