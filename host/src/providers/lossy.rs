//! Parses JSON whose texts are not valid Unicode. Servers split texts between the two halves of a
//! surrogate pair, or between the bytes of a character. What is broken is replaced by U+FFFD.
//! Halves that meet again, in the next piece of the text, are joined.

use std::borrow::Cow;

use serde_json::Value;

/// The mark for [`FIRST_SURROGATE`]. A lone surrogate that waits for its other half is represented
/// by a character of the last private-use plane, at the same offset from this one.
const FIRST_MARK: u32 = 0x10_F800;
const FIRST_SURROGATE: u16 = 0xD800;
const FIRST_LOW_SURROGATE: u16 = 0xDC00;
const LAST_SURROGATE: u16 = 0xDFFF;
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
/// Numbers that are not JSON, as several languages write them.
const NO_NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A document, and whether its texts contain marks of lone surrogates.
pub(super) struct Marked {
    pub(super) value: Value,
    pub(super) has_marks: bool,
}

/// Parses a document, ignoring a leading byte order mark.
pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|error| read_broken(bytes, error, |_| REPLACEMENT))
}

/// Parses one of several documents that hold pieces of a text. Lone surrogates in it are marked.
pub(super) fn parse_marked(bytes: &[u8]) -> serde_json::Result<Marked> {
    let (value, has_marks) = match serde_json::from_slice(bytes) {
        Ok(value) => (value, false),
        Err(error) => (read_broken(bytes, error, mark)?, true),
    };
    Ok(Marked { value, has_marks })
}

/// Parses a document after the strict parser has failed with `error`. Returns that error if there
/// is nothing to repair.
fn read_broken(
    bytes: &[u8],
    error: serde_json::Error,
    replace: impl Fn(u16) -> char,
) -> serde_json::Result<Value> {
    let text = String::from_utf8_lossy(bytes);
    let whole = without_lone(&text, replace);
    let mended = without_raw(&whole);
    if let (Cow::Borrowed(_), Cow::Borrowed(_), Cow::Borrowed(_)) = (&text, &whole, &mended) {
        return Err(error);
    }
    serde_json::from_str(&mended)
}

/// Repairs JSON that some writers produce and strict parsers refuse: escapes line breaks and other
/// control characters within texts, and replaces `NaN` and the infinities by null.
pub(super) fn without_raw(json: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let (mut kept, mut at) = (0, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    while let Some(&byte) = json.as_bytes().get(at) {
        // The length of the token here, and its replacement. All of it is ASCII.
        let (length, place) = match byte {
            _ if std::mem::take(&mut is_escaped) => (1, None),
            0..0x20 if in_text => (1, Some(format!("\\u{byte:04x}"))),
            b'\\' if in_text => {
                is_escaped = true;
                (1, None)
            }
            b'"' => {
                in_text = !in_text;
                (1, None)
            }
            b'N' | b'I' | b'-' if !in_text => {
                let rest = &json.as_bytes()[at..];
                let mut words = NO_NUMBERS.iter();
                match words.find(|word| rest.starts_with(word.as_bytes())) {
                    Some(word) => (word.len(), Some("null".to_owned())),
                    None => (1, None),
                }
            }
            _ => (1, None),
        };
        if let Some(place) = place {
            mended.push_str(&json[kept..at]);
            mended.push_str(&place);
            kept = at + length;
        }
        at += length;
    }
    if kept == 0 {
        return Cow::Borrowed(json);
    }
    mended.push_str(&json[kept..]);
    Cow::Owned(mended)
}

/// Replaces each escape of a surrogate that is not part of a pair.
fn without_lone(json: &str, replace: impl Fn(u16) -> char) -> Cow<'_, str> {
    let mut mended = String::new();
    let mut kept = 0;
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let Some(unit) = escaped(&json[at..]) else {
            // Skip the backslash and the character that it escapes.
            let escaped = json[at + 1..].chars().next().map_or(0, char::len_utf8);
            at += 1 + escaped;
            continue;
        };
        let is_high = (FIRST_SURROGATE..FIRST_LOW_SURROGATE).contains(&unit);
        let next = escaped(&json[at + ESCAPE_BYTES..]);
        if is_high
            && next.is_some_and(|next| (FIRST_LOW_SURROGATE..=LAST_SURROGATE).contains(&next))
        {
            at += 2 * ESCAPE_BYTES;
            continue;
        }
        if (FIRST_SURROGATE..=LAST_SURROGATE).contains(&unit) {
            mended.push_str(&json[kept..at]);
            mended.push(replace(unit));
            kept = at + ESCAPE_BYTES;
        }
        at += ESCAPE_BYTES;
    }
    if kept == 0 {
        return Cow::Borrowed(json);
    }
    mended.push_str(&json[kept..]);
    Cow::Owned(mended)
}

/// Replaces the escapes of lone surrogates in a text that is itself JSON.
pub(super) fn mended(json: &str) -> Cow<'_, str> {
    without_lone(json, |_| REPLACEMENT)
}

/// The length of `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// Returns the UTF-16 code unit whose escape begins the text.
fn escaped(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..ESCAPE_BYTES - 2)?;
    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

fn mark(surrogate: u16) -> char {
    let above = u32::from(surrogate) - u32::from(FIRST_SURROGATE);
    char::from_u32(FIRST_MARK + above).unwrap_or(REPLACEMENT)
}

fn marked(char: char) -> Option<u16> {
    let above = u16::try_from(u32::from(char).checked_sub(FIRST_MARK)?).ok()?;
    let unit = FIRST_SURROGATE.checked_add(above)?;
    (unit <= LAST_SURROGATE).then_some(unit)
}

/// Joins the surrogate halves in a text that arrives in pieces, some of which contain marks.
#[derive(Default)]
pub(super) struct Halves {
    /// The first half of a pair, from the end of the last piece.
    high: Option<u16>,
}

impl Halves {
    /// Returns the piece without marks. A half that waits for its other half is held back.
    pub(super) fn push<'a>(&mut self, piece: &'a str, has_marks: bool) -> Cow<'a, str> {
        if piece.is_empty() || (!has_marks && self.high.is_none()) {
            return Cow::Borrowed(piece);
        }
        let mut text = String::new();
        for char in piece.chars() {
            let unit = marked(char).filter(|_| has_marks);
            let low = unit.filter(|unit| *unit >= FIRST_LOW_SURROGATE);
            if let Some(high) = self.high.take() {
                let pair = low.map(|low| char::decode_utf16([high, low]).next());
                if let Some(Some(Ok(whole))) = pair {
                    text.push(whole);
                    continue;
                }
                text.push(REPLACEMENT);
            }
            match unit {
                Some(unit) if low.is_none() => self.high = Some(unit),
                Some(_) => text.push(REPLACEMENT),
                None => text.push(char),
            }
        }
        Cow::Owned(text)
    }

    /// Returns what was held back, at the end of the text.
    pub(super) fn end(&mut self) -> &'static str {
        match self.high.take() {
            Some(_) => "\u{fffd}",
            None => "",
        }
    }
}

/// Removes the marks from a text that has arrived completely.
pub(super) fn joined(text: &str) -> String {
    let mut halves = Halves::default();
    let mut whole = halves.push(text, true).into_owned();
    whole.push_str(halves.end());
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rest_of_a_document_is_read() {
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
            let read = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(read, json!({"a": expected}), "{text:?}");
        }
        for text in [
            &b"{"[..],
            b"",
            b"{\"a\":\"\\ud83d",
            b"{\"a\":\"\\u12\"}",
            b"nonsense \\ud83d",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_other_writers_put_in_is_read() {
        for (text, expected) in [
            ("[\"a\nb\tc\r\u{1}\"]", json!(["a\nb\tc\r\u{1}"])),
            ("[\"a\\\\\n\\\"\n\"]", json!(["a\\\n\"\n"])),
            (
                "[NaN, Infinity,\n-Infinity, -1]",
                json!([null, null, null, -1]),
            ),
            (
                "{\"NaN\": \"-Infinity\\\" NaN\", \"a\": NaN}",
                json!({"NaN": "-Infinity\" NaN", "a": null}),
            ),
            ("[\"é\n\\ud83d\"]", json!(["é\n\u{fffd}"])),
        ] {
            assert_eq!(parse(text.as_bytes()).expect("JSON"), expected, "{text:?}");
        }
        for broken in ["[\"a\n]", "[\"\\\n\"]", "NaNa", "[Inf]", "[nan"] {
            assert!(parse(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn what_is_no_unicode_is_replaced() {
        let cases: [(&[u8], Value); 7] = [
            (br#"["a\ud83d"]"#, json!(["a\u{fffd}"])),
            (
                br#"["\ude00b\ud83d\ud83d\ude00"]"#,
                json!(["\u{fffd}b\u{fffd}\u{1f600}"]),
            ),
            (br#"["\\ud83d"]"#, json!(["\\ud83d"])),
            (br#"["\ud83d\n\"\\"]"#, json!(["\u{fffd}\n\"\\"])),
            (br#"{"\udead": 1}"#, json!({"\u{fffd}": 1})),
            (b"[\"caf\xe9\"]", json!(["caf\u{fffd}"])),
            (
                b"[\"\xf0\x9f\", \"\xed\xa0\xbd\"]",
                json!(["\u{fffd}", "\u{fffd}\u{fffd}\u{fffd}"]),
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(bytes).expect("JSON"), expected);
        }
        for broken in [&b"[\"\\ud83d"[..], b"{\"a\": \xff}", b"[\"\\ud8zz\"]", b""] {
            assert!(parse(broken).is_err() && parse_marked(broken).is_err());
        }
    }

    #[test]
    fn halves_that_meet_again_are_joined() {
        let join = |pieces: &[&str]| {
            let mut halves = Halves::default();
            let mut text = String::new();
            for piece in pieces {
                let json = format!("\"{piece}\"");
                let Marked { value, has_marks } = parse_marked(json.as_bytes()).expect("JSON");
                text += &halves.push(value.as_str().expect("a text"), has_marks);
            }
            text + halves.end()
        };
        assert_eq!(
            join(&["hi \\ud83d", "", "\\ude00 there"]),
            "hi \u{1f600} there"
        );
        assert_eq!(join(&["hi \\ud83d", " there"]), "hi \u{fffd} there");
        assert_eq!(join(&["\\ude00", "\\ud83d"]), "\u{fffd}\u{fffd}");
        assert_eq!(
            join(&["\\ud83d", "\\ud83d", "\\ude00"]),
            "\u{fffd}\u{1f600}"
        );
        // Private-use characters that are not marks are preserved.
        assert_eq!(join(&["\u{10f83d}", "\u{10fe00}"]), "\u{10f83d}\u{10fe00}");
    }

    proptest! {
        #[test]
        fn a_text_cut_between_any_two_units_comes_out_whole(text in "\\PC{0,12}", cuts in prop::collection::vec(0..5_usize, 0..12)) {
            let units: Vec<u16> = text.encode_utf16().collect();
            let mut rest = &units[..];
            let mut halves = Halves::default();
            let mut read = String::new();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                rest = behind;
                let json: String = piece.iter().map(|unit| format!("\\u{unit:04x}")).collect();
                let marked = parse_marked(format!("\"{json}\"").as_bytes()).expect("JSON");
                read += &halves.push(marked.value.as_str().expect("a text"), marked.has_marks);
            }
            read += halves.end();
            prop_assert_eq!(read, text);
        }

        #[test]
        fn no_bytes_are_read_otherwise_than_by_the_strict_parser(text in "[\\\\u\"d8e0a-c\\[\\]]{0,16}") {
            if let Ok(strict) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(parse(text.as_bytes()).expect("as strict"), strict);
            }
        }
    }
}
