//! The drain under way, as this worker's loop sees it. What a drain does to sessions is theirs
//! (`session::drain`).

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::domain::UnixMillis;
use crate::session::{Drained, Lifecycle};

pub(super) struct Drain {
    task: JoinHandle<Drained>,
    since: UnixMillis,
    grace: Duration,
    /// Set once the task is over, which cannot be awaited again.
    drained: Option<Drained>,
}

impl Drain {
    /// Lets no turn and no step begin from here on. `active` is the number of active sessions.
    pub(super) fn begin(sessions: Lifecycle, grace: Duration, active: u64) -> Self {
        tracing::info!(active, running = sessions.running(), ?grace, "draining");
        Self {
            task: tokio::spawn(async move { sessions.drain(grace, active).await }),
            since: UnixMillis::now(),
            grace,
            drained: None,
        }
    }

    /// Returns once, when nothing runs any more. Dropping the future loses nothing.
    pub(super) async fn ended(&mut self) {
        if self.drained.is_some() {
            return std::future::pending().await;
        }
        let drained = (&mut self.task).await.unwrap_or_else(|error| {
            // A drain that fails has let no turn begin since: what runs is aborted by the end of
            // this worker, and run again by the next.
            tracing::error!(%error, "the drain ended early");
            Drained::default()
        });
        self.drained = Some(drained);
    }

    /// Turns begin again.
    pub(super) async fn cancel(self, sessions: &Lifecycle) {
        if self.drained.is_none() {
            self.task.abort();
            // Ended for sure, so that it cannot close the gate behind us.
            let _ = self.task.await;
        }
        sessions.cancel_drain();
    }

    /// What it did.
    pub(super) fn result(self) -> Drained {
        self.drained.unwrap_or_default()
    }

    /// When the grace period of what still runs is over.
    pub(super) fn ends_at(&self) -> UnixMillis {
        let grace_ms = self.grace.as_millis().try_into().unwrap_or(u64::MAX);
        UnixMillis(self.since.0.saturating_add(grace_ms))
    }
}
