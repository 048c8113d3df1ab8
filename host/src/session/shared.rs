//! The state that all drivers share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Notify, watch};

use super::deadlines::Deadlines;
use super::disk_guard::Space;
use super::drain::TurnGate;
use super::hold_clock::HoldClock;
use super::hub::Hubs;
use super::kept_plugins::{KeptPlugins, NotKept};
use super::live_config::{Current, LiveConfig};
use super::liveness::LivenessTable;
use super::memory_budget::Memory;
use super::memory_peaks::MemoryPeaks;
use super::plugins::{Plugin, Plugins};
use super::rollouts::Rollouts;
use super::standing::StandingApprovals;
use super::suspects::Suspects;
use crate::domain::{Digest, Generation, PastRestart, SessionView};
use crate::engine::Engine;
use crate::store::Store;

/// The facts about the daemon that sessions need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The generation of this worker.
    pub generation: Generation,
    /// The restarts up to this one, oldest first.
    pub restarts: Vec<PastRestart>,
    /// The generation of the worker before this one.
    pub previous: Generation,
    /// Whether the previous worker caused its own death.
    pub died_by_own_doing: bool,
    /// The memory that all sessions together may hold, in bytes.
    pub memory_max_bytes: u64,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) engine: Engine,
    pub(super) live_config: Current,
    pub(super) kept_plugins: KeptPlugins,
    pub(super) rollouts: Rollouts,
    pub(super) settings: Settings,
    pub(super) hubs: Hubs,
    pub(super) hold_clock: HoldClock,
    /// The generation that takes over; set once streams must end.
    pub(super) handover: watch::Sender<Option<Generation>>,
    /// Whether each `Begun` is synced before its guest runs: the previous worker caused its own
    /// death, and this one is still in probation.
    pub(super) sync_begun: AtomicBool,
    /// The gate that a drain closes, and the turns that it counts.
    pub(super) turns: Arc<TurnGate>,
    pub(super) standing: StandingApprovals,
    pub(super) suspects: Suspects,
    pub(super) memory: Memory,
    /// What sessions take that are being copied.
    pub(super) copy_memory: Memory,
    /// What turns reserve of the guests' memory.
    pub(super) memory_peaks: MemoryPeaks,
    pub(super) space: Space,
    pub(super) liveness: Arc<LivenessTable>,
    /// Whether a drain is about to begin. Idle sessions then leave memory while clients are still
    /// served, so that the drain does not have to deal with them.
    pub(super) clearing: AtomicBool,
    /// When the timers are due that this worker has set.
    pub(super) deadlines: Deadlines,
    /// Notified when timers were set, so that the timer loop reads the next due time again.
    pub(super) timers_set: Notify,
    /// Notified when a session has moved to another component.
    pub(super) session_moved: Notify,
}

impl Shared {
    /// Returns the current live configuration: keep the `Arc` for as long as it must not change.
    pub(super) fn live_config(&self) -> Arc<LiveConfig> {
        self.live_config.get()
    }

    /// Returns the view of a session, without its pin if it is to run on another component since: that one
    /// has yet to be tried.
    pub(super) fn as_of_now(&self, plugins: &Plugins, mut view: SessionView) -> SessionView {
        let plugin = plugins.get(&view.plugin);
        view.pinned
            .take_if(|pinned| !self.stays(&view.plugin, plugin, pinned.refused));
        view
    }

    /// Whether a session of the plugin that stays on another component, since it cannot run on `refused`, is
    /// to run on that still.
    pub(super) fn stays(&self, name: &str, plugin: Option<&Arc<Plugin>>, refused: Digest) -> bool {
        plugin.is_some_and(|plugin| {
            let configured = plugin.component.digest();
            self.rollouts.is_wanted(name, configured, refused)
        })
    }

    /// Returns the plugin `name`, which is `present` now, as it is on this component.
    pub(super) async fn plugin_on(
        &self,
        name: &str,
        present: &Arc<Plugin>,
        component: Digest,
    ) -> Result<Arc<Plugin>, NotKept> {
        let kept = &self.kept_plugins;
        kept.on(&self.engine, name, present, component).await
    }
}
