//! Step: chat completions of a language model.

use std::fmt::{self, Display, Formatter};

pub use crate::bindings::abide::session::llm::{
    ChatMessage, ChatRequest, ChatRole, Completion, FinishReason, ToolCall, ToolDefinition, Usage,
};
use crate::{StepError, host};

/// Asks the model and returns its whole answer. The session's subscribers see the text as it
/// arrives. Repeatable: after an interruption the call may be made (and paid for) again.
///
/// # Errors
/// See [`StepError`].
pub fn chat(request: &ChatRequest) -> Result<Completion, StepError> {
    host::llm::chat(request)
}

impl ChatRequest {
    /// These messages, to the default model of the first provider that is granted.
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
    /// What `role` says, without tools.
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// An instruction.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(ChatRole::System, content)
    }

    /// What a user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(ChatRole::User, content)
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
