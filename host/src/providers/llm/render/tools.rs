//! The definitions of the tools that a request offers: which are sent, and which are left out and
//! why.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::lines::ChatLine;
use super::names::ToolNames;
use super::schema;
use crate::domain::ToolDefinition;
use crate::providers::llm::dialect::RefusedTool;

/// The description of a tool that only the conversation names: servers demand that each call in it
/// is of a defined tool.
const GONE: &str = "This tool is not available any more. Do not call it.";

/// A tool that is left out of a request, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::providers::llm) struct HiddenTool {
    pub(in crate::providers::llm) name: String,
    pub(in crate::providers::llm) reason: String,
}

/// The bounds on the tools of a request.
pub(super) struct Bounds<'a> {
    /// The largest number of tools.
    pub(super) tools: usize,
    /// The longest description, in characters.
    pub(super) description: Option<usize>,
    /// Tools that the provider refuses.
    pub(super) refused: &'a BTreeSet<RefusedTool>,
}

/// Returns the definitions to send, and the tools that are left out.
pub(super) fn definitions(
    tools: &[ToolDefinition],
    lines: &[ChatLine],
    names: &mut ToolNames,
    bounds: &Bounds<'_>,
) -> (Vec<Value>, Vec<HiddenTool>) {
    let mut left_out = Vec::new();
    let mut leave_out = |tool: &ToolDefinition, reason: String| {
        let name = tool.name.clone();
        left_out.push(HiddenTool { name, reason });
    };
    let called: BTreeSet<&str> = lines.iter().flat_map(calls).collect();
    let mut sound: Vec<(&ToolDefinition, Value)> = Vec::new();
    let mut known = BTreeSet::new();
    for tool in tools {
        match schema::of_arguments(&tool.parameters) {
            _ if !known.insert(tool.name.as_str()) => {
                leave_out(tool, "another tool has the same name".to_owned());
            }
            Ok(schema) if is_refused(tool, &schema, bounds) => {
                leave_out(tool, "the model's server refuses its definition".to_owned());
            }
            Ok(schema) => sound.push((tool, schema)),
            Err(reason) => leave_out(tool, reason),
        }
    }
    let offered: BTreeSet<&str> = sound.iter().map(|(tool, _)| tool.name.as_str()).collect();
    // Tools that the conversation names get the room first, whether they still exist or not. What
    // is left of it goes to the first of the others.
    let named = sound
        .iter()
        .filter(|(tool, _)| called.contains(tool.name.as_str()));
    let mut room_of_named = named.count().min(bounds.tools);
    let gone: Vec<&str> = called
        .iter()
        .copied()
        .filter(|name| !offered.contains(name))
        .take(bounds.tools - room_of_named)
        .collect();
    let mut room_of_others = bounds.tools - room_of_named - gone.len();
    let mut definitions = Vec::new();
    for (tool, schema) in sound {
        let room = match called.contains(tool.name.as_str()) {
            true => &mut room_of_named,
            false => &mut room_of_others,
        };
        let Some(rest) = room.checked_sub(1) else {
            let most = bounds.tools;
            leave_out(tool, format!("a request offers {most} tools at most"));
            continue;
        };
        *room = rest;
        let name = names.send(&tool.name);
        definitions.push(definition(&name, &tool.description, schema, bounds));
    }
    for name in gone {
        let nothing = json!({"type": "object", "properties": {}});
        let name = names.send(name);
        definitions.push(definition(&name, GONE, nothing, bounds));
    }
    (definitions, left_out)
}

fn is_refused(tool: &ToolDefinition, schema: &Value, bounds: &Bounds<'_>) -> bool {
    let mut named = bounds
        .refused
        .iter()
        .filter(|known| known.name == tool.name);
    named.any(|known| {
        let name = ToolNames::default().send(&tool.name);
        let definition = definition(&name, &tool.description, schema.clone(), bounds);
        RefusedTool::of(&definition, &tool.name) == *known
    })
}

fn calls(line: &ChatLine) -> impl Iterator<Item = &str> {
    let calls = match line {
        ChatLine::Assistant { calls, .. } => calls.as_slice(),
        _ => &[],
    };
    calls.iter().map(|call| call.name.as_str())
}

fn definition(name: &str, description: &str, schema: Value, bounds: &Bounds<'_>) -> Value {
    let description: String = match bounds.description {
        Some(most) => description.chars().take(most).collect(),
        None => description.to_owned(),
    };
    let mut function = json!({"name": name, "parameters": schema});
    if !description.trim().is_empty() {
        function["description"] = description.into();
    }
    json!({"type": "function", "function": function})
}
