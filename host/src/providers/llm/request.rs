//! The guest's request as the server reads it.

use serde::Serialize;
use serde_json::Value;

use crate::domain::{ChatMessage, ChatRequest, ChatRole, ModelToolCall, StepError, ToolDefinition};

#[derive(Serialize)]
pub(super) struct Body {
    model: String,
    messages: Vec<Line>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool>,
    // Servers other than OpenAI's own know this name, and few the newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Line {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Serialize)]
struct Call {
    id: String,
    r#type: &'static str,
    function: CalledFunction,
}

#[derive(Serialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

#[derive(Serialize)]
struct Tool {
    r#type: &'static str,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: String,
    description: String,
    parameters: Value,
}

/// The request's body.
/// The request to `model`.
pub(super) fn body(request: &ChatRequest, model: &str) -> Result<Body, StepError> {
    if request.messages.is_empty() {
        let reason = "a chat needs at least one message";
        return Err(StepError::Invalid(reason.to_owned()));
    }
    if let Some(t) = request.temperature
        && !(0.0..=2.0).contains(&t)
    {
        let reason = format!("a temperature of {t} is outside of 0 to 2");
        return Err(StepError::Invalid(reason));
    }
    Ok(Body {
        model: model.to_owned(),
        messages: request.messages.iter().map(line).collect(),
        tools: request.tools.iter().map(tool).collect::<Result<_, _>>()?,
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        stream: true,
        stream_options: StreamOptions {
            include_usage: true,
        },
    })
}

fn line(message: &ChatMessage) -> Line {
    Line {
        role: match message.role {
            ChatRole::System => "system",
            ChatRole::User => "user",
            ChatRole::Assistant => "assistant",
            ChatRole::Tool => "tool",
        },
        content: message.content.clone(),
        tool_calls: message.tool_calls.iter().map(call).collect(),
        tool_call_id: message.tool_call_id.clone(),
    }
}

fn call(call: &ModelToolCall) -> Call {
    Call {
        id: call.id.clone(),
        r#type: "function",
        function: CalledFunction {
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        },
    }
}

fn tool(tool: &ToolDefinition) -> Result<Tool, StepError> {
    let parameters = serde_json::from_str(&tool.parameters).map_err(|error| {
        let name = &tool.name;
        StepError::Invalid(format!(
            "the parameters of tool `{name}` are not JSON ({error})"
        ))
    })?;
    Ok(Tool {
        r#type: "function",
        function: Function {
            name: tool.name.clone(),
            description: tool.description.clone(),
            parameters,
        },
    })
}
