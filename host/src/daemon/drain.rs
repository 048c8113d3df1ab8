//! The drain in progress, as the worker's event loop sees it. What a drain does to sessions is
//! implemented in `session::drain`.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::domain::UnixMillis;
use crate::session::{Drained, Lifecycle};

pub(super) struct Drain {
    task: JoinHandle<Drained>,
    since: UnixMillis,
    grace: Duration,
    /// Set once the task has ended; the task cannot be awaited a second time.
    drained: Option<Drained>,
}

impl Drain {
    /// Starts a drain: no turn and no step begins from now on. `active` is the number of active
    /// sessions.
    pub(super) fn begin(sessions: Lifecycle, grace: Duration, active: u64) -> Self {
        Self {
            task: tokio::spawn(async move { sessions.drain(grace, active).await }),
            since: UnixMillis::now(),
            grace,
            drained: None,
        }
    }

    /// Waits until the drain has ended. Returns only once: later calls stay pending. Cancel safe.
    pub(super) async fn ended(&mut self) {
        if self.drained.is_some() {
            return std::future::pending().await;
        }
        let drained = (&mut self.task).await.unwrap_or_else(|error| {
            // The gate is still closed after a failed drain. Turns that still run are aborted when
            // this worker exits, and the next worker runs them again.
            tracing::error!(%error, "the drain ended early");
            Drained::default()
        });
        self.drained = Some(drained);
    }

    /// Cancels the drain: turns begin again.
    pub(super) async fn cancel(self, sessions: &Lifecycle) {
        if self.drained.is_none() {
            self.task.abort();
            // Await the task's end, so that it cannot close the gate after `cancel_drain` opens it.
            let _ = self.task.await;
        }
        sessions.cancel_drain();
    }

    /// Returns the drain's result.
    pub(super) fn result(self) -> Drained {
        self.drained.unwrap_or_default()
    }

    /// Returns when the grace period of the turns that still run is over.
    pub(super) fn ends_at(&self) -> UnixMillis {
        let grace_ms = self.grace.as_millis().try_into().unwrap_or(u64::MAX);
        UnixMillis(self.since.0.saturating_add(grace_ms))
    }
}
