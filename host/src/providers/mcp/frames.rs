//! Messages in a stream of bytes. MCP has one on each line; servers spread them over several, or put
//! several on one.
//!
//! A message ends where its outermost bracket closes. What is none is passed over to the end of its
//! line, so that the message behind it is found. Nothing that is held grows beyond a bound, and each
//! byte is looked at once or twice: a server that floods must eat neither memory nor time.

use std::collections::VecDeque;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::scan::JsonScan;
use crate::providers::lossy;

/// What may be a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CandidateFrame {
    /// Its bytes; none where it is too long.
    pub(super) bytes: Option<Vec<u8>>,
    /// How many it has, or had when it was given up.
    pub(super) length: usize,
    /// The request of ours that it seems to answer: found without reading it.
    pub(super) answers: Option<i64>,
    /// Other text stands in front of it on its line, which may only tell of a message.
    pub(super) is_quoted: bool,
}

/// Cuts what comes into messages.
#[derive(Default)]
pub(super) struct Frames {
    place: FramePosition,
    /// The message so far; empty once it is too long.
    message: Vec<u8>,
    length: usize,
    too_long: bool,
    /// Where its present line begins, once it has several.
    line: Option<usize>,
    line_is_new: bool,
    /// A line ended within one of its texts.
    is_torn: bool,
    /// It closed, and is none: it goes on to the end of its line only.
    is_waste: bool,
    is_quoted: bool,
    /// Within other text, a bracket came that may begin a message.
    is_opened: bool,
    scan: JsonScan,
    ready: VecDeque<CandidateFrame>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum FramePosition {
    /// At the start of a line, or behind a message.
    #[default]
    Between,
    /// In a line that holds no message.
    Skipping,
    Inside,
}

impl Frames {
    /// The next message.
    pub(super) fn next(&mut self) -> Option<CandidateFrame> {
        self.ready.pop_front()
    }

    /// Takes what came. A message has at most `bound` bytes.
    pub(super) fn take(&mut self, chunk: &[u8], bound: usize) {
        for &byte in chunk {
            match self.place {
                FramePosition::Between => match byte {
                    b'{' | b'[' => self.begin(byte, bound),
                    // Whitespace, and marks that some put in front of a text or a record.
                    b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF | 0x1E => {}
                    _ => self.place = FramePosition::Skipping,
                },
                FramePosition::Skipping => self.skip(byte, bound),
                FramePosition::Inside => self.inside(byte, bound),
            }
        }
    }

    /// Passes over other text, up to where a message seems to begin.
    fn skip(&mut self, byte: u8, bound: usize) {
        let was_opened = std::mem::replace(&mut self.is_opened, byte == b'{');
        match byte {
            b'\n' => self.place = FramePosition::Between,
            b'"' if was_opened => {
                self.is_quoted = true;
                self.begin(b'{', bound);
                self.inside(byte, bound);
            }
            _ => {}
        }
    }

    fn begin(&mut self, byte: u8, bound: usize) {
        self.place = FramePosition::Inside;
        self.inside(byte, bound);
    }

    fn inside(&mut self, byte: u8, bound: usize) {
        if byte == b'\n' {
            return self.line_ends(bound);
        }
        if std::mem::take(&mut self.line_is_new) && self.too_long && byte == b'{' {
            // What is too long cannot be looked at once more; messages begin like this.
            self.finish();
            return self.begin(byte, bound);
        }
        self.push(byte, bound);
        if self.is_waste {
            return;
        }
        self.scan.take(byte);
        if self.scan.is_closed() {
            // A text without end, of what is no message, ends within the next message.
            let is_torn = self.is_torn && !self.too_long;
            self.is_waste = is_torn && lossy::parse(&self.message).is_err();
            if !self.is_waste {
                self.finish();
            }
        }
    }

    fn push(&mut self, byte: u8, bound: usize) {
        self.length += 1;
        if self.length > bound && !self.too_long {
            self.too_long = true;
            self.message = Vec::new();
        }
        if !self.too_long {
            self.message.push(byte);
        }
    }

    /// A line ends within what may be a message.
    fn line_ends(&mut self, bound: usize) {
        let goes_on = match self.line {
            _ if self.is_quoted => {
                self.reset();
                return;
            }
            _ if self.too_long => true,
            None if self.scan.in_string() => self.message.starts_with(b"{\""),
            None => is_beginning(&self.message),
            Some(line) => {
                if is_message(&self.message[line..]) {
                    // What stood before it never was one.
                    let message = self.message.split_off(line);
                    self.reset();
                    self.take(&message, bound);
                    return;
                }
                !self.is_waste
            }
        };
        if !goes_on {
            self.finish();
            return;
        }
        self.is_torn |= self.scan.in_string();
        self.push(b'\n', bound);
        self.line = Some(self.message.len());
        self.line_is_new = true;
    }

    fn finish(&mut self) {
        let frame = CandidateFrame {
            length: self.length,
            answers: self.scan.answers(),
            is_quoted: self.is_quoted,
            bytes: (!self.too_long).then(|| std::mem::take(&mut self.message)),
        };
        let is_quoted = self.is_quoted || frame.bytes.as_deref().is_some_and(is_label);
        self.reset();
        if is_quoted {
            // The rest of the line is text as well.
            self.place = FramePosition::Skipping;
        }
        self.ready.push_back(frame);
    }

    fn reset(&mut self) {
        self.place = FramePosition::Between;
        self.message = Vec::new();
        (self.length, self.too_long) = (0, false);
        (self.line, self.line_is_new) = (None, false);
        (self.is_torn, self.is_waste) = (false, false);
        (self.is_quoted, self.is_opened) = (false, false);
        self.scan = JsonScan::default();
    }
}

/// Whether more may follow to make it JSON.
fn is_beginning(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let text = lossy::without_raw(&text);
    serde_json::from_str::<IgnoredAny>(&text).is_err_and(|error| error.is_eof())
}

/// Whether brackets hold a word of a log, as `[INFO]`, and no messages.
fn is_label(bytes: &[u8]) -> bool {
    bytes.starts_with(b"[") && serde_json::from_slice::<IgnoredAny>(bytes).is_err()
}

/// Whether a line is a message by itself. Within one that is spread over several lines, whole
/// objects stand on a line as well, and are none.
fn is_message(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    if !(line.starts_with(b"{") && line.ends_with(b"}")) {
        return false;
    }
    let Ok(Value::Object(object)) = lossy::parse(line) else {
        return false;
    };
    let has = |key| object.contains_key(key);
    has("jsonrpc") || (has("id") && (has("result") || has("error")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of a text, however it is cut into chunks.
    fn frames(text: &[u8], bound: usize) -> Vec<CandidateFrame> {
        let of_chunks = |size: usize| {
            let mut frames = Frames::default();
            text.chunks(size)
                .for_each(|chunk| frames.take(chunk, bound));
            std::iter::from_fn(move || frames.next()).collect::<Vec<_>>()
        };
        let whole = of_chunks(text.len().max(1));
        for size in [1, 2, 3, 7] {
            assert_eq!(of_chunks(size), whole, "{size}");
        }
        whole
    }

    fn texts(text: &str) -> Vec<String> {
        let frames = frames(text.as_bytes(), 1000).into_iter();
        let bytes = frames.map(|frame| frame.bytes.expect("it is short"));
        bytes
            .map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
            .collect()
    }

    #[test]
    fn messages_are_found_however_they_are_laid_out() {
        for (text, expected) in [
            (
                "{\"id\":1}\n\n{\"id\":2}\r\n",
                vec!["{\"id\":1}", "{\"id\":2}"],
            ),
            ("\u{feff}{\"id\":1}\n", vec!["{\"id\":1}"]),
            (
                "{\"id\":1}{\"id\":2} {\"id\":3}",
                vec!["{\"id\":1}", "{\"id\":2}", "{\"id\":3}"],
            ),
            (
                "{\n  \"id\": 1,\n  \"result\": {\n    \"a\": []\n  }\n}\n",
                vec!["{\n  \"id\": 1,\n  \"result\": {\n    \"a\": []\n  }\n}"],
            ),
            // Without indentation, objects begin lines as messages do.
            (
                "{\n\"id\": 1,\n\"result\": [\n{\"id\": 2},\n{\n\"a\": 1}\n]\n}\n",
                vec!["{\n\"id\": 1,\n\"result\": [\n{\"id\": 2},\n{\n\"a\": 1}\n]\n}"],
            ),
            ("[{\"id\":1},{\"id\":2}]\n", vec!["[{\"id\":1},{\"id\":2}]"]),
            (
                "Content-Length: 8\r\n\r\n{\"id\":1}Content-Length: 8\r\n\r\n{\"id\":2}",
                vec!["{\"id\":1}", "{\"id\":2}"],
            ),
            ("{\"a\":\"}{\\\"\"}\n", vec!["{\"a\":\"}{\\\"\"}"]),
        ] {
            assert_eq!(texts(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_message_hides_none() {
        let next = "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}";
        for noise in [
            "starting {\n",
            "{\n",
            "[\n",
            "[INFO] it {starts\n",
            "{\"jsonrpc\": \"2.0\", \"id\": 5, nonsense\n",
            "{\"a\": \"unfinished\n",
            "[1, 2,\n",
            "{ don't\n\n",
            "\u{0}\u{1}{{{\n",
        ] {
            let found = texts(&format!("{noise}{next}\n"));
            assert_eq!(found.last().map(String::as_str), Some(next), "{noise:?}");
        }
    }

    #[test]
    fn a_text_may_hold_line_breaks() {
        let next = "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{\"t\":\"}\"}}";
        for text in [
            "{\"jsonrpc\":\"2.0\",\"result\":{\"t\":\"a\nb\"},\"id\":3}",
            "{\"id\":3,\"result\":\"a\n\n{\nb: [}\\\"\n\"}",
        ] {
            assert_eq!(texts(&format!("{text}\n{next}\n")), [text, next]);
            let found = frames(text.as_bytes(), 1000);
            assert_eq!(found[0].answers, Some(3));
        }
        // What is no message hides none, whatever the next one holds.
        for noise in [
            "{\"a\": \"unfinished\n",
            "{\"a\": \"unfinished\n}\nand so on\n",
        ] {
            let found = texts(&format!("{noise}{next}\n"));
            assert_eq!(found.last().map(String::as_str), Some(next), "{noise:?}");
        }
    }

    #[test]
    fn a_message_is_found_behind_other_text_and_told_as_such() {
        let message = "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}";
        for text in [
            "Loading...",
            "\u{1b}[2K\u{1b}[1G",
            "{x} 100% ",
            "[INFO] ",
            "{{",
            "got {\"a\":1}, ",
        ] {
            let found = frames(format!("{text}{message}\n{message}\n").as_bytes(), 1000);
            let found: Vec<_> = found
                .iter()
                .filter(|frame| frame.answers == Some(9))
                .map(|frame| (frame.bytes.as_deref(), frame.is_quoted))
                .collect();
            let bytes = Some(message.as_bytes());
            match text {
                // Never closed, it may be the beginning of one that goes on.
                "{{" => assert_eq!(found.last(), Some(&(bytes, false)), "{text}"),
                _ => assert_eq!(found, [(bytes, true), (bytes, false)], "{text}"),
            }
        }
        // One that does not end on its line is none.
        assert_eq!(texts(&format!("log {{\"a\":\n{message}\n")), [message]);
    }

    #[test]
    fn what_is_too_long_is_told_by_its_id_and_not_held() {
        let long = "\\\"x}{[".repeat(10_000);
        for line in [
            format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{\"id\":8,\"t\":\"{long}\"}}}}"),
            format!(
                "{{\"result\":{{\"t\":[\"{long}\"],\"id\":8}}, \"jsonrpc\":\"2.0\", \"id\" : \"7\"}}"
            ),
            format!("{{\n  \"id\": 7,\n  \"result\": [\n    \"{long}\"\n  ]\n}}"),
        ] {
            let found = frames(format!("{line}\n{{\"id\":9}}\n").as_bytes(), 1000);
            assert_eq!(found.len(), 2, "{found:?}");
            assert_eq!((&found[0].bytes, found[0].answers), (&None, Some(7)));
            assert_eq!(found[0].length, line.len());
            assert_eq!(found[1].bytes.as_deref(), Some(&b"{\"id\":9}"[..]));
        }
        for line in [
            format!("{{\"method\":\"m\",\"id\":7,\"params\":\"{long}\"}}"),
            format!("{{\"method\":\"m\",\"params\":\"{long}\"}}"),
            format!("{{\"id\":\"a\",\"result\":\"{long}\"}}"),
        ] {
            let found = frames(format!("{line}\n").as_bytes(), 1000);
            assert_eq!((&found[0].bytes, found[0].answers), (&None, None));
        }
    }

    #[test]
    fn a_message_without_end_is_not_held_and_the_next_one_is_found() {
        let mut frames = Frames::default();
        frames.take(b"{\"a\":", 1000);
        for _ in 0..1000 {
            frames.take(&[b'['; 1000], 1000);
            assert!(frames.message.capacity() <= 2000);
        }
        frames.take(b"\n[\n[\n{\"jsonrpc\":\"2.0\"}\n", 1000);
        let found: Vec<_> = std::iter::from_fn(|| frames.next()).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            found[1].bytes.as_deref(),
            Some(&b"{\"jsonrpc\":\"2.0\"}"[..])
        );
    }
}
