//! A lenient parser of server-sent events, as model servers send them.
//!
//! The maintained parser crates rescan a line from its start with each chunk that arrives, and let
//! it grow without limit. This one reads each byte once, and no event grows beyond a bound.

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// Its data. Several lines are joined by newlines.
    pub(super) data: Vec<u8>,
    /// The server marked it as an error.
    pub(super) is_error: bool,
}

/// An event that is longer than the bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

const BOM: &[u8] = "\u{feff}".as_bytes();

/// Assembles events from bytes, wherever their chunk boundaries are.
pub(super) struct Decoder {
    /// The line so far.
    line: Vec<u8>,
    /// The event so far.
    data: Vec<u8>,
    has_data: bool,
    is_error: bool,
    /// The last line ended with a carriage return, so a newline that follows belongs to it.
    after_return: bool,
    first_line: bool,
    bound: usize,
}

impl Decoder {
    /// Holds at most `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            is_error: false,
            after_return: false,
            first_line: true,
            bound,
        }
    }

    /// Adds bytes, and returns the events that they complete.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<SseEvent>, TooLong> {
        let mut events = Vec::new();
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + self.data.len() + part.len() > self.bound {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(&mut events);
        }
        Ok(events)
    }

    /// Returns the remaining events at the end of the stream: many servers omit the last newline.
    pub(super) fn end(mut self) -> Vec<SseEvent> {
        let mut events = Vec::new();
        self.end_line(&mut events);
        self.dispatch(&mut events);
        events
    }

    fn end_line(&mut self, events: &mut Vec<SseEvent>) {
        let line = std::mem::take(&mut self.line);
        let first = std::mem::replace(&mut self.first_line, false);
        let line = match line.strip_prefix(BOM) {
            Some(line) if first => line,
            _ => &line,
        };
        if line.is_empty() {
            self.dispatch(events);
            return;
        }
        // Some servers send errors, or all their events, without a field name.
        if line.starts_with(b"{") {
            self.dispatch(events);
            self.add(line);
            self.dispatch(events);
            return;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(colon) => (line[..colon].trim_ascii(), &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        // Some servers repeat the field name: `data: data: …`.
        let again = value.strip_prefix(b"data:").filter(|_| field == b"data");
        let value = again.map_or(value, <[u8]>::trim_ascii_start);
        match field {
            b"data" => {
                // Some servers omit the empty line between two events.
                let begins = value.trim_ascii_start().starts_with(b"{")
                    || value.trim_ascii().eq_ignore_ascii_case(b"[DONE]");
                if begins && self.data.last() == Some(&b'}') {
                    self.dispatch(events);
                }
                self.add(value);
            }
            b"event" => {
                let name = String::from_utf8_lossy(value).to_ascii_lowercase();
                let names = ["error", "exception", "fail"];
                self.is_error = names.iter().any(|part| name.contains(part));
            }
            // llama.cpp has sent errors in a field of their own.
            b"error" => {
                self.dispatch(events);
                self.add(value);
                self.is_error = true;
                self.dispatch(events);
            }
            // Comments, ids and any other fields.
            _ => {}
        }
    }

    fn add(&mut self, value: &[u8]) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
    }

    fn dispatch(&mut self, events: &mut Vec<SseEvent>) {
        let is_error = std::mem::take(&mut self.is_error);
        if std::mem::take(&mut self.has_data) {
            let data = std::mem::take(&mut self.data);
            events.push(SseEvent { data, is_error });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, bool)> {
        let mut decoder = Decoder::new(1000);
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(decoder.feed(piece).expect("short enough"));
        }
        events.extend(decoder.end());
        let read = events.into_iter();
        read.map(|event| {
            (
                String::from_utf8_lossy(&event.data).into_owned(),
                event.is_error,
            )
        })
        .collect()
    }

    #[test]
    fn events_are_found_however_lines_end() {
        let plain = |data: &[&str]| -> Vec<(String, bool)> {
            data.iter()
                .map(|data| ((*data).to_owned(), false))
                .collect()
        };
        for (text, expected) in [
            ("data: a\n\ndata:b\n\n", plain(&["a", "b"])),
            ("data: a\r\n\r\ndata:  b\r\n\r\n", plain(&["a", " b"])),
            ("data: a\r\rdata: b\r\r", plain(&["a", "b"])),
            ("\u{feff}data: a\n\n: c\n\ndata: b", plain(&["a", "b"])),
            ("data: a\ndata: b\n\n", plain(&["a\nb"])),
            (
                "data: {1}\ndata: {2}\ndata: [DONE]\n",
                plain(&["{1}", "{2}", "[DONE]"]),
            ),
            ("data: {\ndata: 1}\n\n", plain(&["{\n1}"])),
            (
                "id: 1\nevent: x\nretry: 5\ndata: a\n\nevent: y\n\n",
                plain(&["a"]),
            ),
            ("data\n\ndata:\n\n", plain(&["", ""])),
            ("{\"a\":1}\n{\"b\":2}\n", plain(&["{\"a\":1}", "{\"b\":2}"])),
            ("", plain(&[])),
        ] {
            assert_eq!(decode([text.as_bytes()]), expected, "{text:?}");
        }
        for text in ["event: error\ndata: a\n\n", "error: a\n\n"] {
            assert_eq!(
                decode([text.as_bytes()]),
                [("a".to_owned(), true)],
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            lines in prop::collection::vec("(data: ?|event: |: |error: |x|)[a-e{}:\u{e9}]{0,6}(\n|\r|\r\n)", 0..20),
            cuts in prop::collection::vec(0..8_usize, 0..100),
        ) {
            let text = lines.concat();
            let mut rest = text.as_bytes();
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            prop_assert_eq!(decode(pieces), decode([text.as_bytes()]));
        }
    }

    #[test]
    fn a_line_of_32_mb_is_refused_at_the_bound() {
        let bound = 1 << 20;
        let mut decoder = Decoder::new(bound);
        let piece = vec![b'x'; 16 << 10];
        let mut taken = decoder.feed(b"data: ").map(|events| events.len());
        let mut fed = 0;
        while taken == Ok(0) && fed < 32 << 20 {
            taken = decoder.feed(&piece).map(|events| events.len());
            fed += piece.len();
        }
        assert_eq!(taken, Err(TooLong));
        assert!(fed <= bound + piece.len(), "{fed}");
        assert!(decoder.line.capacity() <= 2 * bound);
        // Many short lines of one event are bounded too.
        let mut decoder = Decoder::new(bound);
        let refused = (0..bound).any(|_| decoder.feed(b"data: xxxx\n").is_err());
        assert!(refused);
    }

    #[test]
    fn reading_is_linear() {
        // Feeds byte by byte. A parser that rescans the line with each byte would take hours.
        let begun = Instant::now();
        let mut decoder = Decoder::new(64 << 20);
        for _ in 0..(8 << 20) {
            assert_eq!(decoder.feed(b"x"), Ok(Vec::new()));
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
    }
}
