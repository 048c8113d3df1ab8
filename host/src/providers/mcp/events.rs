//! Measures the size of a server-sent event while it streams by.

/// The size of the current event, across chunks.
#[derive(Debug, Default)]
pub(super) struct EventSize {
    event: usize,
    line: usize,
    is_comment: bool,
    after_cr: bool,
}

impl EventSize {
    /// Counts a chunk. Returns whether everything that a reader must buffer is within `bound`
    /// bytes.
    pub(super) fn take(&mut self, chunk: &[u8], bound: usize) -> bool {
        for &byte in chunk {
            let after_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    if self.line == 0 {
                        self.event = 0;
                    }
                    self.line = 0;
                    self.after_cr = byte == b'\r';
                }
                _ => {
                    if self.line == 0 {
                        self.is_comment = byte == b':';
                    }
                    self.line += 1;
                    // Comments do not count for the event: readers drop them line by line, and
                    // servers send them without end to keep a stream alive.
                    self.event += usize::from(!self.is_comment);
                    if self.line.max(self.event) > bound {
                        return false;
                    }
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(text: &str, bound: usize) -> bool {
        // The result must not depend on the chunk size.
        let all = |chunk: usize| {
            let mut size = EventSize::default();
            text.as_bytes()
                .chunks(chunk)
                .all(|part| size.take(part, bound))
        };
        let whole = all(text.len());
        assert!((1..5).all(|chunk| all(chunk) == whole), "{text:?}");
        whole
    }

    #[test]
    fn events_are_bounded_and_streams_are_not() {
        for (text, expected) in [
            ("data: a\n\n", true),
            ("data: abcd\n\n", false),
            ("data: a", true),
            ("data: a\n\ndata: a\n\ndata: a\n\n", true),
            ("data: a\r\n\r\ndata: a\r\n\r\n", true),
            ("data: a\r\rdata: a\r\r", true),
            ("data: a\ndata: b\n\n", false),
            ("data: a\r\ndata: b\r\n", false),
            (": ping\n: ping\n: ping\n", true),
            (": a comment that is too long", false),
            ("data: a\n: ping\ndata: b\n", false),
        ] {
            assert_eq!(fits(text, 8), expected, "{text:?}");
        }
    }
}
