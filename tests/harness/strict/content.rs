//! The content of messages.

use serde_json::Value;

use super::{BrokenRule, Rule, has_calls};

/// Checks the rules about content.
pub(super) fn check(rule: Rule, lines: &[Value]) -> Option<BrokenRule> {
    let mut lines = lines.iter().enumerate();
    match rule {
        Rule::NoImages => lines
            .find(|(_, line)| parts(line).any(|part| part["type"] == "image_url"))
            .map(|_| {
                let text = "image input is not supported - hint: if this is unexpected, you may \
                            need to provide the mmproj";
                BrokenRule::new(rule, 400, text)
            }),
        Rule::ContentBesideCalls => lines
            .find(|(_, line)| line["content"].is_null() && !has_calls(line))
            .map(|(at, _)| {
                let text = format!(
                    "Invalid value for 'messages[{at}].content': expected a string, got null."
                );
                BrokenRule::new(rule, 400, text)
            }),
        _ => lines
            .find(|(_, line)| is_blank(&line["content"]))
            .map(|(at, _)| {
                let text =
                    format!("messages.{at}: text content blocks must contain non-whitespace text");
                BrokenRule::new(rule, 400, text)
            }),
    }
}

fn parts(line: &Value) -> impl Iterator<Item = &Value> {
    line["content"].as_array().into_iter().flatten()
}

/// Returns whether a text, or a part of it, is blank. Absent content is not blank.
fn is_blank(content: &Value) -> bool {
    let blank = |text: &Value| text.as_str().is_some_and(|text| text.trim().is_empty());
    match content {
        Value::Array(parts) => parts.is_empty() || parts.iter().any(|part| blank(&part["text"])),
        text => blank(text),
    }
}
