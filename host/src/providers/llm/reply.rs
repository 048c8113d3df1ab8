//! The body of an answer under 200: a stream of events or one document, whatever its content type
//! says. Pure.

use super::chunk::{Chunk, documents};
use super::sse::{Decoder, Event, TooLong};

/// What marks a stream's end.
const DONE: &[u8] = b"[DONE]";
/// What a line may have beside the texts that it brings: escapes, names, thoughts.
const OVERHEAD_BYTES: u64 = 1 << 20;
/// How much longer a text may be where all its characters are escaped.
const ESCAPED_FACTOR: u64 = 3;

/// How many bytes an event or a document may have whose texts are bounded by `limit_bytes`.
pub(super) fn bound(limit_bytes: u64) -> usize {
    let bound = limit_bytes
        .saturating_mul(ESCAPED_FACTOR)
        .saturating_add(OVERHEAD_BYTES);
    usize::try_from(bound).unwrap_or(usize::MAX)
}

/// What a part of the body is.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    Chunk(Box<Chunk>),
    /// The stream's end.
    Done,
    /// It should be a document and is none: why, and its text.
    Malformed {
        error: String,
        text: String,
    },
}

/// What kind of body it is, as far as is known.
enum Kind {
    /// Nothing but blanks so far.
    Unknown,
    Events(Box<Decoder>),
    /// One document, or several, one a line.
    Document(Vec<u8>),
    /// HTML, so it is no model server's.
    Page,
}

/// A body as it arrives.
pub(super) struct Reply {
    kind: Kind,
    has_items: bool,
    bound: usize,
}

impl Reply {
    /// Holds at most about `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            kind: Kind::Unknown,
            has_items: false,
            bound,
        }
    }

    /// Takes these bytes; gives what they complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Item>, TooLong> {
        if let Kind::Unknown = self.kind {
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
            self.kind = match bytes.trim_ascii_start().first() {
                None => return Ok(Vec::new()),
                Some(b'{' | b'[') => Kind::Document(Vec::new()),
                Some(b'<') => Kind::Page,
                Some(_) => Kind::Events(Box::new(Decoder::new(self.bound))),
            };
        }
        match &mut self.kind {
            Kind::Unknown | Kind::Page => Ok(Vec::new()),
            Kind::Events(decoder) => {
                let items = items(decoder.feed(bytes)?);
                self.has_items |= !items.is_empty();
                Ok(items)
            }
            Kind::Document(document) => {
                if document.len() + bytes.len() > self.bound {
                    return Err(TooLong);
                }
                document.extend_from_slice(bytes);
                Ok(Vec::new())
            }
        }
    }

    /// Whether it may be whole although nobody says so: a document that ends with a bracket.
    pub(super) fn may_be_whole(&self) -> bool {
        match &self.kind {
            Kind::Document(document) => {
                matches!(document.trim_ascii_end().last(), Some(b'}' | b']'))
            }
            _ => false,
        }
    }

    /// What is left at the end; none where it was no answer at all.
    pub(super) fn end(self) -> Option<Vec<Item>> {
        match self.kind {
            Kind::Unknown => Some(Vec::new()),
            Kind::Page => None,
            Kind::Events(decoder) => {
                let items = items(decoder.end());
                (self.has_items || !items.is_empty()).then_some(items)
            }
            Kind::Document(document) => Some(whole(document, self.bound)),
        }
    }

    /// What a document comes to that may be whole.
    pub(super) fn so_far(&self) -> Option<Vec<Item>> {
        let Kind::Document(document) = &self.kind else {
            return None;
        };
        let items = whole(document.clone(), self.bound);
        let is_whole = !items
            .iter()
            .any(|item| matches!(item, Item::Malformed { .. }));
        is_whole.then_some(items)
    }
}

fn whole(document: Vec<u8>, bound: usize) -> Vec<Item> {
    let event = Event {
        data: document,
        is_error: false,
    };
    let mut items = items(vec![event.clone()]);
    // A document that can be read has its end, whatever it says of why.
    if let [Item::Chunk(chunk)] = items.as_slice()
        && chunk.is_whole
    {
        items.push(Item::Done);
    }
    let [Item::Malformed { .. }] = items.as_slice() else {
        return items;
    };
    // One document a line, or a stream whose first event has no field.
    let mut decoder = Decoder::new(bound);
    let Ok(mut events) = decoder.feed(&event.data) else {
        return items;
    };
    events.extend(decoder.end());
    let lines = self::items(events);
    let is_sound = !lines.is_empty()
        && !lines
            .iter()
            .any(|item| matches!(item, Item::Malformed { .. }));
    if is_sound { lines } else { items }
}

fn items(events: Vec<Event>) -> Vec<Item> {
    let mut items = Vec::new();
    for Event { data, is_error } in events {
        let bare = data.trim_ascii();
        let unquoted = bare
            .strip_prefix(b"\"")
            .and_then(|bare| bare.strip_suffix(b"\""));
        if unquoted.unwrap_or(bare).eq_ignore_ascii_case(DONE) {
            items.push(Item::Done);
            continue;
        }
        let documents = match documents(&data) {
            Ok(documents) => documents,
            Err(error) => {
                items.push(Item::Malformed {
                    error: error.to_string(),
                    text: String::from_utf8_lossy(&data).into_owned(),
                });
                continue;
            }
        };
        if documents.is_empty() && (is_error || tells_of_error(&data)) {
            // An error in plain words.
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

/// Whether plain words in an answer's place tell that it failed.
fn tells_of_error(data: &[u8]) -> bool {
    let words = String::from_utf8_lossy(data)
        .trim_start()
        .to_ascii_lowercase();
    ["error", "[error", "traceback ("]
        .iter()
        .any(|begin| words.starts_with(begin))
}

fn chunk(chunk: Chunk) -> Item {
    Item::Chunk(Box::new(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a body, with what else there is in brackets; none if it is no answer.
    fn read(body: &str) -> Option<Vec<String>> {
        let mut reply = Reply::new(1000);
        let mut items = Vec::new();
        for byte in body.as_bytes() {
            items.extend(reply.feed(&[*byte]).expect("short enough"));
        }
        items.extend(reply.end()?);
        let shown = items.into_iter().map(|item| match item {
            Item::Chunk(chunk) => match chunk.error {
                Some(error) => format!("({error})"),
                None => chunk.text,
            },
            Item::Done => "(done)".to_owned(),
            Item::Malformed { .. } => "(malformed)".to_owned(),
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
        let mut reply = Reply::new(1000);
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
            let told = read(error).expect("an answer");
            assert!(told[0].starts_with('('), "{error}: {told:?}");
        }
    }
}
