//! A stop does not wait for a disk that does not answer. What is not on the disk was acknowledged to
//! nobody, so the worker may end without it, as in a crash.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::store::Store;

use super::logging;

/// What a stop may take beyond the grace period of its turns. With the supervisor's own share it
/// fits into `daemon.stop_timeout`, which the configuration's check holds.
const BEYOND_GRACE: Duration = Duration::from_secs(5);
/// How long the writer must have been at one write by then.
const STALLED_AFTER: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Ends the process once it has had its time to stop, if it is the disk that keeps it. Returns only
/// by that.
pub(super) async fn end_in_time(store: Store, grace: Duration) {
    tokio::time::sleep(grace.saturating_add(BEYOND_GRACE)).await;
    loop {
        let stalled_for = store.writer_signs().stalled_for;
        if stalled_for.is_some_and(|lasts| lasts > STALLED_AFTER) {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    tracing::error!(
        "the disk of the data folder does not answer; the worker ends without it. What is not \
         written was not acknowledged"
    );
    end_at_once();
}

/// Ends the process while a thread is in the store. Returns only if the kernel refuses.
pub(super) fn end_at_once() {
    logging::flush();
    // Not an exit in order: RocksDB would wait for its threads, which wait for the disk.
    if let Err(error) = kill_process(getpid(), Signal::KILL) {
        tracing::error!(%error, "the worker cannot end itself");
    }
}
