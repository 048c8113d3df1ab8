//! A short description of a step's result, for reports and for the summary of a turn's calls.

use super::shorten::shorten;
use super::{StepError, StepResult, ToolContent};

/// The longest result of a step that a report shows, in bytes.
const SHOWN_BYTES: usize = 500;

/// Returns a short description of a result.
pub(super) fn shown(result: &Result<StepResult, StepError>) -> String {
    let mut text = match result {
        Err(error) => error.to_string(),
        Ok(StepResult::Llm(completion)) => {
            let calls = completion.tool_calls.iter();
            let calls = calls.map(|call| format!("[calls {} {}]", call.name, call.arguments));
            let content = Some(completion.content.clone()).filter(|text| !text.is_empty());
            content
                .into_iter()
                .chain(calls)
                .collect::<Vec<_>>()
                .join(" ")
        }
        Ok(StepResult::ToolsList(tools)) => format!("{} tools", tools.len()),
        Ok(StepResult::ToolCall(outcome)) => {
            let pieces = outcome.content.iter().map(|piece| match piece {
                ToolContent::Text(text) | ToolContent::Json(text) => text.clone(),
                ToolContent::Blob { mime_type, data } => {
                    format!("[{} bytes of {mime_type}]", data.len())
                }
            });
            pieces.collect::<Vec<_>>().join(" ")
        }
        Ok(StepResult::ToolCallAll(outcomes)) => format!("{} answers", outcomes.len()),
        Ok(StepResult::Http(response)) => {
            format!("status {}, {} bytes", response.status, response.body.len())
        }
        Ok(StepResult::Receive(received)) => {
            let notice = received
                .notice
                .as_ref()
                .map(|_| "the recovery message".to_owned());
            let messages = match received.messages.len() {
                0 if notice.is_some() => None,
                1 => Some("1 message".to_owned()),
                count => Some(format!("{count} messages")),
            };
            let all: Vec<_> = notice.into_iter().chain(messages).collect();
            all.join(", ")
        }
    };
    shorten(&mut text, SHOWN_BYTES);
    text
}
