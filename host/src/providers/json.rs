//! JSON as it really comes: with bytes that are no UTF-8, and with halves of characters.

use std::borrow::Cow;

use serde_json::Value;

/// Stands for what is no character.
const REPLACEMENT: &[u8] = b"\\uFFFD";

/// Reads JSON. Bytes that are no UTF-8, and halves of surrogate pairs, count as U+FFFD: programs cut
/// texts in the middle of a character, and what they say besides is worth reading.
pub(super) fn lenient(bytes: &[u8]) -> serde_json::Result<Value> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|error| match mended(bytes) {
        Some(mended) => serde_json::from_str(&mended),
        None => Err(error),
    })
}

/// The text with replacements for what is no character; none if it has nothing of the kind.
fn mended(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let escapes = mended_escapes(text.as_bytes());
    match (&text, escapes) {
        // A replacement is put in the place of whole escapes.
        (_, Some(mended)) => String::from_utf8(mended).ok(),
        (Cow::Owned(text), None) => Some(text.clone()),
        (Cow::Borrowed(_), None) => None,
    }
}

fn mended_escapes(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at] != b'\\' {
            at += 1;
            continue;
        }
        match unit(&text[at..]) {
            Some(0xD800..=0xDBFF) => match unit(&text[at + 6..]) {
                Some(0xDC00..=0xDFFF) => at += 12,
                _ => {
                    out.extend_from_slice(&text[copied..at]);
                    out.extend_from_slice(REPLACEMENT);
                    at += 6;
                    copied = at;
                }
            },
            Some(0xDC00..=0xDFFF) => {
                out.extend_from_slice(&text[copied..at]);
                out.extend_from_slice(REPLACEMENT);
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
            // Another escape, of two bytes.
            None => at += 2,
        }
    }
    (copied > 0).then(|| {
        out.extend_from_slice(&text[copied..]);
        out
    })
}

/// The UTF-16 unit that an escape at the beginning stands for.
fn unit(text: &[u8]) -> Option<u16> {
    let hex = text.strip_prefix(b"\\u")?.get(..4)?;
    let hex = std::str::from_utf8(hex).ok()?;
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(hex, 16).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_character_is_replaced_and_the_rest_is_read() {
        for (text, expected) in [
            (&b"{\"a\":\"b\"}"[..], "b"),
            (b"\xEF\xBB\xBF{\"a\":\"b\"}", "b"),
            (b"{\"a\":\"hi \\ud83d\"}", "hi \u{FFFD}"),
            (b"{\"a\":\"\\ude00 there\"}", "\u{FFFD} there"),
            (b"{\"a\":\"\\uD83D\\u0041\"}", "\u{FFFD}A"),
            (b"{\"a\":\"\\ud83d\\ud83d\\ude00\"}", "\u{FFFD}\u{1F600}"),
            (b"{\"a\":\"\\ud83d\\n\"}", "\u{FFFD}\n"),
            (b"{\"a\":\"\\\\ud83d \\ud83d\"}", "\\ud83d \u{FFFD}"),
            (b"{\"a\":\"caf\xE9\"}", "caf\u{FFFD}"),
            (b"{\"a\":\"\xE9 \\ud83d\"}", "\u{FFFD} \u{FFFD}"),
        ] {
            let read = lenient(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(read, json!({"a": expected}), "{text:?}");
        }
        for text in [
            &b"{"[..],
            b"",
            b"{\"a\":\"\\ud83d",
            b"{\"a\":\"\\u12\"}",
            b"nonsense \\ud83d",
        ] {
            assert!(lenient(text).is_err(), "{text:?}");
        }
    }
}
