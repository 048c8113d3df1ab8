//! Shortens a text of a server or of the network, so that an error or a log line can repeat it.

use crate::plain_text::is_hidden;

/// How much of a server's text an error repeats, in characters.
const REPEATED_MAX_CHARS: usize = 500;

/// Returns a text as a single line of bounded length.
pub(super) fn brief(text: &str) -> String {
    let text = text.trim();
    let mut brief: String = text
        .chars()
        .map(|c| if is_hidden(c) { ' ' } else { c })
        .take(REPEATED_MAX_CHARS)
        .collect();
    if brief.len() < text.len() {
        brief.push('…');
    }
    if brief.is_empty() {
        brief.push_str("(it does not say why)");
    }
    brief
}
