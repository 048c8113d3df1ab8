//! Images, audio and other binary data in a tool's answer.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// The type of data whose type is unknown.
const UNKNOWN_KIND: &str = "application/octet-stream";
/// The prefix of a URL that contains its data.
const DATA_URL: &str = "data:";
/// Shorter base64 might as well be a word, and does no harm.
const BASE64_MIN_CHARS: usize = 64;
/// The minimum length of a text that is taken for data without being declared as such, in
/// characters.
const OWN_DATA_MIN_CHARS: usize = 4096;
/// The number of bytes of an answer's texts that are searched for repetitions. The server decides
/// how many or how long the parts are; a repetition that is not found in time only costs room.
const SEARCH_MAX_BYTES: usize = 64 << 20;
/// The fixed cost that is charged for each search, however short the text is.
const LOOK_BYTES: usize = 64;

/// A search within an answer, with a bounded budget.
pub(super) struct Search {
    left: usize,
}

impl Search {
    pub(super) fn new() -> Self {
        Self {
            left: SEARCH_MAX_BYTES,
        }
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Returns whether `part` occurs in a text; always false once the budget is used up.
    pub(super) fn finds(&mut self, part: &str, text: &str) -> bool {
        let left = self.left.checked_sub(text.len() + LOOK_BYTES);
        self.left = left.unwrap_or(0);
        left.is_some() && part.len() <= text.len() && text.contains(part)
    }
}

/// Binary data, with the text that it was sent as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) mime_type: String,
    pub(super) data: Vec<u8>,
    /// The base64 alone, without a URL around it.
    pub(super) sent: String,
}

impl Media {
    /// Decodes base64 or a `data:` URL. If it is neither, the error is the note to show instead.
    pub(super) fn read(mime_type: Option<&str>, sent: &str) -> Result<Self, String> {
        let (of_url, base64) = match data_url(sent.trim()) {
            Some((of_url, base64)) => (Some(of_url), base64),
            None => (None, sent.trim()),
        };
        let known = mime_type.map(str::trim).filter(|kind| !kind.is_empty());
        let known = known.or(of_url.filter(|kind| !kind.is_empty()));
        let Some(data) = decode(base64) else {
            let kind = known.unwrap_or(UNKNOWN_KIND);
            return Err(format!("[{kind}, sent in a form that is no base64]"));
        };
        let known = known.or_else(|| image_kind(&data));
        Ok(Self {
            mime_type: known.unwrap_or(UNKNOWN_KIND).to_owned(),
            data,
            sent: base64.to_owned(),
        })
    }

    /// As [`Media::read`] for an undeclared text; `None` if it is an ordinary text.
    pub(super) fn guess(sent: &str) -> Option<Self> {
        let long = sent.len() >= BASE64_MIN_CHARS || data_url(sent.trim()).is_some();
        long.then(|| Self::read(None, sent).ok())?
    }

    /// Returns the note that replaces the data.
    pub(super) fn placeholder(&self) -> String {
        format!("[{} bytes of {}]", self.data.len(), self.mime_type)
    }

    /// Returns the note that replaces data of more than `room` bytes.
    pub(super) fn note_over(&self, room: u64) -> String {
        let (bytes, kind) = (self.data.len(), &self.mime_type);
        format!("[{bytes} bytes of {kind}, over {room} bytes (`limits.event`)]")
    }

    /// Returns the image as Markdown with a `data:` URL, the form from which it is sent to models;
    /// `None` if models do not accept it.
    pub(super) fn image(&self) -> Option<String> {
        let kind = image_kind(&self.data)?;
        if !self.mime_type.to_ascii_lowercase().starts_with("image/") {
            return None;
        }
        let base64 = base64::engine::general_purpose::STANDARD.encode(&self.data);
        Some(format!("![{kind}](data:{kind};base64,{base64})"))
    }
}

/// Detects the image types that models accept, by their first bytes: a model's server that gets
/// another type than declared rejects the whole conversation.
fn image_kind(data: &[u8]) -> Option<&'static str> {
    match data {
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some("image/png"),
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        _ => None,
    }
}

/// Returns the type and the base64 of a `data:` URL.
fn data_url(text: &str) -> Option<(&str, &str)> {
    let scheme = text.get(..DATA_URL.len())?;
    if !scheme.eq_ignore_ascii_case(DATA_URL) {
        return None;
    }
    let (head, data) = text[DATA_URL.len()..].split_once(',')?;
    let kind = head.strip_suffix(";base64")?;
    Some((kind.split(';').next().unwrap_or_default(), data))
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    // Some servers break base64 into lines.
    let text: Vec<u8> = base64
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    let decoded = GeneralPurpose::new(&STANDARD, config).decode(&text);
    let decoded = decoded.or_else(|_| GeneralPurpose::new(&URL_SAFE, config).decode(&text));
    decoded.ok()
}

/// Replaces each string in a value that repeats one of these media, or is data itself, by a note:
/// base64 means nothing to a model, and costs more than everything else.
pub(super) fn cut(value: &mut Value, media: &[Media]) {
    let mut sent = HashMap::new();
    for media in media.iter().filter(|media| !media.sent.is_empty()) {
        sent.entry(&*media.sent).or_insert(media);
    }
    cut_sent(value, &sent);
}

/// As [`cut`], with the media indexed by the text that they were sent as.
fn cut_sent(value: &mut Value, sent: &HashMap<&str, &Media>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| cut_sent(item, sent)),
        Value::Object(fields) => fields.values_mut().for_each(|field| cut_sent(field, sent)),
        Value::String(text) => {
            if let Some(note) = note_for(text, sent) {
                *text = note;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn note_for(text: &str, sent: &HashMap<&str, &Media>) -> Option<String> {
    let text = text.trim();
    let url = data_url(text);
    if let Some(same) = sent.get(url.map_or(text, |(_, base64)| base64)) {
        return Some(same.placeholder());
    }
    let Some((kind, base64)) = url else {
        return own_data(text).map(|media| media.placeholder());
    };
    let long = base64.len() >= BASE64_MIN_CHARS;
    let own = long.then(|| Media::read(Some(kind), base64).ok())?;
    own.map(|media| media.placeholder())
}

/// Decodes a text that is nothing but base64 of a known type.
fn own_data(text: &str) -> Option<Media> {
    let media = (text.len() >= OWN_DATA_MIN_CHARS).then(|| Media::guess(text))??;
    let is_known = image_kind(&media.data).is_some() || media.data.starts_with(b"%PDF-");
    is_known.then_some(media)
}

/// Replaces data in a text that is JSON.
pub(super) fn cut_json(text: &mut String) {
    let is_json = text.len() >= OWN_DATA_MIN_CHARS && text.trim_start().starts_with(['{', '[']);
    if !is_json {
        return;
    }
    let Ok(before) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let mut after = before.clone();
    cut(&mut after, &[]);
    // Without data, the text keeps its original formatting.
    if after != before {
        *text = after.to_string();
    }
}

/// Replaces the base64 of these media in a text, since some servers repeat their whole answer as
/// text. Tries the longest first.
pub(super) fn cut_text(mut text: String, longest_first: &[&Media], search: &mut Search) -> String {
    for media in longest_first {
        if media.sent.len() < BASE64_MIN_CHARS || search.is_over() {
            break;
        }
        if search.finds(&media.sent, &text) {
            text = text.replace(&media.sent, &media.placeholder());
        }
    }
    text
}

/// Sorts media into the order that [`cut_text`] expects.
pub(super) fn longest_first(media: &[Media]) -> Vec<&Media> {
    let mut sorted: Vec<&Media> = media.iter().collect();
    sorted.sort_by_key(|media| std::cmp::Reverse(media.sent.len()));
    sorted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn base64_is_read_in_all_its_forms() {
        for (kind, sent, expected) in [
            (Some("image/png"), "AQI=", "image/png"),
            (Some("image/png"), " AQI ", "image/png"),
            (Some("image/png"), "A\r\nQI=\n", "image/png"),
            (
                Some("image/png"),
                "data:image/jpeg;base64,AQI=",
                "image/png",
            ),
            (None, "data:image/jpeg;base64,AQI=", "image/jpeg"),
            (None, "DATA:image/jpeg;charset=x;base64,AQI=", "image/jpeg"),
            (Some(""), "AQI", UNKNOWN_KIND),
            (None, "data:;base64,AQI", UNKNOWN_KIND),
        ] {
            let read = Media::read(kind, sent).unwrap_or_else(|why| panic!("{sent}: {why}"));
            assert_eq!(
                (&*read.mime_type, &read.data[..]),
                (expected, &[1, 2][..]),
                "{sent}"
            );
        }
        assert_eq!(
            Media::read(None, "_-8=").map(|m| m.data),
            Ok(vec![255, 239])
        );
        for none in ["?", "A", "http://x/y.png", "data:image/png,hello"] {
            let note = Media::read(Some("image/png"), none).expect_err(none);
            assert_eq!(note, "[image/png, sent in a form that is no base64]");
        }
    }

    #[test]
    fn an_image_is_what_it_begins_with() {
        let image = |kind: &str, data: &[u8]| {
            let base64 = base64::engine::general_purpose::STANDARD.encode(data);
            let media = Media::read(Some(kind), &base64).expect("base64");
            media.image().map(|text| text.split(')').count())
        };
        let png = b"\x89PNG\r\n\x1a\n...";
        assert_eq!(image("image/png", png), Some(2));
        assert_eq!(image("image/jpg", b"\xFF\xD8\xFF..."), Some(2));
        assert_eq!(image("image/gif", b"GIF89a..."), Some(2));
        assert_eq!(image("IMAGE/WEBP", b"RIFF....WEBP..."), Some(2));
        for (kind, data) in [
            ("image/png", &b"no image"[..]),
            ("image/png", b""),
            ("image/svg+xml", b"<svg/>"),
            ("application/pdf", png),
        ] {
            assert_eq!(image(kind, data), None, "{kind}");
        }
        // The detected type wins over the declared one.
        let media = Media::read(Some("image/jpeg"), "iVBORw0KGgo=").expect("base64");
        let expected = "![image/png](data:image/png;base64,iVBORw0KGgo=)";
        assert_eq!(media.image().as_deref(), Some(expected));
    }

    #[test]
    fn base64_is_cut_out_of_what_says_it_again() {
        let long = "QUJD".repeat(100);
        let media = [Media::read(Some("image/png"), &long).expect("base64")];
        let mut value = json!({
            "a": [long, {"b": format!("data:image/png;base64,{long}")}],
            "c": format!("data:audio/wav;base64,{}", "AAAA".repeat(100)),
            "d": "QUJD", "e": "data:text/plain;base64,QUJD", "f": 1,
        });
        cut(&mut value, &media);
        let note = "[300 bytes of image/png]";
        assert_eq!(
            value,
            json!({
                "a": [note, {"b": note}], "c": "[300 bytes of audio/wav]",
                "d": "QUJD", "e": "data:text/plain;base64,QUJD", "f": 1,
            })
        );
        let text = format!("see {long}, or {long}");
        let text = cut_text(text, &longest_first(&media), &mut Search::new());
        assert_eq!(text, format!("see {note}, or {note}"));
    }
}
