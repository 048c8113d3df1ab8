//! The host's notices in a conversation as servers see it: text in front of the user's words.

use serde_json::{Value, json};

use crate::message_text;

/// The prefix of a notice.
const NOTICE: &str = "[system]";
/// What separates a notice from the user's words.
const BREAK: &str = "\n\n";

/// Returns a conversation in which each notice is a system message of its own, in its place. The
/// filler that the host inserts as the model's words between tool results and a notice is left out.
pub fn notices_apart(lines: &[Value]) -> Vec<Value> {
    let mut apart: Vec<Value> = Vec::with_capacity(lines.len());
    for line in lines {
        let text = message_text(line);
        if line["role"] != "user" || !text.contains(NOTICE) {
            apart.push(line.clone());
            continue;
        }
        let parts = text.split(BREAK);
        let (notices, words): (Vec<_>, Vec<_>) = parts.partition(|part| part.starts_with(NOTICE));
        let filler = matches!(apart.as_slice(), [.., before, last]
            if before["role"] == "tool" && last["tool_calls"].is_null());
        if words.is_empty() && filler {
            apart.pop();
        }
        let notices = notices.into_iter();
        apart.extend(notices.map(|text| json!({"role": "system", "content": text})));
        if !words.is_empty() {
            let mut rest = line.clone();
            rest["content"] = words.join(BREAK).into();
            apart.push(rest);
        }
    }
    apart
}
