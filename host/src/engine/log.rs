//! The guest's log, written through `log.write` and its standard streams. It is bounded, and
//! writing to it never fails.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The maximum length of a line, in bytes; longer lines are truncated.
const LINE_MAX_BYTES: usize = 8 << 10;
/// The number of standard error lines that a trap's text repeats.
const LAST_WORDS_LINES: usize = 2;
/// The maximum length of these lines together, in bytes.
const LAST_WORDS_MAX_BYTES: usize = 1 << 10;
/// The last line of a Rust panic, which is useless here.
const PANIC_NOTE: &str = "note: run with `RUST_BACKTRACE";

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// For the plugin's author.
    Debug,
    /// Normal operation; also the level of standard output.
    Info,
    /// Worth attention; also the level of standard error.
    Warn,
    /// A failure.
    Error,
}

/// A line for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub level: LogLevel,
    /// The text, at most 8 KiB.
    pub text: String,
}

/// The log lines of one guest call. Shared with the guest's standard streams.
pub(super) struct GuestLog(Mutex<Lines>);

struct Lines {
    lines: Vec<LogLine>,
    max: usize,
    dropped: u64,
    /// The unfinished last lines of standard output and standard error.
    partial: [Vec<u8>; 2],
}

/// A standard output stream of the guest.
#[derive(Clone, Copy)]
pub(super) enum StdStream {
    Out,
    Err,
}

impl StdStream {
    fn level(self) -> LogLevel {
        match self {
            Self::Out => LogLevel::Info,
            Self::Err => LogLevel::Warn,
        }
    }
}

impl GuestLog {
    pub(super) fn new(lines_max: u32) -> Self {
        Self(Mutex::new(Lines {
            lines: Vec::new(),
            max: lines_max as usize,
            dropped: 0,
            partial: Default::default(),
        }))
    }

    pub(super) fn write(&self, level: LogLevel, text: String) {
        self.lines().push(level, text);
    }

    /// Logs the complete lines written to a stream and buffers the rest.
    pub(super) fn stream(&self, stream: StdStream, bytes: &[u8]) {
        let mut lines = self.lines();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let partial = &mut lines.partial[stream as usize];
            let line = piece.strip_suffix(b"\n");
            // Buffer one byte more than the limit, so that `cut` marks the line as truncated.
            let room = (LINE_MAX_BYTES + 1).saturating_sub(partial.len());
            let text = line.unwrap_or(piece);
            partial.extend(&text[..text.len().min(room)]);
            if line.is_some() {
                lines.end(stream);
            }
        }
    }

    /// Takes all lines and the number of dropped ones.
    pub(super) fn take(&self) -> (Vec<LogLine>, u64) {
        let mut lines = self.lines();
        for stream in [StdStream::Out, StdStream::Err] {
            if !lines.partial[stream as usize].is_empty() {
                lines.end(stream);
            }
        }
        (
            std::mem::take(&mut lines.lines),
            std::mem::take(&mut lines.dropped),
        )
    }

    /// Returns what the guest last wrote to standard error, on one line: for a panic, its location
    /// and message.
    pub(super) fn last_words(&self) -> Option<String> {
        let lines = self.lines();
        let partial = String::from_utf8_lossy(&lines.partial[StdStream::Err as usize]);
        let warnings = lines.lines.iter().filter(|l| l.level == LogLevel::Warn);
        let mut last: Vec<_> = std::iter::once(partial.as_ref())
            .chain(warnings.rev().map(|line| line.text.as_str()))
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(PANIC_NOTE))
            .take(LAST_WORDS_LINES)
            .collect();
        last.reverse();
        let mut words = last.join(" ");
        cut(&mut words, LAST_WORDS_MAX_BYTES);
        (!words.is_empty()).then_some(words)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Poisoning is harmless: a log that a panic left incomplete is still usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn end(&mut self, stream: StdStream) {
        let bytes = std::mem::take(&mut self.partial[stream as usize]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.push(stream.level(), text);
    }

    fn push(&mut self, level: LogLevel, mut text: String) {
        if self.lines.len() >= self.max {
            self.dropped += 1;
            return;
        }
        cut(&mut text, LINE_MAX_BYTES);
        self.lines.push(LogLine { level, text });
    }
}

/// Truncates a text that is longer than `max_bytes` at a character boundary and marks it with
/// "...".
pub(super) fn cut(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push_str(" ...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_become_lines() {
        let log = GuestLog::new(10);
        log.stream(StdStream::Out, b"a\nb");
        log.stream(StdStream::Err, b"!\n");
        log.stream(StdStream::Out, b"c\n\nd");
        let (lines, dropped) = log.take();
        let logged: Vec<_> = lines.iter().map(|l| (l.level, l.text.as_str())).collect();
        let (info, warn) = (LogLevel::Info, LogLevel::Warn);
        assert_eq!(
            logged,
            [
                (info, "a"),
                (warn, "!"),
                (info, "bc"),
                (info, ""),
                (info, "d")
            ]
        );
        assert_eq!(dropped, 0);
    }

    #[test]
    fn the_last_words_of_a_panic_are_its_message() {
        let log = GuestLog::new(10);
        assert_eq!(log.last_words(), None);
        log.stream(
            StdStream::Err,
            b"earlier\n\nthread panicked at a.rs:1:\nwhy\n",
        );
        log.stream(
            StdStream::Err,
            b"note: run with `RUST_BACKTRACE=1` to see more\n",
        );
        assert_eq!(
            log.last_words().as_deref(),
            Some("thread panicked at a.rs:1: why")
        );
    }

    #[test]
    fn lines_and_their_number_are_bounded() {
        let log = GuestLog::new(2);
        log.write(LogLevel::Info, "é".repeat(LINE_MAX_BYTES));
        log.stream(StdStream::Out, &[b'x'; 3 * LINE_MAX_BYTES]);
        log.stream(StdStream::Out, b"\n");
        log.write(LogLevel::Error, "lost".into());
        let (lines, dropped) = log.take();
        assert_eq!((lines.len(), dropped), (2, 1));
        for line in lines {
            assert!(line.text.len() <= LINE_MAX_BYTES + 4 && line.text.ends_with(" ..."));
        }
    }
}
