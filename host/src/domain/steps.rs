//! Steps: what a turn asks of the world outside its session, and what it is told.

use serde::{Deserialize, Serialize};

use super::Message;

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
    Receive(Vec<Message>),
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
