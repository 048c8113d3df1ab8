//! Step: chat completions of a language model.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

pub use crate::bindings::abide::session::llm::{
    ChatMessage, ChatRequest, ChatRole, Completion, FinishReason, ToolCall, ToolDefinition, Usage,
};
use crate::tools::Tool;
use crate::{StepError, host};

/// Sends a request to the model and returns its complete answer. The session's subscribers see the
/// text as it arrives. Repeatable: after an interruption the call may be made (and paid for) again.
///
/// # Errors
/// See [`StepError`].
pub fn chat(request: &ChatRequest) -> Result<Completion, StepError> {
    host::llm::chat(request)
}

impl ChatRequest {
    /// Creates a request with these messages, for the default model of the first granted provider.
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        Self {
            provider: None,
            model: None,
            messages,
            tools: Vec::new(),
            max_tokens: None,
            temperature: None,
        }
    }
}

impl ChatMessage {
    /// Creates a message of `role`, without tools.
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// Creates a message of the role `System`: an instruction.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(ChatRole::System, content)
    }

    /// Creates a message of the role `User`.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(ChatRole::User, content)
    }

    /// Creates the result of the tool call with this id. The results of all calls of an assistant
    /// message must directly follow it.
    pub fn tool(call_id: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            tool_call_id: Some(call_id.into()),
            ..Self::new(ChatRole::Tool, content)
        }
    }
}

impl ToolCall {
    /// Creates a call of the tool `name`, as a model requests it.
    ///
    /// # Errors
    /// If `arguments` cannot be written as JSON.
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: &impl Serialize,
    ) -> serde_json::Result<Self> {
        Ok(Self {
            id: id.into(),
            name: name.into(),
            arguments: serde_json::to_string(arguments)?,
        })
    }
}

impl From<Tool> for ToolDefinition {
    fn from(tool: Tool) -> Self {
        Self {
            name: tool.name,
            description: tool.description,
            parameters: tool.parameters,
        }
    }
}

impl From<Completion> for ChatMessage {
    fn from(completion: Completion) -> Self {
        Self {
            tool_calls: completion.tool_calls,
            ..Self::new(ChatRole::Assistant, completion.content)
        }
    }
}

impl Display for ChatRole {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        })
    }
}
