//! A turn that fails on a component which has yet to prove itself: the one that has proven itself answers
//! from the same input, where it can.
//!
//! ```text
//!   the turn fails --it made no call that must not be made again, and the proven component
//!      |             carries the session on--> that takes it over: from its journal, or its beginning
//!      |                                          |-- commits: a failure of the new component
//!      |                                          |-- fails, too: a dead letter, the input's fault
//!      |                                          +-- calls otherwise: a dead letter, and a failure
//!      +--otherwise--> a dead letter, and a failure; later turns run on the proven component, if that can
//! ```

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Begun, CanaryFailure, Digest, FailureCode, Moved, Record, TurnFailure};

use super::Driver;
use super::batch::CommitBatch;
use super::begin::Obstacle;
use crate::engine::GuestFailure;

/// How long the trial of a component is waited for: longer than the default of `limits.compute`.
pub(super) const TRIAL_MAX: Duration = Duration::from_secs(45);

/// What becomes of a session that cannot go on with a component.
pub(super) enum WayBack {
    /// It goes on with the proven one.
    Found(Moved),
    /// Its component has no one to stand in for it.
    NotNew,
    /// The open turn made a call that must not be made again, or may have.
    Called(Digest),
    /// The proven component cannot carry it on either.
    CannotCarry(Digest, String),
    /// The worker leaves before that is known.
    Leaves,
}

impl WayBack {
    /// Returns why there is none, for humans; none if it goes without saying.
    pub(super) fn why_not(&self) -> Option<String> {
        match self {
            Self::Found(_) | Self::NotNew | Self::Leaves => None,
            Self::Called(to) => Some(format!(
                "calls were made that must not be made again, so that component {} does not answer in its place",
                to.short()
            )),
            Self::CannotCarry(to, why) => Some(format!(
                "component {} does not answer in its place, since it does not carry the session on: {why}",
                to.short()
            )),
        }
    }
}

impl Driver {
    /// Returns the way back of a session whose turn has failed on a component, or whose guest could not be
    /// restored there.
    pub(super) async fn go_back(&mut self, failed: Digest, reason: &str) -> WayBack {
        let Some(session) = &self.session else {
            return WayBack::NotNew;
        };
        let rollouts = &self.shared.rollouts;
        let Some(proven) = rollouts.instead_of(&session.identity.plugin, failed) else {
            return WayBack::NotNew;
        };
        if self.shared.store.may_move_sessions().is_err() {
            return WayBack::NotNew;
        }
        // What it last ran on, if it has committed no turn on the new one.
        let to = match session.progress.snapshot.component {
            last if last != failed => last,
            _ => proven,
        };
        let Some(moved) = session.go_back(failed, to, reason, Self::now()) else {
            return WayBack::Called(to);
        };
        let Ok(tried) = tokio::time::timeout(TRIAL_MAX, self.try_on(to)).await else {
            return WayBack::CannotCarry(to, "its trial takes too long".to_owned());
        };
        match tried {
            Ok(true) => {
                let at = self.session.as_ref().map(|it| it.progress.snapshot.at);
                self.passed = at.map(|at| (at, to));
                WayBack::Found(moved)
            }
            Ok(false) => WayBack::Leaves,
            Err(Obstacle::Store(error)) => {
                self.pause(error.to_string());
                WayBack::Leaves
            }
            Err(Obstacle::Pause(why)) => WayBack::CannotCarry(to, why),
            Err(Obstacle::Fault(fault)) => WayBack::CannotCarry(to, fault.text),
            Err(Obstacle::Guest { text, .. } | Obstacle::Loses { text, .. }) => {
                WayBack::CannotCarry(to, text)
            }
        }
    }

    /// Has the session go on with the component that it goes back to.
    pub(super) async fn move_back(&mut self, moved: Moved) {
        tracing::warn!(
            session = %self.id, reason = moved.reason,
            "the session goes back to component {}", moved.component.short()
        );
        metrics::counter!("abide_sessions_pinned_total").increment(1);
        let mut batch = CommitBatch::default();
        self.stage(&mut batch, Record::Moved(moved));
        // If the disk fails, the session is loaded again, and the same is found.
        self.commit(batch).await;
        self.shared.session_moved.notify_one();
        // The turn that is taken over begins at once.
        self.paused_until = Some(Instant::now());
    }

    /// Whether it is the guest that has failed, so that another component might not, with the same input.
    pub(super) fn is_guests(&self, failure: &GuestFailure) -> bool {
        let GuestFailure::Failed(failure) = failure else {
            return false;
        };
        let open = self.session.as_ref().and_then(|s| s.progress.open.as_ref());
        // Calls may have taken the time.
        let called = open.is_some_and(|open| open.journal.steps > 0);
        failure.code.is_of_guest() && !(failure.code == FailureCode::Timeout && called)
    }

    /// Ends a turn that has failed, or has the proven component take it over, if it is the guest that has
    /// failed.
    pub(super) async fn failed(
        &mut self,
        begun: &Begun,
        mut failure: TurnFailure,
        is_guests: bool,
    ) {
        tracing::warn!(
            session = %self.id, turn = begun.turn, code = ?failure.code,
            reason = %failure.text, "turn failed"
        );
        let reason = format!("turn {}: {}", begun.turn, failure.text);
        let way_back = match is_guests {
            true => self.go_back(begun.component, &reason).await,
            false => WayBack::NotNew,
        };
        match &way_back {
            WayBack::Leaves => return self.stays_open(),
            WayBack::Found(moved) => {
                self.stays_open();
                return self.move_back(moved.clone()).await;
            }
            WayBack::NotNew | WayBack::Called(_) | WayBack::CannotCarry(..) => {}
        }
        metrics::counter!("abide_turns_total", "outcome" => "failed").increment(1);
        let to_blame = match &way_back {
            WayBack::NotNew => self.diverges_from(begun, failure.code),
            // The guest may have returned the error of a call, which is nobody's fault.
            WayBack::Called(_) if failure.code == FailureCode::Guest => None,
            _ => Some(begun.component),
        };
        if let Some(why) = way_back.why_not() {
            failure.text = format!("{}; {why}", failure.text);
        }
        let record = self
            .session
            .as_ref()
            .and_then(|s| s.fail(failure, Self::now()));
        if let Some(record) = record {
            let mut batch = CommitBatch::default();
            self.stage(&mut batch, record);
            self.commit(batch).await;
        }
        if let Some(component) = to_blame {
            self.count_failure(component, Some(begun.turn), &reason);
        }
        // The next turn need not fail as well.
        if let WayBack::Called(_) = way_back
            && let WayBack::Found(moved) = self.go_back(begun.component, &reason).await
        {
            self.move_back(moved).await;
        }
    }

    /// Returns the component that a turn first failed on, if the one that took it over makes other calls than
    /// it has made: nobody knows whether that would have failed.
    fn diverges_from(&self, begun: &Begun, code: FailureCode) -> Option<Digest> {
        let pin = self.session.as_ref()?.progress.pin.as_ref()?;
        (pin.took_over == Some(begun.turn) && code == FailureCode::Divergence)
            .then_some(pin.refused)
    }

    /// Counts a turn that has committed: for its component, or against the one that it was taken over from.
    pub(super) fn count_commit(&self, begun: &Begun) {
        let Some(session) = &self.session else { return };
        match &session.progress.pin {
            Some(pin) if pin.took_over == Some(begun.turn) => {
                self.count_failure(pin.refused, Some(begun.turn), &pin.reason);
            }
            Some(_) | None => {
                let (rollouts, plugin) = (&self.shared.rollouts, &session.identity.plugin);
                rollouts.committed(plugin, begun.component);
            }
        }
    }

    /// Counts what a component could not do for the session.
    pub(super) fn count_failure(&self, component: Digest, turn: Option<u64>, reason: &str) {
        let Some(session) = &self.session else { return };
        let failure = CanaryFailure::new(self.id.clone(), turn, reason, Self::now());
        let rollouts = &self.shared.rollouts;
        rollouts.failed(&session.identity.plugin, component, failure);
    }
}
