//! The size of the parts of a request, in bytes.

use abide_plugin::llm::{ChatMessage, ToolDefinition};

/// The size of a message or a tool beside its text: about what its encoding adds, and at least what
/// a model's template adds.
const OVERHEAD: usize = 64;

pub(crate) fn of_message(message: &ChatMessage) -> usize {
    let calls = message.tool_calls.iter();
    let calls = calls.map(|call| call.id.len() + call.name.len() + call.arguments.len());
    message.content.len() + calls.sum::<usize>() + OVERHEAD
}

pub(crate) fn of_tool(tool: &ToolDefinition) -> usize {
    tool.name.len() + tool.description.len() + tool.parameters.len() + OVERHEAD
}
