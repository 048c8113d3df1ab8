//! The signs of life that the watchdog reads once a second, and its one remedy: waking a session.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::{Census, DiskSigns, GuestMemoryStatus, Rollout, SessionId, SessionSigns};
use crate::store::{SessionSummary, StoreError};

use super::drain::Gate;
use super::mailbox::DriverCommand;
use super::registry::Registry;
use super::shared::Shared;

/// The watchdog's handle to all sessions. Cheap to clone.
#[derive(Clone)]
pub struct Signs(Registry);

impl Signs {
    pub fn of(registry: &Registry) -> Self {
        Self(registry.clone())
    }

    /// Returns the signs of the sessions in memory that have work.
    pub fn all(&self) -> Vec<SessionSigns> {
        self.shared().liveness.signs()
    }

    /// Returns whether the gate lets turns begin.
    pub fn is_open(&self) -> bool {
        *self.shared().turns.gate.borrow() == Gate::Open
    }

    /// Returns whether a turn that begins finds a free place to run in.
    pub fn is_roomy(&self) -> bool {
        self.shared().engine.is_roomy()
    }

    /// Returns how much of the guests' memory is reserved.
    pub fn guest_memory(&self) -> GuestMemoryStatus {
        self.shared().engine.guest_memory()
    }

    /// Returns the longest turn timeout of any plugin.
    pub fn longest_turn(&self) -> Duration {
        let parts = self.shared().live_config();
        let plugins = parts.plugins.0.values();
        let limits = plugins.map(|plugin| plugin.limits.turn_timeout);
        limits.max().unwrap_or_default()
    }

    /// Updates the free disk space and the reserve, in bytes. While less than the reserve is free,
    /// nothing new is accepted.
    pub fn disk_seen(&self, free_bytes: u64, reserve_bytes: u64) {
        self.shared().space.update(free_bytes, reserve_bytes);
    }

    /// Updates whether the store's writer has stalled. While it has, requests that need a write are
    /// refused.
    pub fn writer_seen(&self, stalled: bool) {
        self.shared().space.writer_seen(stalled);
    }

    /// Returns the last observation of the disk.
    pub fn disk_signs(&self) -> Option<DiskSigns> {
        self.shared().space.signs()
    }

    /// Returns the sessions that have work but no driver. Reads the store.
    pub fn ownerless(&self) -> Result<Vec<SessionId>, StoreError> {
        let store = &self.shared().store;
        let mut ownerless = Vec::new();
        for id in store.should_run()? {
            if self.0.drivers.has(&id) {
                continue;
            }
            if store.load(&id)?.is_some_and(|session| session.has_work()) {
                ownerless.push(id);
            }
        }
        Ok(ownerless)
    }

    /// Counts all sessions by the components that they last ran on, and all dead letters. Reads each
    /// session's state.
    pub fn census(&self) -> Result<Census, StoreError> {
        let store = &self.shared().store;
        let dead_letters_kept = store.dead_letters_kept();
        let parts = self.shared().live_config();
        let mut census = Census::default();
        store.each_session(|listed| {
            let SessionSummary {
                identity,
                progress,
                components,
                ..
            } = listed;
            let plugin = parts.plugins.get(&identity.plugin);
            let stays = |refused| self.shared().stays(&identity.plugin, plugin, refused);
            census.count(identity, progress, stays, dead_letters_kept);
            if progress.closed.is_none() {
                census.components.extend(components);
            }
        })?;
        Ok(census)
    }

    /// Returns the roll-outs of all plugins' components.
    pub fn rollouts(&self) -> Vec<Rollout> {
        self.0.rollouts()
    }

    /// Waits until a session has moved to another component.
    pub async fn session_moved(&self) {
        self.shared().session_moved.notified().await;
    }

    /// Starts a driver for the session if it has none, so that its work begins.
    pub async fn wake(&self, id: &SessionId) {
        let (done, woken) = oneshot::channel();
        // An error means that the worker is about to end.
        if self
            .0
            .tell(id, DriverCommand::FireTimers(done))
            .await
            .is_ok()
        {
            let _ = woken.await;
        }
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}
