//! Logs a server's standard error line by line, without ever blocking the server.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::ToolServer;
use super::brief::brief;

/// The maximum length of a line; the rest of a longer one is dropped.
const LINE_MAX_BYTES: usize = 2 << 10;
/// The number of lines logged in one window; further ones are only counted.
const LINES_MAX: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);

/// How long the rest of a pipe is waited for whose server has ended.
const REST_PATIENCE: Duration = Duration::from_millis(500);

/// The last line of a server's standard error, which mostly says why it ended.
#[derive(Clone, Default)]
pub(super) struct LastWords {
    line: Arc<Mutex<String>>,
    /// Cancelled once the pipe has been read to its end.
    all_read: CancellationToken,
}

impl LastWords {
    /// Returns the reason with the last line, if any, appended. The server has ended.
    pub(super) async fn after(&self, reason: &str) -> String {
        // It may have said why just before.
        let _ = timeout(REST_PATIENCE, self.all_read.cancelled()).await;
        let words = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if words.is_empty() {
            reason.to_owned()
        } else {
            format!("{reason}; its last words: {words}")
        }
    }

    fn set(&self, line: &str) {
        line.clone_into(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Reads and logs until the pipe ends, which is when no process holds it any more.
pub(super) async fn drain(
    mut errors: impl AsyncRead + Unpin,
    server: Arc<str>,
    settings: Arc<ToolServer>,
    last: LastWords,
) {
    let mut log = StderrLog {
        server,
        settings,
        last,
        window: Instant::now(),
        lines: 0,
    };
    let mut chunk = [0; 4 << 10];
    let mut line = Vec::new();
    while let Ok(length @ 1..) = errors.read(&mut chunk).await {
        for &byte in &chunk[..length] {
            match byte {
                b'\n' => log.line(&mut line),
                _ if line.len() < LINE_MAX_BYTES => line.push(byte),
                _ => {}
            }
        }
    }
    log.line(&mut line);
    log.last.all_read.cancel();
}

struct StderrLog {
    server: Arc<str>,
    settings: Arc<ToolServer>,
    last: LastWords,
    window: Instant,
    lines: u32,
}

impl StderrLog {
    fn line(&mut self, line: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line);
        if !text.trim().is_empty() {
            let text = brief(&self.settings.redact(&text));
            self.last.set(&text);
            if self.window.elapsed() >= WINDOW {
                if self.lines > LINES_MAX {
                    let dropped = self.lines - LINES_MAX;
                    tracing::info!(server = %self.server, dropped, "a tool server says too much");
                }
                (self.window, self.lines) = (Instant::now(), 0);
            }
            self.lines += 1;
            if self.lines <= LINES_MAX {
                tracing::info!(server = %self.server, "stderr: {text}");
            }
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_rest_of_the_pipe_is_waited_for_and_not_for_ever() {
        let last = LastWords::default();
        assert_eq!(last.after("it ended").await, "it ended");
        let settings = super::super::tests::with_secret("TOKEN", "hunter2hunter2");
        let (late, said) = (last.clone(), last.after("it ended"));
        let says = async move {
            tokio::task::yield_now().await;
            drain(&b"why"[..], "s".into(), settings.into(), late).await;
        };
        let (said, ()) = tokio::join!(said, says);
        assert_eq!(said, "it ended; its last words: why");
    }

    #[tokio::test]
    async fn the_last_line_is_kept_short_and_without_secrets() {
        let settings = super::super::tests::with_secret("TOKEN", "hunter2hunter2");
        let last = LastWords::default();
        let output = format!(
            "first\n\nkey hunter2hunter2 refused {}\n\n",
            "x".repeat(1 << 20)
        );
        drain(output.as_bytes(), "s".into(), settings.into(), last.clone()).await;
        let text = last.after("it ended").await;
        assert!(
            text.starts_with("it ended; its last words: key [TOKEN] refused xxx"),
            "{text}"
        );
        assert!(text.len() < 600, "{}", text.len());
    }
}
