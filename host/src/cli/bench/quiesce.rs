//! Until every acknowledged message has had its turn.

use std::time::{Duration, Instant};

use super::progress::BenchProgress;
use super::setup::{SessionNames, patiently};
use crate::cli::client::Client;
use crate::cli::error::CliError;

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long one session may take before it is left as it is.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// What the sessions have come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    /// Turns that ended well.
    pub(super) completed: u64,
    /// Messages whose turn failed.
    pub(super) failed: u64,
    /// Sessions that still have work.
    pub(super) open: u64,
    /// How long it took.
    pub(super) took: Duration,
}

/// Waits until no session has anything to do. One after the other: while it waits for one, the
/// others go on, and the last ones are found at rest.
pub(super) async fn settle(
    client: &Client,
    names: &SessionNames,
    sessions: usize,
    progress: &BenchProgress,
) -> Result<Settled, CliError> {
    let began = Instant::now();
    let mut settled = Settled::default();
    for session in 0..sessions {
        let id = names.of(session);
        let waits_since = Instant::now();
        let view = loop {
            let view = patiently(async || client.session(&id).await).await?;
            let at_rest = view.queued == 0 && view.running.is_none();
            if at_rest || waits_since.elapsed() > SETTLE_MAX {
                settled.open += u64::from(!at_rest);
                break view;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        settled.completed += view.turns;
        settled.failed += view.dead;
        progress.step();
    }
    settled.took = began.elapsed();
    Ok(settled)
}
