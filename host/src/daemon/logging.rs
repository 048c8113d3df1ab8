//! The operator's log, written to standard error through a queue, so that nothing waits for its
//! reader.

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{DaemonConfig, LogFormat, LogThreshold};
use crate::plain_text;
use crate::supervisor::{LineFormat, LogQueue};

/// A function that replaces the log filter; returns whether it succeeded.
type FilterChange = dyn Fn(EnvFilter) -> bool + Send + Sync;

static CHANGE: OnceLock<Box<FilterChange>> = OnceLock::new();
/// The queue that this process logs to.
static LOG: OnceLock<LogQueue> = OnceLock::new();

/// The environment variable with a `tracing` filter such as `abide=debug`; it takes precedence over
/// the configured level.
const FILTER: &str = "ABIDE_LOG";

/// How long the exit waits for standard error to take the last lines.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Starts logging to the queue.
pub(super) fn start(log: &LogQueue, config: &DaemonConfig) {
    let format = config.log_format;
    log.set_limit(limit(config));
    let (filter, handle) = reload::Layer::new(filter(config.log_level));
    let _ = CHANGE.set(Box::new(move |filter| handle.reload(filter).is_ok()));
    let filtered = tracing_subscriber::registry().with(filter);
    log.set_format(line_format(format));
    let _ = LOG.set(log.clone());
    let (queue, is_coloured) = (log.clone(), io::stderr().is_terminal());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || LogLine {
            queue: queue.clone(),
            format,
            is_coloured,
        })
        .with_ansi(is_coloured);
    // If logging was already started in this process, the first start stays in effect.
    let _ = match format {
        LogFormat::Text => filtered.with(lines.with_target(false)).try_init(),
        LogFormat::Json => filtered.with(lines.json()).try_init(),
    };
}

/// A destination of one line: the layer formats an event as a whole and writes it at once.
struct LogLine {
    queue: LogQueue,
    format: LogFormat,
    is_coloured: bool,
}

impl io::Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let shown = shown(&text, self.format, self.is_coloured);
        self.queue.write(shown.into_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a formatted line with escapes in place of hidden characters. Of a line in colours the layer
/// has escaped those that begin sequences, in what it was given; what is left are its own.
fn shown(line: &str, format: LogFormat, is_coloured: bool) -> String {
    let text = line.strip_suffix('\n').unwrap_or(line);
    let mut shown = match format {
        LogFormat::Json => plain_text::json(text).into_owned(),
        LogFormat::Text if is_coloured => {
            let parts = text.split('\x1b').map(plain_text::inline);
            parts.collect::<Vec<_>>().join("\x1b")
        }
        LogFormat::Text => plain_text::inline(text).into_owned(),
    };
    shown.push('\n');
    shown
}

/// Waits a moment until the lines so far are written. For an exit from the middle of the process.
pub(super) fn flush() {
    if let Some(log) = LOG.get() {
        log.flush(PATIENCE);
    }
}

/// Returns the number of lines of the log that were lost since the start of this process.
pub(super) fn lines_lost() -> u64 {
    LOG.get().map_or(0, LogQueue::lost)
}

/// Returns the format of the lines that the supervisor logs.
pub(super) fn line_format(format: LogFormat) -> LineFormat {
    match format {
        LogFormat::Text => LineFormat::Text,
        LogFormat::Json => LineFormat::Json,
    }
}

/// Changes the log level, and how much may wait for the log's reader, from now on.
pub(super) fn change(config: &DaemonConfig) {
    if let Some(log) = LOG.get() {
        log.set_limit(limit(config));
    }
    let level = filter(config.log_level);
    let changed = CHANGE.get().is_some_and(|change| change(level));
    if !changed {
        tracing::warn!("the log's level could not be changed; it will be after the next restart");
    }
}

fn limit(config: &DaemonConfig) -> usize {
    usize::try_from(config.log_queue_bytes).unwrap_or(usize::MAX)
}

fn filter(level: LogThreshold) -> EnvFilter {
    let level = match level {
        LogThreshold::Off => "off",
        LogThreshold::Error => "error",
        LogThreshold::Warn => "warn",
        LogThreshold::Info => "info",
        LogThreshold::Debug => "debug",
        LogThreshold::Trace => "trace",
    };
    EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(format!("abide={level}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_has_no_hidden_character() {
        let line = "INFO said: a\nERROR forged\u{202e}\u{9b}2J\n";
        let shown_line = "INFO said: a\\nERROR forged\\u{202e}\\u{9b}2J\n";
        for is_coloured in [false, true] {
            assert_eq!(shown(line, LogFormat::Text, is_coloured), shown_line);
        }
        let coloured = "\x1b[32mINFO\x1b[0m a\u{200b}b\n";
        let kept = "\x1b[32mINFO\x1b[0m a\\u{200b}b\n";
        assert_eq!(shown(coloured, LogFormat::Text, true), kept);
        let json = "{\"message\":\"a\\nb\u{202e}\"}\n";
        let escaped = "{\"message\":\"a\\nb\\u202e\"}\n";
        assert_eq!(shown(json, LogFormat::Json, false), escaped);
    }
}
