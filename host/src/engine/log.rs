//! What a guest logs, by `log.write` and by its standard streams: bounded, never an error.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The longest line, in bytes; longer ones are cut.
const LINE_MAX_BYTES: usize = 8 << 10;
/// Lines of standard error that a trap's text repeats.
const LAST_WORDS_LINES: usize = 2;
/// And how much of them, in bytes.
const LAST_WORDS_MAX_BYTES: usize = 1 << 10;
/// The last line of a Rust panic, of no use to anybody here.
const PANIC_NOTE: &str = "note: run with `RUST_BACKTRACE";

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// For the author.
    Debug,
    /// As it should be. Also standard output.
    Info,
    /// Worth a look. Also standard error.
    Warn,
    /// Something went wrong.
    Error,
}

/// One line for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How grave.
    pub level: LogLevel,
    /// What, at most 8 KiB.
    pub text: String,
}

/// The lines of one call of the engine. Shared with the guest's standard streams.
pub(super) struct GuestLog(Mutex<Lines>);

struct Lines {
    lines: Vec<LogLine>,
    max: usize,
    dropped: u64,
    /// What standard output and standard error hold of a line that has not ended.
    partial: [Vec<u8>; 2],
}

/// A standard stream of the guest's.
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

    /// Takes what was written to a stream: whole lines are logged, the rest waits for its end.
    pub(super) fn stream(&self, stream: StdStream, bytes: &[u8]) {
        let mut lines = self.lines();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let partial = &mut lines.partial[stream as usize];
            let line = piece.strip_suffix(b"\n");
            // Kept one byte over the limit, so that the cut is seen to be one.
            let room = (LINE_MAX_BYTES + 1).saturating_sub(partial.len());
            let text = line.unwrap_or(piece);
            partial.extend(&text[..text.len().min(room)]);
            if line.is_some() {
                lines.end(stream);
            }
        }
    }

    /// All lines, and how many were dropped.
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

    /// What the guest last wrote to standard error, on one line: of a panic, where and why.
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
        // A log that a panic left half-written is still a log.
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

/// Cuts a text that is over `max_bytes`, between two characters, and marks the cut.
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
        let told: Vec<_> = lines.iter().map(|l| (l.level, l.text.as_str())).collect();
        let (info, warn) = (LogLevel::Info, LogLevel::Warn);
        assert_eq!(
            told,
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
