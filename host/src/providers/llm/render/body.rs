//! The body of a request, as one provider accepts it.

use serde_json::{Map, Value, json};

use super::fold;
use super::lines::{AssistantCall, ChatLine, UserPart, lines};
use super::names::ToolNames;
use super::tools::{Bounds, HiddenTool, definitions};
use crate::domain::{ChatRequest, StepError};
use crate::providers::llm::dialect::Dialect;
use crate::providers::llm::provider::LlmProvider;

/// The text beside tool calls, for servers that demand one.
const CALLING: &str = "(I call tools.)";

/// A request as it is sent.
pub(in crate::providers::llm) struct Sent {
    pub(in crate::providers::llm) body: Map<String, Value>,
    /// The names of the tools in it.
    pub(in crate::providers::llm) names: ToolNames,
    /// The tools that were left out of it.
    pub(in crate::providers::llm) left_out: Vec<HiddenTool>,
    /// It contains images.
    pub(in crate::providers::llm) images: bool,
    /// It contains lines of the tool role.
    pub(in crate::providers::llm) tool_lines: bool,
    /// One of its lines contains several calls.
    pub(in crate::providers::llm) parallel_calls: bool,
    /// One of its lines contains text beside calls.
    pub(in crate::providers::llm) text_beside_calls: bool,
}

/// Renders a guest's request for a model of this provider.
///
/// # Errors
/// `Invalid` if there are no messages or the temperature is out of range.
pub(in crate::providers::llm) fn body(
    request: &ChatRequest,
    model: &str,
    provider: &LlmProvider,
    dialect: &Dialect,
) -> Result<Sent, StepError> {
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
    let mut lines = lines(&request.messages, provider.images && !dialect.no_images);
    if dialect.no_tool_lines {
        lines = fold::tools(lines);
    } else if dialect.no_parallel_calls {
        lines = fold::parallel_calls(lines);
    }
    if dialect.no_text_beside_calls {
        fold::text_beside_calls(&mut lines);
    }
    if dialect.no_system {
        fold::system(&mut lines);
    }
    let mut names = ToolNames::default();
    let bounds = Bounds {
        tools: provider
            .tools_max
            .min(dialect.tools_max.unwrap_or(usize::MAX)),
        description: dialect.description_max,
        refused: &dialect.refused_tools,
    };
    let (tools, left_out) = definitions(&request.tools, &lines, &mut names, &bounds);
    let images = lines.iter().any(|line| match line {
        ChatLine::User(parts) => parts.iter().any(|part| matches!(part, UserPart::Image(_))),
        _ => false,
    });
    let tool_lines = lines
        .iter()
        .any(|line| matches!(line, ChatLine::Tool { .. }));
    let parallel_calls = lines.iter().any(|line| match line {
        ChatLine::Assistant { calls, .. } => calls.len() > 1,
        _ => false,
    });
    let text_beside_calls = lines.iter().any(|line| match line {
        ChatLine::Assistant { text, calls } => !text.is_empty() && !calls.is_empty(),
        _ => false,
    });
    let messages = lines.into_iter();
    let messages = messages.map(|line| message(line, &mut names, dialect));
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("messages".to_owned(), messages.collect());
    if !tools.is_empty() {
        body.insert("tools".to_owned(), tools.into());
    }
    let max_tokens = request.max_tokens.filter(|_| !dialect.no_max_tokens);
    if let Some(most) = max_tokens {
        // All servers but OpenAI's own know `max_tokens`; few know the newer name.
        let key = match dialect.completion_tokens {
            true => "max_completion_tokens",
            false => "max_tokens",
        };
        let most = most.min(dialect.max_tokens.unwrap_or(u32::MAX));
        body.insert(key.to_owned(), most.into());
    }
    if let Some(t) = request.temperature.filter(|_| !dialect.no_temperature) {
        body.insert("temperature".to_owned(), json!(t));
    }
    body.insert("stream".to_owned(), (!dialect.no_stream).into());
    if !dialect.no_stream && !dialect.no_stream_options {
        let options = json!({"include_usage": true});
        body.insert("stream_options".to_owned(), options);
    }
    let further = provider.body.iter();
    body.extend(further.map(|(key, value)| (key.clone(), value.clone())));
    Ok(Sent {
        body,
        names,
        left_out,
        images,
        tool_lines,
        parallel_calls,
        text_beside_calls,
    })
}

fn message(line: ChatLine, names: &mut ToolNames, dialect: &Dialect) -> Value {
    match line {
        ChatLine::System(text) => json!({"role": "system", "content": text}),
        ChatLine::User(parts) => json!({"role": "user", "content": content(parts)}),
        ChatLine::Assistant { text, calls } if calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        ChatLine::Assistant { text, calls } => {
            let text = match text {
                text if !text.is_empty() => text.into(),
                _ if dialect.no_null_content => CALLING.into(),
                _ => Value::Null,
            };
            let calls: Vec<Value> = calls.into_iter().map(|call| called(call, names)).collect();
            json!({"role": "assistant", "content": text, "tool_calls": calls})
        }
        ChatLine::Tool { id, text, .. } => {
            json!({"role": "tool", "tool_call_id": id, "content": text})
        }
    }
}

/// Renders the parts of a user's line. If all are text, the content is a plain string, because many
/// servers do not support parts.
fn content(parts: Vec<UserPart>) -> Value {
    if parts.iter().all(|part| matches!(part, UserPart::Text(_))) {
        let texts = parts.into_iter().filter_map(|part| match part {
            UserPart::Text(text) => Some(text),
            UserPart::Image(_) => None,
        });
        return texts.collect::<Vec<_>>().join("\n\n").into();
    }
    let parts = parts.into_iter().map(|part| match part {
        UserPart::Text(text) => json!({"type": "text", "text": text}),
        UserPart::Image(url) => json!({"type": "image_url", "image_url": {"url": url}}),
    });
    parts.collect()
}

fn called(call: AssistantCall, names: &mut ToolNames) -> Value {
    let name = names.send(&call.name);
    let arguments = arguments(call.arguments);
    json!({
        "id": call.id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    })
}

/// Returns a call's arguments, always as a JSON object, because some servers and most templates
/// parse them.
fn arguments(text: String) -> String {
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(_)) => text,
        Ok(Value::Null) => "{}".to_owned(),
        _ if text.trim().is_empty() => "{}".to_owned(),
        _ => json!({"malformed": text}).to_string(),
    }
}
