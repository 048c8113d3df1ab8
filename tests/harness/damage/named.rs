//! In which words a daemon names a session that damage has touched.

use serde_json::Value;

/// Returns the words in which a session says itself that it was touched: it waits for an operator, or is
/// faulted.
pub fn named_by(session: &Value) -> Option<String> {
    let state = session["state"].as_str()?;
    let is_named = matches!(state, "faulted" | "parked") && session["reason"].is_object();
    is_named.then(|| format!("{state}: {}", session["reason"]))
}

/// Returns whether a text names the session, and not only one whose name is longer.
pub fn names(text: &str, id: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_digit());
    text.match_indices(id)
        .any(|(at, _)| ends(&text[at + id.len()..]))
}

/// Returns whether a line of the log tells of damage to the session.
pub fn is_logged(log: &str, id: &str) -> bool {
    log.lines()
        .any(|line| names(line, id) && line.contains("damage"))
}
