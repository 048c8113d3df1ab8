//! Steps: what a turn asks of the world outside its session, and what it is told.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Message, Notice};

/// The longest text of a [`Call`], in bytes.
const CALL_TEXT_BYTES: usize = 512;
/// The longest [`Call::line`], in bytes.
const CALL_LINE_BYTES: usize = 120;

/// One step as the guest asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepRequest {
    /// A chat completion.
    Llm(ChatRequest),
    /// The tools that may be called.
    ToolsList,
    /// One tool call.
    ToolCall(ToolCall),
    /// Several tool calls at once.
    ToolCallAll(Vec<ToolCall>),
    /// An outgoing HTTP request.
    Http(HttpRequest),
    /// The messages that came since the turn began.
    Receive,
}

impl StepRequest {
    /// Its kind's name in events, logs and messages.
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

/// Cuts a text that is over so many bytes, between two characters, and marks the cut.
pub(super) fn shorten(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push('…');
    }
}

/// A text on one line and of at most so many bytes; a cut is marked.
pub(super) fn one_line(text: &str, max_bytes: usize) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() > max_bytes {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // A word may be a whole file; one byte too many is enough to mark the cut.
        line.push_str(&word[..word.ceil_char_boundary(max_bytes + 1)]);
    }
    shorten(&mut line, max_bytes);
    line
}

/// A step as a journal names it: enough to tell it from another, and to show it to a human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCallName {
    /// Its kind, like `tools.call`.
    pub kind: String,
    /// Of all that the guest gave.
    pub digest: Digest,
    /// What the guest gave, shortened.
    pub text: String,
}

impl StepCallName {
    /// The name of a request, as the guest made it: whatever the host fills in is not part of it.
    pub fn of(request: &StepRequest) -> Self {
        // A derived encoding without maps: the same request gives the same bytes. Into memory it
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

    /// Each of several calls at once, shortened; of any other request nothing, for its text says
    /// it.
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

    /// All on one line, and short.
    pub fn line(&self) -> String {
        one_line(&self.to_string(), CALL_LINE_BYTES)
    }

    /// One of its effects, as `kind name`.
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

/// What a part of a step does outside of its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Nothing: the host answers it itself, or refuses it.
    Local,
    /// It asks a model, which may be asked again.
    Model {
        /// The provider.
        provider: String,
    },
    /// It calls a tool.
    Tool {
        /// The tool's name.
        name: String,
        /// Whether calling it twice does what calling it once does.
        repeatable: bool,
        /// Whether it changes nothing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
    /// It sends an HTTP request.
    Http {
        /// Its method and where it goes, like `GET api.example`.
        name: String,
        /// Whether its method is one that may be sent twice.
        repeatable: bool,
    },
}

impl Effect {
    /// Whether it may be caused again when nobody knows whether it was.
    pub fn repeatable(&self) -> bool {
        match self {
            Self::Local | Self::Model { .. } => true,
            Self::Tool { repeatable, .. } | Self::Http { repeatable, .. } => *repeatable,
        }
    }

    /// Whom it reaches; empty for nobody.
    pub fn name(&self) -> &str {
        match self {
            Self::Local => "",
            Self::Model { provider } => provider,
            Self::Tool { name, .. } | Self::Http { name, .. } => name,
        }
    }
}

/// What a step gave, in the order of [`StepRequest`]'s kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepResult {
    /// The model's whole answer.
    Llm(Completion),
    /// The tools.
    ToolsList(Vec<Tool>),
    /// The tool's answer.
    ToolCall(ToolOutcome),
    /// The tools' answers, in the order of the calls.
    ToolCallAll(Vec<Result<ToolOutcome, StepError>>),
    /// The response.
    Http(HttpResponse),
    /// The messages.
    Receive(FromInbox),
}

impl StepResult {
    /// About what it weighs, in bytes.
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

/// What `inbox.receive` gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FromInbox {
    /// The recovery message, in front of the others.
    pub notice: Option<Notice>,
    /// Messages from the inbox.
    pub messages: Vec<Message>,
}

/// Why a step has no result. The text is for humans and models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StepError {
    /// The operator has not granted it.
    #[error("denied: {0}")]
    Denied(String),
    /// The arguments make no sense.
    #[error("invalid: {0}")]
    Invalid(String),
    /// What it needs cannot be reached.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It took too long.
    #[error("timeout: {0}")]
    Timeout(String),
    /// The request or the result is over a limit.
    #[error("too large: {0}")]
    TooLarge(String),
    /// It was begun, and nobody knows whether it happened.
    #[error("unknown outcome: {0}")]
    UnknownOutcome(String),
    /// The other side answered with an error.
    #[error("failed: {0}")]
    Failed(String),
}

impl StepError {
    /// Its kind's name in metrics.
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

    /// Its text, to be changed.
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

/// Who says a line of a chat with a model.
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
    /// The tool.
    pub name: String,
    /// A JSON object as the model wrote it; it may be malformed.
    pub arguments: String,
}

/// One line of a chat with a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who.
    pub role: ChatRole,
    /// What.
    pub content: String,
    /// On assistant lines that asked for tools.
    pub tool_calls: Vec<ModelToolCall>,
    /// On tool lines: the call that they answer.
    pub tool_call_id: Option<String>,
}

/// A tool that the model may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub parameters: String,
}

/// A chat completion to ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// `[llm.NAME]`; none for the first that is granted. The engine fills it in.
    pub provider: Option<String>,
    /// The model; none for the provider's default.
    pub model: Option<String>,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Tools that the model may ask for.
    pub tools: Vec<ToolDefinition>,
    /// The longest answer, in tokens.
    pub max_tokens: Option<u32>,
    /// 0 to 2.
    pub temperature: Option<f32>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// Cut at the token limit.
    Length,
    /// It waits for tool results.
    ToolCalls,
    /// Withheld by the provider.
    ContentFilter,
    /// Anything else.
    Other,
}

/// What an answer cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

/// A model's whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Its text.
    pub content: String,
    /// The tools that it asks for.
    pub tool_calls: Vec<ModelToolCall>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// Where the provider says.
    pub usage: Option<Usage>,
    /// The model that answered.
    pub model: String,
}

/// A tool as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub parameters: String,
    /// It changes nothing.
    pub read_only: bool,
    /// Calling it twice does what calling it once does.
    pub idempotent: bool,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// A JSON object.
    pub arguments: String,
}

/// A piece of a tool's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolContent {
    /// Text.
    Text(String),
    /// One JSON value.
    Json(String),
    /// Bytes of a named type.
    Blob {
        /// Their MIME type.
        mime_type: String,
        /// The bytes.
        data: Vec<u8>,
    },
}

/// A tool's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolOutcome {
    /// Its pieces.
    pub content: Vec<ToolContent>,
    /// The tool ran and says that it failed.
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
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}
