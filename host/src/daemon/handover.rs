//! The last look before a hand-over: a store that takes no write would be none for the successor
//! either. Then the restart is given up, with its reason, and everything goes on here; what became
//! of it is put down when that is possible again, and the change is looked at once more.

use crate::supervisor::FromWorker;

use super::plan::{Rejection, Trigger};
use super::state::{Daemon, DrainGoal, Phase, persist};

impl Daemon {
    /// Whether this worker, whose turns have ended or are cut, may leave. A stop goes on whatever
    /// the disk says.
    pub(super) async fn may_leave(&mut self) -> bool {
        let Phase::Draining {
            goal: DrainGoal::HandOver(planned),
            ..
        } = &self.phase
        else {
            return true;
        };
        let Err(error) = persist(&self.store, planned.record.clone()).await else {
            return true;
        };
        let phase = std::mem::replace(&mut self.phase, Phase::Serving);
        let Phase::Draining {
            goal: DrainGoal::HandOver(planned),
            ..
        } = phase
        else {
            self.phase = phase;
            return true;
        };
        let rejection = Rejection::Unrecorded {
            doing: "nothing is handed over, for the store takes no write",
            reason: error,
        };
        // An error means that the supervisor is gone; the loop will notice.
        let _ = self.link.send(FromWorker::CancelReplace);
        self.registry.cancel_drain();
        self.waits_for_store = true;
        self.refuse(&rejection);
        self.refused(planned, rejection.to_string()).await;
        self.take_over_pending().await;
        false
    }

    /// A change that was refused because of the store is no worse than before: it is looked at again
    /// once the store takes writes.
    pub(super) async fn retry_refused(&mut self) {
        if !self.waits_for_store
            || !matches!(self.phase, Phase::Serving)
            || self.store.failing().is_some()
        {
            return;
        }
        self.waits_for_store = false;
        // Refusals have been logged, and stand in the status.
        let _ = self.reload(Trigger::Watch).await;
    }

    /// Puts down what the store did not take, once it takes something again.
    pub(super) async fn flush_unpersisted(&self) {
        if self.unpersisted().is_empty() || self.store.failing().is_some() {
            return;
        }
        let records: Vec<_> = self.unpersisted().values().cloned().collect();
        for record in &records {
            self.persist_restart(record).await;
        }
    }
}
