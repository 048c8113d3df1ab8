//! The entry point to all sessions: finds or starts the one task that owns a session (its driver)
//! and passes the request to it. The operations are defined by the handles that use it:
//! [`Clients`](super::Clients), [`Lifecycle`](super::Lifecycle) and [`Signs`](super::Signs).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::domain::{
    Census, EXPORT_MAX_BYTES, GuestMemoryStatus, Refusal, Rollout, SessionId, WRITER_STALLED_AFTER,
};
use crate::engine::{CompileLimits, Engine};
use crate::store::{Store, StoreError};

use super::deadlines::Deadlines;
use super::disk_guard::Space;
use super::drain::{Gate, TurnGate};
use super::driver::Driver;
use super::drivers::Drivers;
use super::hold_clock::HoldClock;
use super::hub::Hubs;
use super::kept_plugins::KeptPlugins;
use super::live_config::{Current, LiveConfig};
use super::mailbox::{DriverCommand, ReplyTo};
use super::memory_budget::Memory;
use super::memory_peaks::MemoryPeaks;
use super::queries;
use super::rollouts::Rollouts;
use super::shared::{Settings, Shared};
use super::standing::StandingApprovals;
use super::suspects::Suspects;

/// What all copies that are being made may take at once, in bytes: the largest export, and what is read from
/// it.
const COPIES_MAX_BYTES: u64 = 2 * EXPORT_MAX_BYTES as u64;

/// All sessions of the daemon. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(super) shared: Arc<Shared>,
    pub(super) drivers: Drivers,
}

impl Registry {
    /// Creates the registry. No session runs before
    /// [`Lifecycle::relaunch`](super::Lifecycle::relaunch) or a first request. Waits for the disk.
    pub fn new(store: Store, engine: Engine, live_config: LiveConfig, settings: Settings) -> Self {
        let sync_begun = AtomicBool::new(settings.died_by_own_doing);
        let memory = Memory::new(settings.memory_max_bytes);
        let (plugins, rule) = (&live_config.plugins, &live_config.canaries);
        let rollouts = Rollouts::load(&store, &engine, plugins, rule);
        let shared = Arc::new(Shared {
            rollouts,
            standing: StandingApprovals::load(store.clone()),
            store,
            engine,
            live_config: Current::new(live_config),
            kept_plugins: KeptPlugins::default(),
            settings,
            hubs: Hubs::default(),
            hold_clock: HoldClock::default(),
            handover: watch::Sender::new(None),
            sync_begun,
            turns: Arc::new(TurnGate::new()),
            suspects: Suspects::new(),
            memory,
            copy_memory: Memory::new(COPIES_MAX_BYTES),
            memory_peaks: MemoryPeaks::default(),
            space: Space::default(),
            liveness: Arc::default(),
            clearing: AtomicBool::new(false),
            deadlines: Deadlines::default(),
            timers_set: Notify::new(),
            session_moved: Notify::new(),
        });
        keep_settings(&shared);
        Self {
            shared,
            drivers: Drivers::default(),
        }
    }

    /// Returns the current live configuration.
    pub fn live_config(&self) -> Arc<LiveConfig> {
        self.shared.live_config()
    }

    /// Replaces the live configuration for every turn that begins from now on. Turns that already
    /// run keep the configuration they began with.
    pub fn replace_live_config(&self, live_config: LiveConfig) {
        self.shared.live_config.replace(live_config);
        let parts = self.shared.live_config();
        let rollouts = &self.shared.rollouts;
        rollouts.set_rule(&parts.plugins, &parts.canaries, &self.shared.engine);
        keep_settings(&self.shared);
        // Idle drivers may have to leave memory sooner: wake them to recompute their deadlines.
        self.shared.turns.gate.send_modify(|_| {});
    }

    /// Returns how much of the guests' memory is reserved.
    pub fn guest_memory(&self) -> GuestMemoryStatus {
        self.shared.engine.guest_memory()
    }

    /// Returns how many guests wait for a processor.
    pub fn waiting_to_compute(&self) -> usize {
        self.shared.engine.waiting_to_compute()
    }

    /// Changes the memory that all guests together may hold.
    pub fn set_guest_memory(&self, bytes: u64) {
        self.shared.engine.set_guest_memory(bytes);
    }

    /// Changes the limits of compiling a component, of an open turn that began on an earlier one.
    pub fn set_compile_limits(&self, limits: CompileLimits) {
        self.shared.engine.set_compile_limits(limits);
    }

    /// Removes the components that neither a plugin nor, by the census, a session needs. Returns how many
    /// there were. A session that is created from now on needs that of its plugin, and one that moves
    /// leaves one that it needed. Waits for the disk.
    pub fn remove_unused_components(&self, census: &Census) -> std::io::Result<usize> {
        let mut needed = census.components.clone();
        let plugins = self.live_config().plugins.0.clone().into_values();
        needed.extend(plugins.map(|plugin| plugin.component.digest()));
        needed.extend(self.rollouts().into_iter().map(|rollout| rollout.proven));
        self.shared.engine.remove_unused(&needed)
    }

    /// Returns the roll-outs of all plugins.
    pub fn rollouts(&self) -> Vec<Rollout> {
        self.shared.rollouts.all()
    }

    /// Counts the open sessions of a plugin. Scans the whole list, so call it rarely.
    pub fn sessions_of(&self, plugin: &str) -> Result<u64, Refusal> {
        queries::count_of(&self.shared.store, plugin)
    }

    /// Returns the number of running turns.
    pub fn running(&self) -> u64 {
        self.shared.turns.running.load(Ordering::SeqCst)
    }

    /// Returns the number of sessions in memory that have queued messages and no running turn.
    pub fn queued(&self) -> u64 {
        self.shared.turns.queued.load(Ordering::SeqCst)
    }

    /// Returns the number of messages accepted since the drain began.
    pub fn held(&self) -> u64 {
        self.shared.turns.held.load(Ordering::SeqCst)
    }

    /// Sends a command to the session's driver and waits for its reply; not for a disk that completes
    /// no write.
    pub(super) async fn ask<T>(
        &self,
        id: &SessionId,
        command: impl FnOnce(ReplyTo<T>) -> DriverCommand,
    ) -> Result<T, Refusal> {
        // The driver keeps the command: it may be carried out once the disk answers.
        self.while_disk_answers(async {
            let (reply, answer) = oneshot::channel();
            self.tell(id, command(reply)).await?;
            // A driver that drops the reply was stopped by the end of the worker.
            answer.await.unwrap_or(Err(Refusal::Restarting))
        })
        .await?
    }

    /// Waits for what needs the disk.
    ///
    /// # Errors
    /// [`Refusal::StoreStalled`] as soon as the disk completes no write.
    pub(super) async fn while_disk_answers<T>(
        &self,
        asked: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let space = &self.shared.space;
        let stalled = Refusal::StoreStalled {
            after: WRITER_STALLED_AFTER,
        };
        if space.is_stalled() {
            return Err(stalled);
        }
        tokio::select! {
            biased;
            answer = asked => Ok(answer),
            () = space.until_stalled() => Err(stalled),
        }
    }

    /// Sends a command to the session's driver, which is started if the session has none.
    pub(super) async fn tell(&self, id: &SessionId, command: DriverCommand) -> Result<(), Refusal> {
        if *self.shared.turns.gate.borrow() == Gate::Closing {
            return Err(Refusal::Restarting);
        }
        let mailbox = self.mailbox(id);
        match mailbox.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(Refusal::Restarting),
            // Boxed: that is rare, and each request would have room for it.
            Err(TrySendError::Full(command)) => {
                let sent = Box::pin(mailbox.send(command)).await;
                sent.map_err(|_| Refusal::Restarting)
            }
        }
    }

    /// Returns all sessions that have work, plus sessions that committed a turn within the notice
    /// window: of these at most `relaunch_max`, as many as a restart brings back.
    pub(super) fn active_ids(&self) -> Result<Vec<SessionId>, StoreError> {
        let parts = self.shared.live_config();
        let store = &self.shared.store;
        let since = store.clock().window_start(parts.notice_window);
        store.active(since, parts.relaunch_max)
    }

    /// Returns the session's mailbox; starts a driver if the session has none.
    fn mailbox(&self, id: &SessionId) -> mpsc::Sender<DriverCommand> {
        self.drivers.mailbox(id, |commands| {
            let (shared, drivers) = (self.shared.clone(), self.drivers.clone());
            tokio::spawn(Driver::new(id.clone(), shared, drivers, commands).run());
        })
    }
}

/// Keeps the settings of all plugins with their components, on a thread of its own. What is not kept costs
/// sessions that must go back to a component its settings, so it is just logged.
fn keep_settings(shared: &Arc<Shared>) {
    let shared = shared.clone();
    tokio::task::spawn_blocking(move || {
        // One at a time, each with what holds by then: the last to write has the newest.
        let _alone = shared.kept_plugins.lock_settings();
        for (name, plugin) in &shared.live_config().plugins.0 {
            let (component, settings) = (plugin.component.digest(), plugin.settings());
            let before = shared.engine.kept_settings(component, name);
            let has_changed = before.is_some_and(|before| before != settings);
            // What was set since a roll-out began holds for the component that is gone back to, too.
            let proven = shared.rollouts.proven(name).filter(|_| has_changed);
            for component in [Some(component), proven].into_iter().flatten() {
                let kept = shared.engine.keep_settings(component, name, &settings);
                if let Err(error) = kept {
                    tracing::warn!(plugin = name, %error, "a plugin's settings are not kept with its component");
                }
                shared.kept_plugins.forget(name, component);
            }
        }
    });
}
