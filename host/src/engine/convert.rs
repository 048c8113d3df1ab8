//! Conversions between the contract's generated types and the domain's types, which outlive them.

use super::bindings::abide::session::{http, inbox, llm, log, tools, types};
use super::log::LogLevel;
use crate::domain::{
    Cause, ChatMessage, ChatRequest, ChatRole, Completion, FinishReason, FromInbox, HttpRequest,
    HttpResponse, Interruption, Message, ModelToolCall, Notice, Role, StepError, Tool, ToolCall,
    ToolContent, ToolDefinition, ToolOutcome, UnixMillis, Usage,
};

impl From<Message> for types::Message {
    fn from(message: Message) -> Self {
        Self {
            id: message.id.as_str().to_owned(),
            role: message.from.into(),
            name: message.name,
            text: message.text,
            at_ms: message.at.0,
            due_at_ms: message.due.map(|due| due.0),
            recovery: None,
        }
    }
}

/// Converts a notice into the message that the guest receives at `now`: the recovery message, or,
/// if it is about stopped turns alone, a message of the same role without a recovery.
pub(super) fn notice_message(notice: &Notice, now: UnixMillis) -> types::Message {
    types::Message {
        id: notice.id(),
        role: types::Role::System,
        name: None,
        text: notice.text(),
        at_ms: now.0,
        due_at_ms: None,
        recovery: notice.recovery_cause().map(|cause| types::Recovery {
            cause: match cause {
                Cause::Config => types::Cause::Config,
                Cause::Upgrade => types::Cause::Upgrade,
                Cause::Crash => types::Cause::Crash,
                Cause::Operator => types::Cause::Operator,
            },
            generation: notice.generation.0,
            interruption: match notice.interruption {
                // The interrupted turn is over, and nothing of it was committed.
                Interruption::None | Interruption::Failed => None,
                Interruption::Rerun => Some(types::Interruption::Rerun),
                Interruption::Resumed | Interruption::Completed => {
                    Some(types::Interruption::Resumed)
                }
            },
            unknown_steps: notice.unknown_steps.clone(),
        }),
    }
}

impl From<Role> for types::Role {
    fn from(role: Role) -> Self {
        match role {
            // The assistant's role is for outputs and never occurs in an inbox.
            Role::User | Role::Assistant => Self::User,
            Role::System => Self::System,
            Role::Timer => Self::Timer,
            Role::Webhook => Self::Webhook,
            Role::Approval => Self::Approval,
        }
    }
}

impl From<StepError> for types::StepError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Denied(text) => Self::Denied(text),
            StepError::Invalid(text) => Self::Invalid(text),
            StepError::Unavailable(text) => Self::Unavailable(text),
            StepError::Timeout(text) => Self::Timeout(text),
            StepError::TooLarge(text) => Self::TooLarge(text),
            StepError::UnknownOutcome(text) => Self::UnknownOutcome(text),
            StepError::Failed(text) => Self::Failed(text),
        }
    }
}

impl From<llm::ChatRequest> for ChatRequest {
    fn from(request: llm::ChatRequest) -> Self {
        Self {
            provider: request.provider,
            model: request.model,
            messages: request.messages.into_iter().map(Into::into).collect(),
            tools: request.tools.into_iter().map(Into::into).collect(),
            max_tokens: request.max_tokens,
            temperature: request.temperature,
        }
    }
}

impl From<llm::ChatMessage> for ChatMessage {
    fn from(message: llm::ChatMessage) -> Self {
        Self {
            role: match message.role {
                llm::ChatRole::System => ChatRole::System,
                llm::ChatRole::User => ChatRole::User,
                llm::ChatRole::Assistant => ChatRole::Assistant,
                llm::ChatRole::Tool => ChatRole::Tool,
            },
            content: message.content,
            tool_calls: message.tool_calls.into_iter().map(Into::into).collect(),
            tool_call_id: message.tool_call_id,
        }
    }
}

impl From<llm::ToolCall> for ModelToolCall {
    fn from(call: llm::ToolCall) -> Self {
        Self {
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        }
    }
}

impl From<ModelToolCall> for llm::ToolCall {
    fn from(call: ModelToolCall) -> Self {
        Self {
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        }
    }
}

impl From<llm::ToolDefinition> for ToolDefinition {
    fn from(tool: llm::ToolDefinition) -> Self {
        Self {
            name: tool.name,
            description: tool.description,
            parameters: tool.parameters,
        }
    }
}

impl From<Completion> for llm::Completion {
    fn from(completion: Completion) -> Self {
        Self {
            content: completion.content,
            tool_calls: completion.tool_calls.into_iter().map(Into::into).collect(),
            finish: match completion.finish {
                FinishReason::Stop => llm::FinishReason::Stop,
                FinishReason::Length => llm::FinishReason::Length,
                FinishReason::ToolCalls => llm::FinishReason::ToolCalls,
                FinishReason::ContentFilter => llm::FinishReason::ContentFilter,
                FinishReason::Other => llm::FinishReason::Other,
            },
            usage: completion.usage.map(|usage| {
                let Usage {
                    input_tokens,
                    output_tokens,
                } = usage;
                llm::Usage {
                    input_tokens,
                    output_tokens,
                }
            }),
            model: completion.model,
        }
    }
}

impl From<Tool> for tools::Tool {
    fn from(tool: Tool) -> Self {
        Self {
            name: tool.name,
            description: tool.description,
            parameters: tool.parameters,
            read_only: tool.read_only,
            idempotent: tool.idempotent,
        }
    }
}

impl From<tools::Invocation> for ToolCall {
    fn from(invocation: tools::Invocation) -> Self {
        Self {
            name: invocation.name,
            arguments: invocation.arguments,
        }
    }
}

impl From<ToolOutcome> for tools::Outcome {
    fn from(outcome: ToolOutcome) -> Self {
        Self {
            content: outcome.content.into_iter().map(Into::into).collect(),
            is_error: outcome.is_error,
        }
    }
}

impl From<ToolContent> for tools::Content {
    fn from(content: ToolContent) -> Self {
        match content {
            ToolContent::Text(text) => Self::Text(text),
            ToolContent::Json(json) => Self::Json(json),
            ToolContent::Blob { mime_type, data } => Self::Blob(tools::Blob { mime_type, data }),
        }
    }
}

impl From<http::Request> for HttpRequest {
    fn from(request: http::Request) -> Self {
        Self {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body,
        }
    }
}

impl From<HttpResponse> for http::Response {
    fn from(response: HttpResponse) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            body: response.body,
        }
    }
}

/// Builds the result of `inbox.receive` at `now`.
pub(super) fn received(received: FromInbox, now: UnixMillis) -> Vec<inbox::Message> {
    let notice = received.notice.as_ref();
    let notice = notice.map(|notice| notice_message(notice, now));
    let messages = received.messages.into_iter().map(Into::into);
    notice.into_iter().chain(messages).collect()
}

impl From<log::Level> for LogLevel {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
        }
    }
}
