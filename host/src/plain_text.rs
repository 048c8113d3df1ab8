//! Text of others (guests, models, tool servers, clients) on its way to a terminal or a log, where
//! characters that cannot be seen move the cursor, set the title, forge a line or reverse what is read.
//!
//! | function | for | what it does |
//! |---|---|---|
//! | [`inline`] | names, reasons, arguments: a part of a line | shows each such character as an escape, line breaks too |
//! | [`lines`] | whole messages of our own with such parts | the same, but for line breaks and tabs |
//! | [`prose`] | a conversation | removes them, but for line breaks and tabs |
//! | [`json`] | a JSON document | writes them as `\uXXXX`, which means the same |

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character is not seen where it stands, or changes how others are seen: control characters,
/// directional marks, overrides and isolates, zero-width characters, separators of lines and paragraphs,
/// interlinear annotations and tags (Unicode 16, chapters 23.1 to 23.9).
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns text as a part of one line, in which each hidden character is shown as an escape.
pub(crate) fn inline(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// Returns text in which each hidden character but line breaks and tabs is shown as an escape.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && !is_layout(c))
}

/// Returns text without hidden characters, but with its line breaks and tabs.
pub(crate) fn prose(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| is_hidden(c) && !is_layout(c);
    match text.contains(harmful) {
        true => Cow::Owned(text.replace("\r\n", "\n").replace(harmful, "")),
        false => Cow::Borrowed(text),
    }
}

/// Returns a JSON document in which strings have no hidden character: each is written as an escape.
pub(crate) fn json(document: &str) -> Cow<'_, str> {
    // Those below U+0020 are escaped in strings already: what is left of them stands between values.
    let harmful = |c: char| is_hidden(c) && !c.is_ascii_whitespace();
    if !document.contains(harmful) {
        return Cow::Borrowed(document);
    }
    let mut text = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let written = write!(text, "\\u{unit:04x}");
                written.expect("a string takes everything");
            }
        } else {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

fn is_layout(c: char) -> bool {
    c == '\n' || c == '\t'
}

fn escaped(text: &str, harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match harmful(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "a\u{1b}[2Jb\r\nc\td\u{9b}e\u{202e}f\u{200b}g\u{2066}h\u{feff}i\u{2028}j\u{e0041}k";

    #[test]
    fn nothing_hidden_is_left() {
        assert_eq!(
            inline(HOSTILE),
            "a\\u{1b}[2Jb\\r\\nc\\td\\u{9b}e\\u{202e}f\\u{200b}g\\u{2066}h\\u{feff}i\\u{2028}j\\u{e0041}k"
        );
        assert_eq!(
            lines(HOSTILE),
            "a\\u{1b}[2Jb\\r\nc\td\\u{9b}e\\u{202e}f\\u{200b}g\\u{2066}h\\u{feff}i\\u{2028}j\\u{e0041}k"
        );
        assert_eq!(prose(HOSTILE), "a[2Jb\nc\tdefghijk");
        for text in ["plain", "Grüße, 世界, שלום, 🦀"] {
            for shown in [inline(text), lines(text), prose(text), json(text)] {
                assert!(
                    matches!(shown, Cow::Borrowed(same) if same == text),
                    "{shown}"
                );
            }
        }
    }

    #[test]
    fn a_json_document_means_the_same() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE, "plain"] });
        let document = serde_json::to_string_pretty(&value).expect("it is JSON");
        let escaped = json(&document);
        assert!(
            !escaped.contains(|c: char| is_hidden(c) && c != '\n'),
            "{escaped}"
        );
        let read: serde_json::Value = serde_json::from_str(&escaped).expect("it is JSON");
        assert_eq!(read, value);
    }
}
