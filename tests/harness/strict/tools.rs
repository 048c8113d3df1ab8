//! The tools that a request defines.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{BrokenRule, Rule, is_function_name, schema};

/// The largest number of tools that OpenAI accepts.
pub(super) const MAX: usize = 128;

/// Checks the rules about tools.
pub(super) fn check(rule: Rule, tools: &Value) -> Option<BrokenRule> {
    let list = tools.as_array().map_or(&[][..], Vec::as_slice);
    if rule == Rule::ToolsMax {
        let count = list.len();
        // OpenAI refuses an empty list, too.
        let found = match count {
            0 if tools.is_array() => "[] is too short - 'tools'".to_owned(),
            ..=MAX => return None,
            _ => format!(
                "Invalid 'tools': array too long. Expected an array with maximum length {MAX}, but \
                 got an array with length {count} instead."
            ),
        };
        let error = json!({
            "message": found, "param": "tools", "code": "array_above_max_length",
        });
        return Some(BrokenRule::with(rule, 400, error));
    }
    let mut seen = BTreeSet::new();
    list.iter().enumerate().find_map(|(at, tool)| {
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default();
        if rule == Rule::Schemas {
            return schema::wrong(&function["parameters"]).map(|why| {
                let error = json!({
                    "message": format!("Invalid schema for function '{name}': {why}"),
                    "param": format!("tools[{at}].function.parameters"),
                    "code": "invalid_function_parameters",
                });
                BrokenRule::with(rule, 400, error)
            });
        }
        if !is_function_name(name) {
            let error = json!({
                "message": format!(
                    "Invalid 'tools[{at}].function.name': string does not match pattern. Expected \
                     a string that matches the pattern '^[a-zA-Z0-9_-]{{1,64}}$'."
                ),
                "param": format!("tools[{at}].function.name"),
                "code": "invalid_value",
            });
            return Some(BrokenRule::with(rule, 400, error));
        }
        (!seen.insert(name)).then(|| {
            BrokenRule::new(
                rule,
                400,
                format!("tools: Tool names must be unique ({name})"),
            )
        })
    })
}
