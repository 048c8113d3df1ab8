//! Shortening of texts that humans read: a cut is always marked with an ellipsis.

/// The longest reason that is kept why a component does not carry a session on, in bytes.
pub(super) const REASON_BYTES: usize = 2 << 10;

/// Truncates a text to `max_bytes`, at a character boundary, and marks the cut with an ellipsis.
pub(super) fn shorten(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push('…');
    }
}

/// Returns a text on one line and of at most `max_bytes`; a cut is marked with an ellipsis.
pub(super) fn one_line(text: &str, max_bytes: usize) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() > max_bytes {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // A word may be as long as a whole file; one byte beyond the maximum suffices to mark the
        // cut.
        line.push_str(&word[..word.ceil_char_boundary(max_bytes + 1)]);
    }
    shorten(&mut line, max_bytes);
    line
}
