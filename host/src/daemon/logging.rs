//! The operator's log, written to standard error.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{LogFormat, LogThreshold};

/// A function that replaces the log filter; returns whether it succeeded.
type FilterChange = dyn Fn(EnvFilter) -> bool + Send + Sync;

static CHANGE: OnceLock<Box<FilterChange>> = OnceLock::new();

/// The environment variable with a `tracing` filter such as `abide=debug`; it takes precedence over
/// the configured level.
const FILTER: &str = "ABIDE_LOG";

/// Starts logging.
pub(super) fn start(level: LogThreshold, format: LogFormat) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let _ = CHANGE.set(Box::new(move |filter| handle.reload(filter).is_ok()));
    let filtered = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // If logging was already started in this process, the first start stays in effect.
    let _ = match format {
        LogFormat::Text => filtered.with(lines.with_target(false)).try_init(),
        LogFormat::Json => filtered.with(lines.json()).try_init(),
    };
}

/// Changes the log level from now on.
pub(super) fn change(level: LogThreshold) {
    let changed = CHANGE.get().is_some_and(|change| change(filter(level)));
    if !changed {
        tracing::warn!("the log's level could not be changed; it will be after the next restart");
    }
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
