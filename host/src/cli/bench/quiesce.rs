//! Waits until every acknowledged message has had its turn.

use std::time::{Duration, Instant};

use super::progress::BenchProgress;
use super::setup::{SessionNames, patiently};
use crate::cli::client::Client;
use crate::cli::error::CliError;

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The time limit per session, after which it is counted as open.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// The final state of all sessions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    /// Committed turns.
    pub(super) completed: u64,
    /// Messages whose turn failed.
    pub(super) failed: u64,
    /// Sessions that still have work.
    pub(super) open: u64,
    /// How long it took.
    pub(super) took: Duration,
}

/// Waits until every session is idle. Sessions are checked one after another: while one is waited
/// for, the others go on, so that the later ones are mostly idle already.
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
