//! Parses the body of a successful response: an event stream or one document, whatever its content
//! type says. Pure.

use super::chunk::{Chunk, documents};
use super::sse::{Decoder, SseEvent, TooLong};

/// Marks the end of a stream.
const DONE: &[u8] = b"[DONE]";
/// How many bytes a line may have besides the texts in it: escapes, names, thoughts.
const OVERHEAD_BYTES: u64 = 1 << 20;
/// How many times longer a text may be if all its characters are escaped.
const ESCAPED_FACTOR: u64 = 3;

/// Returns how many bytes an event or a document may have if its texts are bounded by
/// `limit_bytes`.
pub(super) fn bound(limit_bytes: u64) -> usize {
    let bound = limit_bytes
        .saturating_mul(ESCAPED_FACTOR)
        .saturating_add(OVERHEAD_BYTES);
    usize::try_from(bound).unwrap_or(usize::MAX)
}

/// A parsed part of the body.
#[derive(Debug, PartialEq)]
pub(super) enum BodyItem {
    Chunk(Box<Chunk>),
    /// The end of the stream.
    Done,
    /// A document that cannot be parsed.
    Malformed {
        error: String,
        text: String,
    },
}

/// The format of a body, as far as it is known.
enum BodyFormat {
    /// Only blanks have arrived so far.
    Unknown,
    Events(Box<Decoder>),
    /// One document, or several, one per line.
    Document(Vec<u8>),
    /// HTML, so it does not come from a model server.
    Page,
}

/// A body while it arrives.
pub(super) struct ResponseBody {
    kind: BodyFormat,
    has_items: bool,
    bound: usize,
}

impl ResponseBody {
    /// Holds at most about `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            kind: BodyFormat::Unknown,
            has_items: false,
            bound,
        }
    }

    /// Adds bytes, and returns the items that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<BodyItem>, TooLong> {
        if let BodyFormat::Unknown = self.kind {
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
            self.kind = match bytes.trim_ascii_start().first() {
                None => return Ok(Vec::new()),
                Some(b'{' | b'[') => BodyFormat::Document(Vec::new()),
                Some(b'<') => BodyFormat::Page,
                Some(_) => BodyFormat::Events(Box::new(Decoder::new(self.bound))),
            };
        }
        match &mut self.kind {
            BodyFormat::Unknown | BodyFormat::Page => Ok(Vec::new()),
            BodyFormat::Events(decoder) => {
                let items = items(decoder.feed(bytes)?);
                self.has_items |= !items.is_empty();
                Ok(items)
            }
            BodyFormat::Document(document) => {
                if document.len() + bytes.len() > self.bound {
                    return Err(TooLong);
                }
                document.extend_from_slice(bytes);
                Ok(Vec::new())
            }
        }
    }

    /// Returns whether the body may be complete although it has not ended: a document whose last
    /// character is a closing bracket.
    pub(super) fn may_be_whole(&self) -> bool {
        match &self.kind {
            BodyFormat::Document(document) => {
                matches!(document.trim_ascii_end().last(), Some(b'}' | b']'))
            }
            _ => false,
        }
    }

    /// Returns the remaining items at the end of the body, or `None` if it was not an answer at
    /// all.
    pub(super) fn end(self) -> Option<Vec<BodyItem>> {
        match self.kind {
            BodyFormat::Unknown => Some(Vec::new()),
            BodyFormat::Page => None,
            BodyFormat::Events(decoder) => {
                let items = items(decoder.end());
                (self.has_items || !items.is_empty()).then_some(items)
            }
            BodyFormat::Document(document) => Some(whole(document, self.bound)),
        }
    }

    /// Returns the items of a document that has not ended, if it can be parsed as it is.
    pub(super) fn so_far(&self) -> Option<Vec<BodyItem>> {
        let BodyFormat::Document(document) = &self.kind else {
            return None;
        };
        let items = whole(document.clone(), self.bound);
        let is_whole = !items
            .iter()
            .any(|item| matches!(item, BodyItem::Malformed { .. }));
        is_whole.then_some(items)
    }
}

fn whole(document: Vec<u8>, bound: usize) -> Vec<BodyItem> {
    let event = SseEvent {
        data: document,
        is_error: false,
    };
    let mut items = items(vec![event.clone()]);
    // A document that can be parsed is complete, with or without a finish reason.
    if let [BodyItem::Chunk(chunk)] = items.as_slice()
        && chunk.is_whole
    {
        items.push(BodyItem::Done);
    }
    let [BodyItem::Malformed { .. }] = items.as_slice() else {
        return items;
    };
    // It may be one document per line, or a stream whose first event has no field name.
    let mut decoder = Decoder::new(bound);
    let Ok(mut events) = decoder.feed(&event.data) else {
        return items;
    };
    events.extend(decoder.end());
    let lines = self::items(events);
    let is_sound = !lines.is_empty()
        && !lines
            .iter()
            .any(|item| matches!(item, BodyItem::Malformed { .. }));
    if is_sound { lines } else { items }
}

fn items(events: Vec<SseEvent>) -> Vec<BodyItem> {
    let mut items = Vec::new();
    for SseEvent { data, is_error } in events {
        let bare = data.trim_ascii();
        let unquoted = bare
            .strip_prefix(b"\"")
            .and_then(|bare| bare.strip_suffix(b"\""));
        if unquoted.unwrap_or(bare).eq_ignore_ascii_case(DONE) {
            items.push(BodyItem::Done);
            continue;
        }
        let documents = match documents(&data) {
            Ok(documents) => documents,
            Err(error) => {
                items.push(BodyItem::Malformed {
                    error: error.to_string(),
                    text: String::from_utf8_lossy(&data).into_owned(),
                });
                continue;
            }
        };
        if documents.is_empty() && (is_error || tells_of_error(&data)) {
            // An error in plain text.
            let text = String::from_utf8_lossy(&data).trim().to_owned();
            items.push(chunk(Chunk {
                error: Some(serde_json::json!({ "error": text })),
                ..Chunk::default()
            }));
        }
        for document in documents {
            let plain = is_error.then(|| document.value.clone());
            let mut read = Chunk::read(document);
            read.error = read.error.or(plain);
            items.push(chunk(read));
        }
    }
    items
}

/// Returns whether plain text in place of an answer reports a failure.
fn tells_of_error(data: &[u8]) -> bool {
    let words = String::from_utf8_lossy(data)
        .trim_start()
        .to_ascii_lowercase();
    ["error", "[error", "traceback ("]
        .iter()
        .any(|begin| words.starts_with(begin))
}

fn chunk(chunk: Chunk) -> BodyItem {
    BodyItem::Chunk(Box::new(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the texts of a body, with all other items in brackets, or `None` if it is no answer.
    fn read(body: &str) -> Option<Vec<String>> {
        let mut reply = ResponseBody::new(1000);
        let mut items = Vec::new();
        for byte in body.as_bytes() {
            items.extend(reply.feed(&[*byte]).expect("short enough"));
        }
        items.extend(reply.end()?);
        let shown = items.into_iter().map(|item| match item {
            BodyItem::Chunk(chunk) => match chunk.error {
                Some(error) => format!("({error})"),
                None => chunk.text,
            },
            BodyItem::Done => "(done)".to_owned(),
            BodyItem::Malformed { .. } => "(malformed)".to_owned(),
        });
        Some(shown.collect())
    }

    #[test]
    fn a_body_is_what_it_looks_like() {
        let chunk =
            |text: &str| format!("{{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}");
        let (a, b) = (chunk("a"), chunk("b"));
        for (body, expected) in [
            (
                format!("data: {a}\n\ndata: {b}\n\ndata: [DONE]\n\n"),
                &["a", "b", "(done)"][..],
            ),
            (format!("\n\ndata: {a}\n\ndata: [DONE]"), &["a", "(done)"]),
            (
                format!(": hi\n\ndata: ping\n\ndata:\n\ndata: {a}\ndata: {b}\n\n"),
                &["a", "b"],
            ),
            (a.clone(), &["a"]),
            (format!("  \r\n{a}\n"), &["a"]),
            (format!("{a}\n{b}\n"), &["a", "b"]),
            (
                format!("{a}\n\ndata: {b}\n\ndata: [DONE]\n\n"),
                &["a", "b", "(done)"],
            ),
            (format!("[{a},{b}]"), &["a", "b"]),
            (
                format!("data: {a}\n\ndata: {{\"choices\": [\n\n"),
                &["a", "(malformed)"],
            ),
            ("{\"choices\": [".to_owned(), &["(malformed)"]),
            (String::new(), &[]),
            (
                "event: error\ndata: out of memory\n\n".to_owned(),
                &["({\"error\":\"out of memory\"})"],
            ),
            (
                "event: error\ndata: {\"message\":\"m\"}\n\n".to_owned(),
                &["({\"message\":\"m\"})"],
            ),
        ] {
            let read = read(&body).expect("an answer");
            assert_eq!(read, expected, "{body}");
        }
        for page in [
            "<html><body>data: x</body></html>",
            "\n<!DOCTYPE html>",
            "Welcome to nginx!",
        ] {
            assert_eq!(read(page), None, "{page}");
        }
    }

    #[test]
    fn a_document_without_an_end_is_whole_when_it_can_be_read() {
        let mut reply = ResponseBody::new(1000);
        assert_eq!(
            reply.feed(b"{\"choices\":[{\"text\":\"a\"}"),
            Ok(Vec::new())
        );
        assert!(reply.may_be_whole() && reply.so_far().is_none());
        assert_eq!(reply.feed(b"]}\n"), Ok(Vec::new()));
        assert!(reply.may_be_whole());
        assert_eq!(reply.so_far().map(|items| items.len()), Some(1));
        assert_eq!(reply.feed(&[b' '; 1000]), Err(TooLong));
    }

    #[test]
    fn odd_frames_are_read() {
        let chunk = "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}";
        for frame in [
            format!("data: data: {chunk}\n\ndata: data: [DONE]\n\n"),
            format!(" data: {chunk}\n\n data: [DONE]\n\n"),
            format!("data : {chunk}\n\ndata: \"[DONE]\"\n\n"),
        ] {
            assert_eq!(
                read(&frame),
                Some(vec!["a".to_owned(), "(done)".to_owned()]),
                "{frame}"
            );
        }
        for error in [
            "data: [ERROR] it broke\n\n",
            "data: Error: it broke\n\n",
            "event: exception\ndata: {\"message\": \"m\"}\n\n",
            "event: response.failed\ndata: {\"message\": \"m\"}\n\n",
        ] {
            let texts = read(error).expect("an answer");
            assert!(texts[0].starts_with('('), "{error}: {texts:?}");
        }
    }
}
