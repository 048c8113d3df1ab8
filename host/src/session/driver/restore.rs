//! Whether a session's guest can be restored: verified when the session comes back after a restart, and
//! what follows where it cannot.
//!
//! ```text
//!   the plugin's component --cannot be instantiated, or not restored--> the one that it last ran on
//!        ^                                                                  |  (pinned)        |
//!        +-- the plugin has yet another component, or `abide plugin adopt` -+                  |
//!                                                                     cannot either: faulted <-+
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{
    Begun, Digest, Fault, FaultCode, Faulted, Generation, Identity, MessageId, Moved, PointAct,
    Record, Refusal, Session, SessionView, Snapshot, TrialVerdict, UnixMillis,
};

use super::Driver;
use super::batch::CommitBatch;
use super::begin::{Obstacle, TurnInputs};
use super::take_over::{TRIAL_MAX, WayBack};
use crate::engine::GuestFailure;
use crate::session::drain::Gate;
use crate::session::mailbox::Adoption;
use crate::session::plugins::Plugin;
use crate::session::queries::refusal;
use crate::session::replay::Subject;
use crate::session::trial::Trial;

/// The same, while a turn of the session runs.
const TRIAL_BESIDE_TURN: Duration = Duration::from_secs(5);

/// What a request has found of a component.
#[derive(Debug, PartialEq)]
enum Tried {
    /// The session can run on it.
    Runs,
    /// The session can run on it, but is not carried on as a whole: the fault of one that may not.
    Loses(Fault),
    /// The fault that the session would have.
    Faults(Fault),
}

/// Returns what a turn on this component would begin with, in a session whose last turn was `last_turn`.
pub(in crate::session) fn begun_on(
    last_turn: u64,
    component: Digest,
    generation: Generation,
) -> Begun {
    Begun {
        turn: last_turn,
        message: MessageId::on(None, 0),
        attempt: 0,
        deaths: 0,
        notice: None,
        now: UnixMillis::now(),
        seed: rand::random(),
        component,
        limits: None,
        generation,
        resumed_in: None,
    }
}

fn no_room() -> Refusal {
    Refusal::NothingFound {
        reason:
            "the trial has not ended in time: it takes long, or other guests leave no room for it"
                .to_owned(),
    }
}

impl Driver {
    /// Handles a guest that could not be instantiated, or not be restored, on this component: the session
    /// goes on with the one that it last ran on, or is faulted.
    pub(super) async fn cannot_restore(&mut self, failed: Digest, reason: String) {
        if self.fall_back(failed, &reason).await {
            if let Some(session) = &self.session {
                let (rollouts, plugin) = (&self.shared.rollouts, &session.identity.plugin);
                rollouts.left(plugin, failed, &self.id);
            }
            return;
        }
        // What it last ran on is the very component, which is new, perhaps.
        match self.go_back(failed, &reason).await {
            WayBack::Found(moved) => {
                // A turn is counted by how it ends.
                if moved.takes_over.is_none() {
                    self.count_failure(failed, None, &reason);
                }
                self.move_back(moved).await;
            }
            // The next worker finds the same.
            WayBack::Leaves => {}
            none => {
                let text = match none.why_not() {
                    Some(why) => format!("{reason}; {why}"),
                    None => reason,
                };
                self.fault(Fault {
                    code: FaultCode::Restore,
                    text,
                    component: Some(failed),
                })
                .await;
            }
        }
    }

    /// Pins the session to the component that it last ran on. Returns false if that is impossible.
    async fn fall_back(&mut self, failed: Digest, reason: &str) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let Some(moved) = session.fall_back(failed, reason, Self::now()) else {
            return false;
        };
        tracing::warn!(
            session = %self.id, plugin = session.identity.plugin, reason,
            "the session cannot go on with component {}; it stays on {}, which it last ran on",
            failed.short(), moved.component.short(),
        );
        metrics::counter!("abide_sessions_pinned_total").increment(1);
        if let Err(not_yet) = self.shared.store.may_move_sessions() {
            // It holds while the session is in memory, and is found out again after that.
            tracing::info!(session = %self.id, "that is not recorded: {not_yet}");
            session.move_for_now(&moved);
            return true;
        }
        let mut batch = CommitBatch::default();
        self.stage(&mut batch, Record::Moved(moved));
        // If the disk fails, the session is loaded again, and the same is found.
        self.commit(batch).await;
        self.shared.session_moved.notify_one();
        true
    }

    /// Ends a pin once the session's guest has run, or was restored, on its plugin's component: that is
    /// another one since.
    pub(super) fn end_pin(&mut self, batch: &mut CommitBatch, ran_on: Digest) {
        let Some(session) = &self.session else {
            return;
        };
        let Some(moved) = session.unpin(ran_on, Self::now()) else {
            return;
        };
        if self.configured(session).ok() != Some(ran_on) {
            return;
        }
        match self.shared.store.may_move_sessions() {
            Ok(()) => drop(self.stage(batch, Record::Moved(moved))),
            // Nor is it recorded that it was pinned.
            Err(_) => {
                if let Some(session) = &mut self.session {
                    session.move_for_now(&moved);
                }
            }
        }
    }

    /// Verifies that the guest of a relaunched session restores, when there is no turn to run.
    pub(super) async fn verify_restore(&mut self) {
        while !self.proven && self.unread.is_none() {
            let Some(session) = &self.session else {
                // A session that was active is missing. Without a reply, the relaunch reports that.
                return self.relaunching.clear();
            };
            if session.progress.closed.is_some() || session.progress.fault.is_some() {
                break;
            }
            let component = self.next_component(session);
            match self.try_on(component).await {
                Ok(true) => {
                    self.proven = true;
                    let passed = self.session.as_ref();
                    self.passed = passed.map(|it| (it.progress.snapshot.at, component));
                    let mut batch = CommitBatch::default();
                    self.end_pin(&mut batch, component);
                    self.commit(batch).await;
                }
                // The result stays unknown; the next worker will verify.
                Ok(false) => return self.relaunching.clear(),
                // It may be restored on the component that it last ran on.
                Err(obstacle @ (Obstacle::Guest { .. } | Obstacle::Loses { .. })) => {
                    self.handle_obstacle(obstacle).await;
                }
                Err(obstacle) => return self.handle_obstacle(obstacle).await,
            }
        }
        self.answer_relaunch(false);
    }

    /// Has a session that stays on an older component, or has not run since there is another one, run on its
    /// plugin's, if that carries it on, or as `adoption` says.
    pub(super) async fn adopt(
        &mut self,
        adoption: Adoption,
        batch: &mut CommitBatch,
    ) -> Result<SessionView, Refusal> {
        let session = self.existing()?;
        if let Some(at) = session.progress.closed {
            return Err(Refusal::Closed { at });
        }
        let name = &session.identity.plugin;
        let configured = self.plugin(name)?.component.digest();
        // An operator may have it be a canary.
        let configured = self.shared.rollouts.offered(name, configured);
        let at = Self::now();
        let mut moved = session.unpin(configured, at);
        if moved.is_none() && session.progress.snapshot.component == configured {
            return Err(Refusal::NotPinned);
        }
        if self.shared.rollouts.instead_of(name, configured).is_some() {
            moved.get_or_insert_with(|| Session::adopt(configured, at));
        }
        if self.running.is_some() {
            // Its snapshot is about to be replaced, and it may hold what the trial would wait for.
            return Err(Refusal::TurnOpen);
        }
        self.shared.store.may_move_sessions().map_err(refusal)?;
        let (moved, fault) = match (self.try_soon(configured).await?, adoption) {
            (Tried::Runs, _) => (moved, None),
            // That it does is recorded, so that it is not tried again.
            (Tried::Loses(_), Adoption::ByForce) => (Some(Session::adopt(configured, at)), None),
            (Tried::Loses(fault) | Tried::Faults(fault), Adoption::Whole) => {
                return Err(Refusal::CannotAdopt { reason: fault.text });
            }
            _ if session.progress.open.is_some() => return Err(Refusal::TurnOpen),
            (Tried::Loses(fault) | Tried::Faults(fault), _) => (moved, Some(fault)),
        };
        batch.acted(PointAct::Adopt);
        if let Some(moved) = moved {
            self.stage(batch, Record::Moved(moved));
        }
        match fault {
            Some(fault) => {
                self.stage(batch, Record::Faulted(Faulted { fault, at }));
            }
            // The older component may be what cannot carry it on.
            None if self.was_tried() => {
                self.stage(batch, self.existing()?.resume(at)?);
            }
            None => {}
        }
        self.shared.session_moved.notify_one();
        Ok(self.existing()?.view(&self.id))
    }

    /// Lets the session run again, if it can: a guest that could not be restored is tried first.
    pub(super) async fn resume(&mut self, batch: &mut CommitBatch) -> Result<SessionView, Refusal> {
        let resumed = self.existing()?.resume(Self::now())?;
        let moved = match self.was_tried() {
            true => self.try_to_resume(&resumed).await?,
            false => None,
        };
        batch.acted(PointAct::Resume);
        self.stage(batch, resumed);
        if let Some(moved) = moved {
            self.stage(batch, Record::Moved(moved));
        }
        Ok(self.existing()?.view(&self.id))
    }

    /// Whether the session is faulted for a reason that a trial would find again.
    fn was_tried(&self) -> bool {
        let fault = self
            .session
            .as_ref()
            .and_then(|s| s.progress.fault.as_ref());
        fault.is_some_and(|fault| matches!(fault.code, FaultCode::Restore | FaultCode::Plugin))
    }

    /// Finds a component that the session can run on once it is resumed: the one that is its next, its
    /// plugin's, or the one that it last ran on. Returns the move to it, if there has to be one.
    async fn try_to_resume(&self, resumed: &Record) -> Result<Option<Moved>, Refusal> {
        let mut after = self.existing()?.clone();
        after.apply(resumed);
        let configured = self.configured(&after).ok();
        let next = self.next_component(&after);
        let reason = match self.try_soon(next).await? {
            Tried::Runs => return Ok(None),
            Tried::Loses(fault) | Tried::Faults(fault) => fault.text,
        };
        let now = Self::now();
        let name = &after.identity.plugin;
        if let Ok(plugin) = self.plugin(name) {
            // It may be what mends it, before it has proven itself.
            let offered = self
                .shared
                .rollouts
                .offered(name, plugin.component.digest());
            if offered != next && self.try_soon(offered).await? == Tried::Runs {
                self.shared.rollouts.admit(name, offered, &self.id);
                return Ok(after.unpin(offered, now));
            }
        }
        let others = [
            configured.and_then(|configured| Some((configured, after.unpin(configured, now)?))),
            after
                .fall_back(next, &reason, now)
                .map(|moved| (moved.component, moved)),
        ];
        for (component, moved) in others.into_iter().flatten() {
            let may_move = self.shared.store.may_move_sessions().is_ok();
            if may_move && component != next && self.try_soon(component).await? == Tried::Runs {
                return Ok(Some(moved));
            }
        }
        Err(Refusal::StillFaulted { reason })
    }

    /// Like [`Self::try_on`], for a request that does not wait for long.
    async fn try_soon(&self, component: Digest) -> Result<Tried, Refusal> {
        let Ok(tried) = tokio::time::timeout(TRIAL_MAX, self.try_on(component)).await else {
            return Err(no_room());
        };
        match tried {
            Ok(true) => Ok(Tried::Runs),
            Ok(false) => Err(Refusal::Restarting),
            Err(obstacle @ Obstacle::Loses { .. }) => obstacle.into_fault().map(Tried::Loses),
            Err(obstacle) => obstacle.into_fault().map(Tried::Faults),
        }
    }

    /// Finds out whether the session can go on with this component. Returns false if the worker leaves before
    /// that is known.
    pub(super) async fn try_on(&self, component: Digest) -> Result<bool, Obstacle> {
        let begun = self.begun_on(component);
        let ground = self.turn_inputs(&begun).await?;
        match self.due_trial(&ground.plugin) {
            Some(trial) => self.try_carry_on(&trial, &begun, &ground.snapshot).await,
            None => self.try_restore(&ground).await,
        }
    }

    /// Returns the trial of a component that has not written the session's state; none if it has, if an
    /// operator has the session adopt it, if an open turn can only go on with it, or if it has just passed.
    pub(super) fn due_trial(&self, plugin: &Arc<Plugin>) -> Option<Trial> {
        let session = self.session.as_ref()?;
        let component = plugin.component.digest();
        let has_passed = self.passed == Some((session.progress.snapshot.at, component));
        let is_due = !has_passed
            && session.progress.is_untried_on(component)
            && !session.is_bound_to(component);
        is_due.then(|| Trial {
            engine: self.shared.engine.clone(),
            id: self.id.clone(),
            identity: session.identity.clone(),
            plugin: plugin.clone(),
            last: Subject::last(&session.progress).map(|last| (self.shared.store.clone(), last)),
        })
    }

    async fn try_carry_on(
        &self,
        trial: &Trial,
        begun: &Begun,
        snapshot: &Snapshot,
    ) -> Result<bool, Obstacle> {
        let mut gate = self.gate.clone();
        let report = tokio::select! {
            report = trial.run(begun, snapshot) => report,
            _ = gate.wait_for(|gate| *gate >= Gate::Aborting) => return Ok(false),
        };
        let (component, text) = (begun.component, report.text);
        match report.verdict {
            TrialVerdict::Passed => Ok(true),
            TrialVerdict::Failed if !report.is_restored => Err(Obstacle::Guest { component, text }),
            TrialVerdict::Suspect | TrialVerdict::Failed => {
                Err(Obstacle::Loses { component, text })
            }
            TrialVerdict::Untried => Err(Obstacle::Pause(text)),
        }
    }

    /// Refuses a state, as it is stored, that the guest of a session cannot be restored from on its
    /// component. For a request that does not wait for long.
    pub(super) async fn try_state(
        &self,
        identity: &Identity,
        component: Digest,
        stored: &[u8],
    ) -> Result<(), Refusal> {
        let patience = match self.running {
            None => TRIAL_MAX,
            // The turn waits meanwhile, and may hold what the trial waits for.
            Some(_) => TRIAL_BESIDE_TURN,
        };
        let tried = tokio::time::timeout(patience, self.try_any(identity, component, stored));
        tried.await.unwrap_or_else(|_| Err(no_room()))
    }

    async fn try_any(
        &self,
        identity: &Identity,
        component: Digest,
        stored: &[u8],
    ) -> Result<(), Refusal> {
        let cannot = |reason: &dyn std::fmt::Display| Refusal::CannotReturn {
            reason: reason.to_string(),
        };
        let name = &identity.plugin;
        let present = self.plugin(name)?;
        let plugin = self.shared.plugin_on(name, &present, component).await;
        let plugin = plugin.map_err(|error| cannot(&error))?;
        let limit = plugin.limits.snapshot_bytes;
        let snapshot = Snapshot::decode(stored, name, limit).map_err(|error| cannot(&error))?;
        let ground = TurnInputs {
            job: plugin.job(&self.id, identity, &self.begun_on(component), Vec::new()),
            snapshot: Arc::new(snapshot),
            plugin,
        };
        match self.try_restore(&ground).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Restarting),
            Err(obstacle) => Err(cannot(&obstacle.into_fault()?.text)),
        }
    }

    /// Returns what a turn on this component would begin with.
    fn begun_on(&self, component: Digest) -> Begun {
        let generation = self.shared.settings.generation;
        let last_turn = self.session.as_ref().map(|s| s.progress.last_turn);
        begun_on(last_turn.unwrap_or_default(), component, generation)
    }

    /// Restores a guest, and drops it. Returns false if the worker leaves before it is known whether that is
    /// possible.
    async fn try_restore(&self, ground: &TurnInputs) -> Result<bool, Obstacle> {
        let mut gate = self.gate.clone();
        let restored = tokio::select! {
            restored = self.shared.engine.restore(&ground.job, &ground.snapshot) => restored,
            _ = gate.wait_for(|gate| *gate >= Gate::Aborting) => return Ok(false),
        };
        let component = ground.job.component.digest();
        match restored {
            Ok(()) => Ok(true),
            Err(GuestFailure::Restore { text, .. }) => Err(Obstacle::Guest { component, text }),
            Err(failure) => Err(Obstacle::Pause(failure.to_string())),
        }
    }
}
