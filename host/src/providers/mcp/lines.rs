//! A reader in which no line grows beyond a bound: a server that floods must not eat memory.
//!
//! The SDK has a bound of its own, but drops what is over it without a word, and the call that
//! waits for that line would wait for its time-out. Here an error is put in the line's place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The code of the error that stands for an answer which was too long. Outside of what JSON-RPC
/// and MCP have given a meaning.
pub(super) const TOO_LONG: i32 = -32_098;

/// What is read at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// Reads lines, each at most as long as `bound` says at that moment.
pub(super) struct BoundedLines<R> {
    inner: R,
    bound: Arc<AtomicUsize>,
    chunk: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of this line so far.
    line: usize,
    /// The rest of this line is dropped.
    dropping: bool,
    id: IdScanner,
    /// What is given out before anything else is read.
    ours: Vec<u8>,
}

impl<R> BoundedLines<R> {
    pub(super) fn new(inner: R, bound: Arc<AtomicUsize>) -> Self {
        Self {
            inner,
            bound,
            chunk: vec![0; CHUNK_BYTES].into(),
            start: 0,
            end: 0,
            line: 0,
            dropping: false,
            id: IdScanner::default(),
            ours: Vec::new(),
        }
    }

    /// Moves on within the chunk, at most to the end of a line.
    fn step(&mut self, out: &mut ReadBuf<'_>) {
        let rest = &self.chunk[self.start..self.end];
        let newline = rest.iter().position(|byte| *byte == b'\n');
        let until = newline.map_or(rest.len(), |at| at + 1);
        let bound = self.bound.load(Ordering::Relaxed);
        let taken = if self.dropping {
            until
        } else {
            let room = bound.saturating_sub(self.line).min(out.remaining());
            until.min(room)
        };
        if taken == 0 {
            // What was given out already ends here, and is no JSON.
            self.dropping = true;
            self.ours = b"\n".to_vec();
            return;
        }
        let taken_bytes = &rest[..taken];
        self.id.take(taken_bytes);
        if !self.dropping {
            out.put_slice(taken_bytes);
        }
        self.start += taken;
        self.line += taken;
        if newline.is_some_and(|at| at < taken) {
            let id = std::mem::take(&mut self.id).of_answer();
            if self.dropping {
                tracing::warn!(
                    bytes = self.line,
                    bound,
                    "a tool server's message is too long, and is dropped"
                );
                self.ours = id.map(|id| refusal(&id, self.line)).unwrap_or_default();
            }
            self.dropping = false;
            self.line = 0;
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedLines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        while out.filled().len() == before && out.remaining() > 0 {
            if !this.ours.is_empty() {
                let given = this.ours.len().min(out.remaining());
                out.put_slice(&this.ours[..given]);
                this.ours.drain(..given);
            } else if this.start < this.end {
                this.step(out);
            } else {
                let mut chunk = ReadBuf::new(&mut this.chunk);
                ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
                (this.start, this.end) = (0, chunk.filled().len());
                if this.end == 0 {
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn refusal(id: &str, bytes: usize) -> Vec<u8> {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{TOO_LONG},\"message\":\"{bytes} bytes\"}}}}\n"
    )
    .into_bytes()
}

/// Finds the id of a JSON-RPC message in passing, wherever in it the id stands.
#[derive(Default)]
struct IdScanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// What was read of the outermost object's present key or value.
    token: String,
    key: String,
    id: Option<String>,
    is_request: bool,
}

/// The longest key or id of interest.
const TOKEN_MAX_BYTES: usize = 128;

impl IdScanner {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.in_string {
                self.keep(byte);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    if self.depth == 1 {
                        self.value();
                    }
                    self.depth = self.depth.saturating_sub(1);
                }
                b':' if self.depth == 1 => self.key = std::mem::take(&mut self.token),
                b',' if self.depth == 1 => self.value(),
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => {
                    self.in_string = byte == b'"';
                    self.keep(byte);
                }
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        // Other bytes than ASCII are in no key or id of ours, and need not come out right.
        if self.depth == 1 && self.token.len() < TOKEN_MAX_BYTES {
            self.token.push(char::from(byte));
        }
    }

    fn value(&mut self) {
        let value = std::mem::take(&mut self.token);
        match self.key.as_str() {
            "\"id\"" => self.id = Some(value),
            "\"method\"" => self.is_request = true,
            _ => {}
        }
        self.key.clear();
    }

    /// The id as it was written, if the message answers a request of ours. Ours are numbers.
    fn of_answer(self) -> Option<String> {
        let is_number = |id: &String| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
        self.id.filter(|id| !self.is_request && is_number(id))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn read(input: &[u8], bound: usize) -> String {
        let mut lines = BoundedLines::new(input, Arc::new(AtomicUsize::new(bound)));
        let mut text = String::new();
        lines.read_to_string(&mut text).await.expect("reads");
        text
    }

    #[tokio::test]
    async fn short_lines_pass_as_they_are() {
        let text = "{\"id\":1}\n\n{\"id\":2}\r\nunfinished";
        assert_eq!(read(text.as_bytes(), 100).await, text);
        assert_eq!(read(b"", 100).await, "");
    }

    #[tokio::test]
    async fn a_long_answer_becomes_an_error_wherever_its_id_stands() {
        let long = "\\\"x}{[".repeat(10_000);
        for line in [
            format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{\"id\":8,\"t\":\"{long}\"}}}}"),
            format!(
                "{{\"result\":{{\"t\":[\"{long}\"],\"id\":8}}, \"jsonrpc\":\"2.0\", \"id\" : 7}}"
            ),
        ] {
            let text = format!("{line}\n{{\"id\":9}}\n");
            let read = read(text.as_bytes(), 1000).await;
            let lines: Vec<&str> = read.lines().collect();
            assert_eq!(lines[0], &line[..1000]);
            assert!(
                lines[1].starts_with("{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-32098"),
                "{}",
                lines[1]
            );
            assert_eq!(lines[2..], ["{\"id\":9}"]);
        }
    }

    #[tokio::test]
    async fn what_answers_nothing_is_dropped_in_silence() {
        let long = "x".repeat(5000);
        for line in [
            format!("{{\"method\":\"m\",\"id\":7,\"params\":\"{long}\"}}"),
            format!("{{\"method\":\"m\",\"params\":\"{long}\"}}"),
            format!("{{\"id\":\"a\",\"result\":\"{long}\"}}"),
            long.clone(),
        ] {
            let text = format!("{line}\nnext\n");
            let read = read(text.as_bytes(), 1000).await;
            assert_eq!(read, format!("{}\nnext\n", &line[..1000]));
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_not_held() {
        let read = read(&vec![b'x'; 1 << 20], 1000).await;
        assert_eq!(read.len(), 1001);
    }
}
