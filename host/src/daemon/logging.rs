//! The operator's log, written to standard error through a queue, so that nothing waits for its
//! reader.

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{DaemonConfig, LogFormat, LogThreshold};
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
    let queue = log.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || Line(queue.clone()))
        .with_ansi(io::stderr().is_terminal());
    // If logging was already started in this process, the first start stays in effect.
    let _ = match format {
        LogFormat::Text => filtered.with(lines.with_target(false)).try_init(),
        LogFormat::Json => filtered.with(lines.json()).try_init(),
    };
}

/// A destination of one line: the layer formats an event as a whole and writes it at once.
struct Line(LogQueue);

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
