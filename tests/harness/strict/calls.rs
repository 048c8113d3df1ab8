//! The calls of a conversation, and their results.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{BrokenRule, Rule, calls_of, has_calls, is_function_name, role};

/// Checks that each call has its result, and each result its call.
pub(super) fn answered(lines: &[Value]) -> Option<BrokenRule> {
    let mut open: Vec<&Value> = Vec::new();
    for line in lines {
        if role(line) == "tool" {
            let at = open.iter().position(|id| **id == line["tool_call_id"]);
            let Some(at) = at else {
                let text = "messages with role 'tool' must be a response to a preceeding message \
                            with 'tool_calls'.";
                return Some(refused(Rule::CallsAnswered, text));
            };
            open.remove(at);
            continue;
        }
        if let Some(violation) = unanswered(&open) {
            return Some(violation);
        }
        open = calls_of(line).map(|call| &call["id"]).collect();
    }
    unanswered(&open)
}

fn unanswered(open: &[&Value]) -> Option<BrokenRule> {
    (!open.is_empty()).then(|| {
        let ids: Vec<_> = open.iter().map(|id| id.as_str().unwrap_or("?")).collect();
        let text = format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding \
             to each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
            ids.join(", ")
        );
        refused(Rule::CallsAnswered, &text)
    })
}

fn refused(rule: Rule, text: &str) -> BrokenRule {
    BrokenRule::with(rule, 400, json!({"message": text, "param": "messages"}))
}

/// Checks the rules that concern each call by itself.
pub(super) fn check(rule: Rule, lines: &[Value], tools: &Value) -> Option<BrokenRule> {
    let tools = tools.as_array().map_or(&[][..], Vec::as_slice);
    if rule == Rule::ToolsWithCalls {
        let calls = lines.iter().any(has_calls);
        return (calls && tools.is_empty()).then(|| {
            let text = "litellm.UnsupportedParamsError: Bedrock doesn't support tool calling \
                        without `tools=` param specified. Pass `tools=` param OR set \
                        `litellm.modify_params = True`";
            BrokenRule::new(rule, 400, text)
        });
    }
    let mut seen = BTreeSet::new();
    let mut calls = lines.iter().flat_map(calls_of);
    calls.find_map(|call| {
        let (id, function) = (call["id"].as_str(), &call["function"]);
        let name = function["name"].as_str().unwrap_or_default();
        match rule {
            Rule::UniqueIds => {
                let id = id.unwrap_or_default();
                (!seen.insert(id)).then(|| {
                    let text = format!("Duplicate value for 'tool_call_id' of '{id}'");
                    refused(rule, &text)
                })
            }
            Rule::IdsOfNine => {
                let nine =
                    |id: &&str| id.len() == 9 && id.chars().all(|c| c.is_ascii_alphanumeric());
                match id.filter(nine) {
                    Some(_) => None,
                    None => {
                        let text = format!(
                            "Tool call id was {} but must be a-z, A-Z, 0-9, with a length of 9.",
                            id.unwrap_or("null")
                        );
                        Some(BrokenRule::mistral(rule, "3280", text))
                    }
                }
            }
            Rule::CalledNames => (!is_function_name(name)).then(|| {
                let text = format!(
                    "Invalid 'messages.tool_calls.function.name' ('{name}'): string does not match \
                     pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]{{1,64}}$'."
                );
                refused(rule, &text)
            }),
            Rule::CalledAreDefined => {
                let defined = tools.iter().any(|tool| tool["function"]["name"] == name);
                (!defined).then(|| {
                    let text = format!("Tool '{name}' not found in provided tools");
                    refused(rule, &text)
                })
            }
            _ => {
                let text = function["arguments"].as_str().unwrap_or_default();
                let object = serde_json::from_str::<Map<String, Value>>(text);
                object.err().map(|error| {
                    let text = format!(
                        "Failed to parse tool call arguments as JSON: {error} (of '{name}')"
                    );
                    BrokenRule::new(rule, 400, text)
                })
            }
        }
    })
}
