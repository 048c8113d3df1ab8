//! The task that ends roll-outs, writes what is counted of them, and counts canaries.

use std::time::{Duration, Instant};

use crate::failpoint;
use crate::store::StoreError;

use super::canary_count;
use super::registry::Registry;
use super::shared::Shared;

/// How long counts wait to be written, and the pause before a write is tried again.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// How often the end of the probation is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often canaries are counted, and so many times as long as counting takes at least.
const COUNT_EVERY: Duration = Duration::from_secs(60);
const COUNT_PART: u32 = 100;

/// Ends roll-outs and writes what is counted of them; returns only when the worker ends.
pub(super) async fn run(registry: &Registry) {
    let shared: &Shared = &registry.shared;
    let rollouts = &shared.rollouts;
    let (mut refused, mut count_at) = (None, Instant::now());
    loop {
        if rollouts.end(&shared.live_config().canaries) {
            // What sessions run on has changed.
            shared.session_moved.notify_one();
            failpoint::point("rollout.ended");
        }
        match rollouts.write(&shared.store).await {
            Ok(()) => {
                refused = None;
                failpoint::point("rollout.written");
            }
            Err(StoreError::Closed) => return,
            // Before this version has passed its probation, nothing is rolled out in steps yet.
            Err(StoreError::LacksPart { .. }) => {}
            Err(error) => {
                let error = error.to_string();
                if refused.as_ref() != Some(&error) {
                    tracing::warn!(error, "what is counted of roll-outs is not written yet");
                }
                refused = Some(error);
            }
        }
        if Instant::now() >= count_at {
            let began = Instant::now();
            count(shared).await;
            count_at = Instant::now() + COUNT_EVERY.max(began.elapsed() * COUNT_PART);
        }
        // Not for each turn of a busy daemon.
        tokio::time::sleep(WRITE_EVERY).await;
        // A probation ends by itself.
        let _ = tokio::time::timeout(LOOK_EVERY, rollouts.counted.notified()).await;
    }
}

/// Counts sessions, of which a share is to be canaries, and those that are; and failures that an earlier worker
/// has not come to count.
async fn count(shared: &Shared) {
    let counting = shared.rollouts.uncounted();
    if counting.is_empty() {
        return;
    }
    let store = shared.store.clone();
    match tokio::task::spawn_blocking(move || canary_count::count(&store, counting)).await {
        Ok(Ok(counted)) => {
            let rule = shared.live_config().canaries;
            for counted in counted {
                shared.rollouts.take_count(counted, &rule);
            }
        }
        Ok(Err(error)) => tracing::warn!(%error, "the canaries cannot be counted"),
        // The worker ends.
        Err(_) => {}
    }
}
