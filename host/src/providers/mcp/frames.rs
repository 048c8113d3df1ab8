//! Splits a stream of bytes into messages. MCP requires one message per line, but servers spread
//! one over several lines or put several on one.
//!
//! A message ends where its outermost bracket closes. Other text is skipped up to the end of its
//! line, so that the message behind it is found. No buffer grows beyond a bound, and each byte is
//! scanned once or twice: a server that floods must consume neither memory nor time.

use std::collections::VecDeque;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::scan::JsonScan;
use crate::providers::lossy;

/// A piece of the stream that may be a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CandidateFrame {
    /// Its bytes; `None` if it is too long.
    pub(super) bytes: Option<Vec<u8>>,
    /// Its length in bytes, whether or not they were kept.
    pub(super) length: usize,
    /// Our request that it seems to answer, found by scanning without parsing.
    pub(super) answers: Option<i64>,
    /// Whether other text precedes it on its line, which may merely quote a message.
    pub(super) is_quoted: bool,
}

/// Splits incoming bytes into messages.
#[derive(Default)]
pub(super) struct Frames {
    place: FramePosition,
    /// The message so far; empty once it is too long.
    message: Vec<u8>,
    length: usize,
    too_long: bool,
    /// Where its current line begins, once the message spans several.
    line: Option<usize>,
    line_is_new: bool,
    /// A line ended inside a string.
    is_torn: bool,
    /// Its brackets closed, but it is not valid JSON: it only extends to the end of its line.
    is_waste: bool,
    is_quoted: bool,
    /// While skipping other text, the last byte was a bracket that may begin a message.
    is_opened: bool,
    scan: JsonScan,
    ready: VecDeque<CandidateFrame>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum FramePosition {
    /// At the start of a line, or after a message.
    #[default]
    Between,
    /// In a line that does not begin with a message.
    Skipping,
    Inside,
}

impl Frames {
    /// Returns the next message.
    pub(super) fn next(&mut self) -> Option<CandidateFrame> {
        self.ready.pop_front()
    }

    /// Consumes a chunk. Messages longer than `bound` bytes are not kept.
    pub(super) fn take(&mut self, chunk: &[u8], bound: usize) {
        for &byte in chunk {
            match self.place {
                FramePosition::Between => match byte {
                    b'{' | b'[' => self.begin(byte, bound),
                    // Whitespace, the UTF-8 byte order mark, and the record separator that some
                    // servers prepend.
                    b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF | 0x1E => {}
                    _ => self.place = FramePosition::Skipping,
                },
                FramePosition::Skipping => self.skip(byte, bound),
                FramePosition::Inside => self.inside(byte, bound),
            }
        }
    }

    /// Skips other text, up to where a message seems to begin.
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
            // A message that is too long was not kept and cannot be rescanned; a line that begins
            // with `{` starts the next one.
            self.finish();
            return self.begin(byte, bound);
        }
        self.push(byte, bound);
        if self.is_waste {
            return;
        }
        self.scan.take(byte);
        if self.scan.is_closed() {
            // An unterminated string in text that is no message would close inside the next
            // message, so parse before accepting.
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

    /// Handles a line end inside what may be a message.
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
                    // The last line is a message by itself, so what precedes it never was one.
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
            // The rest of the line is other text as well.
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

/// Returns whether the bytes are a prefix of valid JSON.
fn is_beginning(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let text = lossy::without_raw(&text);
    serde_json::from_str::<IgnoredAny>(&text).is_err_and(|error| error.is_eof())
}

/// Returns whether the brackets hold a log label such as `[INFO]`, and not messages.
fn is_label(bytes: &[u8]) -> bool {
    bytes.starts_with(b"[") && serde_json::from_slice::<IgnoredAny>(bytes).is_err()
}

/// Returns whether a line is a message by itself. A whole object on a line is not enough: a message
/// that spans several lines contains such lines as well.
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

    /// Returns the frames of a text, and asserts that they do not depend on the chunk size.
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
            // Without indentation, nested objects begin lines just as messages do.
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
        // Other text never hides the next message, whatever that holds.
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
                // Never closed, so it may be the beginning of a message that continues.
                "{{" => assert_eq!(found.last(), Some(&(bytes, false)), "{text}"),
                _ => assert_eq!(found, [(bytes, true), (bytes, false)], "{text}"),
            }
        }
        // A quoted message that does not end on its line is not a message.
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
