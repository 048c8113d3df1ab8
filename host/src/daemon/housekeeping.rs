//! What a serving daemon tidies up now and then.

use std::time::{Duration, Instant};

use crate::allocator;

use super::machine::Activity;
use super::state::Daemon;

/// How often the list of active sessions is pruned and metrics are aggregated.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);
/// How often components that nothing needs are removed.
const REMOVE_EVERY: Duration = Duration::from_secs(3600);

impl Daemon {
    pub(super) fn housekeeping(&mut self) {
        self.watchdog
            .hold_back(self.config.daemon.disk_reserve_bytes);
        if self.pruned.elapsed() < UPKEEP_EVERY {
            return;
        }
        self.pruned = Instant::now();
        self.metrics.run_upkeep();
        if self.registry.running() == 0 {
            allocator::purge_all_threads();
        }
        self.remove_unused_components();
        let window = self.config.daemon.notice_window;
        let forgotten = self.store.clock().window_start(window);
        // At most one at a time: a disk that does not answer must not pile up blocked threads.
        if !self.pruning.is_finished() {
            return;
        }
        let store = self.store.clone();
        self.pruning = tokio::task::spawn_blocking(move || {
            if let Err(error) = store.prune_active(forgotten) {
                tracing::warn!(%error, "the list of active sessions cannot be pruned");
            }
        });
    }

    /// Removes components that nothing needs any more, now and then: not while another worker may be about
    /// to need one, or a backup reads them.
    fn remove_unused_components(&mut self) {
        let backs_up = self
            .backup
            .as_ref()
            .is_some_and(|backup| backup.runs_into().is_some());
        let is_settled = self.probation_ends.is_none()
            && self.machine.activity() == Activity::Serving
            && self.removing.is_finished()
            && !backs_up;
        let Some(census) = self.census.borrow().clone().filter(|_| is_settled) else {
            return;
        };
        if self
            .removed
            .is_some_and(|removed| removed.elapsed() < REMOVE_EVERY)
        {
            return;
        }
        self.removed = Some(Instant::now());
        let registry = self.registry.clone();
        self.removing =
            tokio::task::spawn_blocking(move || match registry.remove_unused_components(&census) {
                Ok(0) => {}
                Ok(components) => {
                    tracing::info!(
                        components,
                        "removed components that no session needs any more"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "components that nothing needs cannot be removed")
                }
            });
    }
}
