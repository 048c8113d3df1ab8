//! The roll-outs of all plugins' components: which component a session runs on, what is counted of them,
//! and their ends. What is decided is in `domain/rollout.rs`.
//!
//! ```text
//!   drivers --- a turn committed, or failed ---> counts ---> `rollout_task`: ends them, writes them
//!      ^                                                        |
//!      +---- which component does this session run on? <--------+
//! ```
//!
//! Counts are written a moment later, and canaries are counted again every minute: which sessions run on a
//! component, and which turns were taken over from it, is in their own logs.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::{
    CanaryFailure, CanaryRule, Digest, Rollout, RolloutStatus, SessionId, SessionProgress,
    UnixMillis,
};
use crate::engine::Engine;
use crate::store::{Store, StoreError};

use super::canary_count::CanaryCount;
use super::kept_plugins::NotKept;
use super::plugins::Plugins;

/// Whether a session becomes a canary, if there is room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is only asked what it runs on.
    Look,
    /// It is about to run.
    Take,
}

/// The roll-outs of all plugins.
#[derive(Default)]
pub(super) struct Rollouts {
    plugins: Mutex<BTreeMap<String, Ramp>>,
    /// Roll-outs that were replaced, and are to be written.
    ended: Mutex<Vec<Rollout>>,
    /// Notified when something was counted.
    pub(super) counted: Notify,
}

/// A plugin's roll-out.
struct Ramp {
    rollout: Rollout,
    /// The sessions that have become canaries since those were last counted.
    joined: HashSet<SessionId>,
    is_written: bool,
}

impl Ramp {
    fn end(&mut self, status: RolloutStatus, at: UnixMillis) {
        self.rollout = self.rollout.clone().ended(status, at);
        self.joined.clear();
        self.is_written = false;
        tell(&self.rollout);
    }
}

impl Rollouts {
    /// Goes on with the roll-outs that the store has, or begins those of components that are new. Waits for
    /// the disk.
    pub(super) fn load(
        store: &Store,
        engine: &Engine,
        plugins: &Plugins,
        rule: &CanaryRule,
    ) -> Self {
        let (mut known, is_read) = match store.rollouts() {
            Ok(known) => (known, true),
            Err(error) => {
                tracing::error!(%error, "the roll-outs cannot be read: all components count as proven");
                (BTreeMap::new(), false)
            }
        };
        let rollouts = Self::default();
        for (name, plugin) in &plugins.0 {
            let known = known.remove(name).unwrap_or_default();
            let of = (name.as_str(), plugin.component.digest());
            let (ended, rollout) = follow(&known, of, rule, engine);
            let is_same = known.last() == Some(&rollout);
            rollouts.lock_ended().extend(ended);
            let ramp = Ramp {
                // What could not be read is not written over.
                is_written: is_same || !is_read,
                joined: HashSet::new(),
                rollout,
            };
            rollouts.lock().insert(name.clone(), ramp);
        }
        rollouts
    }

    /// Applies another rule. Asks the disk what is kept.
    pub(super) fn set_rule(&self, plugins: &Plugins, rule: &CanaryRule, engine: &Engine) {
        let mut ramps = self.lock();
        for (name, plugin) in &plugins.0 {
            let of = (name.as_str(), plugin.component.digest());
            let Some(ramp) = ramps.get_mut(name) else {
                continue;
            };
            let (ended, rollout) = follow(std::slice::from_ref(&ramp.rollout), of, rule, engine);
            self.lock_ended().extend(ended);
            ramp.is_written &= ramp.rollout == rollout;
            ramp.rollout = rollout;
        }
        drop(ramps);
        self.counted.notify_one();
    }

    /// Gives up the way back of a plugin, whose proven component cannot be loaded. Returns whether that is done:
    /// not after a roll-back while the component is there, for what keeps it from being loaded may pass.
    pub(super) fn cannot_go_back(&self, plugin: &str, error: &NotKept) -> bool {
        let mut ramps = self.lock();
        let Some(ramp) = ramps.get_mut(plugin) else {
            return false;
        };
        let gives_up = match (ramp.rollout.status, error) {
            (RolloutStatus::Running, _) | (_, NotKept::Gone { .. }) => true,
            (_, NotKept::Unloadable { .. }) => false,
        };
        if gives_up {
            tracing::warn!(plugin, %error, "the component before cannot be gone back to");
            ramp.end(RolloutStatus::Completed, UnixMillis::now());
            self.counted.notify_one();
        }
        gives_up
    }

    /// Returns the component that sessions of a plugin may go back to.
    pub(super) fn proven(&self, plugin: &str) -> Option<Digest> {
        let ramps = self.lock();
        let rollout = &ramps.get(plugin)?.rollout;
        (rollout.status != RolloutStatus::Completed).then_some(rollout.proven)
    }

    /// Returns the component that a session of the plugin, which is configured with `configured`, runs on.
    /// `progress` is none if the session is about to be created.
    pub(super) fn component_of(
        &self,
        (plugin, configured): (&str, Digest),
        id: &SessionId,
        progress: Option<&SessionProgress>,
        place: Place,
    ) -> Digest {
        let mut ramps = self.lock();
        let Some(ramp) = of(&mut ramps, plugin, configured) else {
            return configured;
        };
        let Ramp {
            rollout, joined, ..
        } = ramp;
        if rollout.status != RolloutStatus::Running {
            return rollout.component_of(false);
        }
        let mut is_canary =
            joined.contains(id) || progress.is_some_and(|progress| rollout.has_reached(progress));
        let taken = rollout.canaries + joined.len() as u64;
        if !is_canary && place == Place::Take && taken < rollout.canaries_max {
            is_canary = joined.insert(id.clone());
        }
        rollout.component_of(is_canary)
    }

    /// Returns the component that a session is to run on that gets a state of the component `of_state`.
    pub(super) fn component_with(
        &self,
        plugin: &str,
        configured: Digest,
        of_state: Digest,
    ) -> Digest {
        let mut ramps = self.lock();
        let ramp = of(&mut ramps, plugin, configured);
        ramp.map_or(configured, |ramp| {
            let is_canary = ramp.rollout.component == of_state;
            ramp.rollout.component_of(is_canary)
        })
    }

    /// Returns the component that sessions of the plugin are to run on in the end.
    pub(super) fn offered(&self, plugin: &str, configured: Digest) -> Digest {
        let mut plugins = self.lock();
        let ramp = of(&mut plugins, plugin, configured);
        ramp.map_or(configured, |ramp| ramp.rollout.component_of(true))
    }

    /// Whether a session that stays on another component, since it cannot run on `refused`, has one to tell
    /// of: `refused` is one that it would run on.
    pub(super) fn is_wanted(&self, plugin: &str, configured: Digest, refused: Digest) -> bool {
        let mut plugins = self.lock();
        match of(&mut plugins, plugin, configured) {
            Some(ramp) => [true, false]
                .map(|is_canary| ramp.rollout.component_of(is_canary))
                .contains(&refused),
            None => configured == refused,
        }
    }

    /// Returns the proven component, if a turn that fails on `component` may have failed for its sake.
    pub(super) fn instead_of(&self, plugin: &str, component: Digest) -> Option<Digest> {
        let plugins = self.lock();
        plugins.get(plugin)?.rollout.instead_of(component)
    }

    /// Has a session be a canary, however many there are.
    pub(super) fn admit(&self, plugin: &str, component: Digest, id: &SessionId) {
        let mut ramps = self.lock();
        if let Some(ramp) = running(&mut ramps, plugin, component) {
            ramp.joined.insert(id.clone());
        }
    }

    /// Counts a turn that a session has committed on a component.
    pub(super) fn committed(&self, plugin: &str, component: Digest) {
        let mut ramps = self.lock();
        let Some(ramp) = running(&mut ramps, plugin, component) else {
            return;
        };
        ramp.rollout.committed();
        ramp.is_written = false;
        metrics::counter!("abide_canary_turns_total", "outcome" => "committed").increment(1);
        self.counted.notify_one();
    }

    /// Counts what a component could not do for a session.
    pub(super) fn failed(&self, plugin: &str, component: Digest, failure: CanaryFailure) {
        let mut ramps = self.lock();
        let Some(ramp) = running(&mut ramps, plugin, component) else {
            return;
        };
        tracing::warn!(
            plugin, session = %failure.session, reason = failure.reason,
            "component {}, which is rolled out, has failed", component.short()
        );
        ramp.joined.remove(&failure.session);
        metrics::counter!("abide_canary_turns_total", "outcome" => "failed").increment(1);
        if ramp.rollout.failed(failure) {
            ramp.is_written = false;
            self.counted.notify_one();
        }
    }

    /// Notes that a session stays on another component, so that another one may become a canary.
    pub(super) fn left(&self, plugin: &str, component: Digest, id: &SessionId) {
        let mut plugins = self.lock();
        if let Some(ramp) = running(&mut plugins, plugin, component) {
            ramp.joined.remove(id);
        }
    }

    /// Returns all of them, with the canaries that have joined since those were last counted.
    pub(super) fn all(&self) -> Vec<Rollout> {
        let ramps = self.lock();
        ramps
            .values()
            .map(|ramp| Rollout {
                canaries: ramp.rollout.canaries + ramp.joined.len() as u64,
                ..ramp.rollout.clone()
            })
            .collect()
    }

    /// Ends those that have come to an end. Returns whether there was one.
    pub(super) fn end(&self, rule: &CanaryRule) -> bool {
        let now = UnixMillis::now();
        let mut has_ended = false;
        for ramp in self.lock().values_mut() {
            if let Some(verdict) = ramp.rollout.verdict(rule, now) {
                ramp.end(verdict, now);
                has_ended = true;
            }
        }
        has_ended
    }

    /// Writes what was counted and what has ended since the last time.
    pub(super) async fn write(&self, store: &Store) -> Result<(), StoreError> {
        let ended = std::mem::take(&mut *self.lock_ended());
        let present: Vec<_> = {
            let plugins = self.lock();
            let unwritten = plugins.values().filter(|ramp| !ramp.is_written);
            unwritten.map(|ramp| ramp.rollout.clone()).collect()
        };
        for (at, rollout) in ended.iter().enumerate() {
            if let Err(error) = store.put_rollout(rollout).await {
                self.lock_ended().extend_from_slice(&ended[at..]);
                return Err(error);
            }
        }
        for rollout in present {
            store.put_rollout(&rollout).await?;
            let mut plugins = self.lock();
            if let Some(ramp) = plugins.get_mut(&rollout.plugin) {
                // More may have been counted meanwhile.
                ramp.is_written = ramp.rollout == rollout;
            }
        }
        Ok(())
    }

    /// Returns those that go on, with the canaries that are not counted yet.
    pub(super) fn uncounted(&self) -> Vec<CanaryCount> {
        let ramps = self.lock();
        let running = ramps
            .values()
            .filter(|ramp| ramp.rollout.status == RolloutStatus::Running);
        running
            .map(|ramp| CanaryCount::new(&ramp.rollout, &ramp.joined))
            .collect()
    }

    /// Takes what was counted of one.
    pub(super) fn take_count(&self, counted: CanaryCount, rule: &CanaryRule) {
        let mut ramps = self.lock();
        let (plugin, component) = (&counted.rollout.plugin, counted.rollout.component);
        let Some(ramp) = running(&mut ramps, plugin, component) else {
            return;
        };
        let before = ramp.rollout.clone();
        ramp.rollout.canaries = counted.canaries;
        ramp.rollout.canaries_max = rule.canaries(counted.sessions);
        for failure in counted.failures {
            ramp.rollout.failed(failure);
        }
        ramp.joined.retain(|id| !counted.joined.contains(id));
        ramp.is_written &= ramp.rollout == before;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Ramp>> {
        // Poisoning is harmless: no code under this lock can panic.
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_ended(&self) -> MutexGuard<'_, Vec<Rollout>> {
        // Poisoning is harmless: each change of the list is one call.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a plugin's ramp, if it is of the component that the plugin is configured with.
fn of<'a>(
    plugins: &'a mut BTreeMap<String, Ramp>,
    plugin: &str,
    configured: Digest,
) -> Option<&'a mut Ramp> {
    let ramp = plugins.get_mut(plugin)?;
    (ramp.rollout.component == configured).then_some(ramp)
}

/// Returns a plugin's ramp, if its component is being rolled out.
fn running<'a>(
    plugins: &'a mut BTreeMap<String, Ramp>,
    plugin: &str,
    component: Digest,
) -> Option<&'a mut Ramp> {
    let ramp = of(plugins, plugin, component)?;
    (ramp.rollout.status == RolloutStatus::Running).then_some(ramp)
}

/// Returns the end of a plugin's last roll-out, if it ends, and the present one.
fn follow(
    known: &[Rollout],
    of: (&str, Digest),
    rule: &CanaryRule,
    engine: &Engine,
) -> (Option<Rollout>, Rollout) {
    let is_kept = |digest: Digest| {
        let is_kept = engine.is_kept(digest);
        if !is_kept {
            let (plugin, digest) = (of.0, digest.short());
            tracing::warn!(
                plugin,
                "component {digest}, which has proven itself, is no longer kept"
            );
        }
        is_kept
    };
    let followed = Rollout::follow(known, of, rule, is_kept, UnixMillis::now());
    if known.last() != Some(&followed.1) {
        tell(&followed.1);
    }
    followed
}

fn tell(rollout: &Rollout) {
    let (plugin, summary) = (&rollout.plugin, rollout.summary());
    match rollout.status {
        RolloutStatus::RolledBack => tracing::error!(plugin, "{summary}"),
        _ => tracing::info!(plugin, "{summary}"),
    }
}

#[cfg(test)]
#[path = "rollouts_tests.rs"]
mod tests;
