//! The roll-out of a plugin's new component: some of its sessions, the *canaries*, run on it first, and the
//! others once it has proven itself.
//!
//! ```text
//!                    +-- enough turns, and none failed for `probation` --> [completed]: it is the proven one
//!   other bytes --> [running] -- three sessions with a turn that failed --> [rolled_back]
//!                    |                                                        until the bytes are others
//!                    +-- yet other bytes, or the proven ones ------------> [replaced]
//! ```
//!
//! A turn that fails on the new component and not on the proven one, with the same input, is a failure of
//! the component; so is one of which that cannot be known.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shorten::{REASON_BYTES, one_line};
use super::{Digest, Finding, FindingKind, SessionId, SessionProgress, UnixMillis};

/// The least number of sessions that are canaries, if there are so many.
pub(super) const CANARIES_MIN: u64 = 10;
/// How long a canary without a turn keeps its place, in milliseconds.
const CANARY_IDLE_MS: u64 = 10 * 60 * 1000;
/// The number of sessions whose failures end a roll-out.
pub(super) const FAILED_SESSIONS_MAX: usize = 3;

/// How new components are rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanaryRule {
    /// The share of a plugin's sessions that are canaries, in hundredths of a percent; none: all sessions
    /// run on a new component at once.
    pub share: Option<u32>,
    /// The number of turns that must commit on it.
    pub turns: u32,
    /// For how long no turn may fail on it meanwhile, in milliseconds.
    pub probation_ms: u64,
}

impl CanaryRule {
    /// Returns how many of a plugin's sessions are canaries.
    pub fn canaries(&self, sessions: u64) -> u64 {
        let share = u128::from(self.share.unwrap_or_default());
        let canaries = (u128::from(sessions) * share).div_ceil(10_000);
        CANARIES_MIN.max(u64::try_from(canaries).unwrap_or(u64::MAX))
    }
}

/// The roll-out of a plugin's component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    pub plugin: String,
    /// The component that has proven itself: sessions go back to it.
    pub proven: Digest,
    /// The component that is rolled out; the proven one, once it is.
    pub component: Digest,
    pub status: RolloutStatus,
    pub began_at: UnixMillis,
    /// How many sessions may be canaries at a time, before it has proven itself.
    pub canaries_max: u64,
    /// How many were when they were last counted: open sessions that run on it, and have had a turn of late.
    pub canaries: u64,
    /// The turns that have committed on it since the last failure.
    pub turns: u64,
    /// Since when no turn has failed on it.
    pub clean_since: UnixMillis,
    /// The first failure of each session.
    pub failures: Vec<CanaryFailure>,
    #[schema(required = true)]
    pub ended_at: Option<UnixMillis>,
}

/// How far a roll-out has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStatus {
    /// Canaries run on it.
    Running,
    /// It has proven itself: all sessions run on it from their next turn on.
    Completed,
    /// Turns failed on it that did not on the proven one: all sessions run on that. Its bytes are not tried
    /// again until they change.
    RolledBack,
    /// The plugin has another component since.
    Replaced,
}

/// What a component that is rolled out could not do for a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CanaryFailure {
    pub session: SessionId,
    /// The turn that failed; null if the session could not be created on it.
    #[schema(required = true)]
    pub turn: Option<u64>,
    /// How, for humans.
    pub reason: String,
    pub at: UnixMillis,
}

impl CanaryFailure {
    pub fn new(session: SessionId, turn: Option<u64>, reason: &str, at: UnixMillis) -> Self {
        Self {
            session,
            turn,
            reason: one_line(reason, REASON_BYTES),
            at,
        }
    }
}

impl Rollout {
    /// Returns that of a component which counts as proven.
    pub fn counted(plugin: &str, component: Digest, at: UnixMillis) -> Self {
        Self {
            plugin: plugin.to_owned(),
            proven: component,
            component,
            status: RolloutStatus::Completed,
            began_at: at,
            canaries_max: 0,
            canaries: 0,
            turns: 0,
            clean_since: at,
            failures: Vec::new(),
            ended_at: Some(at),
        }
    }

    /// Returns what becomes of a plugin's last roll-out, now that the plugin is configured with `component`: the
    /// same one, or its end and the next one. `known` are its roll-outs so far, the oldest first; `is_kept`:
    /// whether a component can still be gone back to.
    pub fn follow(
        known: &[Self],
        (plugin, component): (&str, Digest),
        rule: &CanaryRule,
        is_kept: impl Fn(Digest) -> bool,
        at: UnixMillis,
    ) -> (Option<Self>, Self) {
        let Some(last) = known.last().cloned() else {
            return (None, Self::counted(plugin, component, at));
        };
        let ways_back = || rule.share.is_some() && is_kept(last.proven);
        if last.component == component && last.status != RolloutStatus::Replaced {
            let is_over = last.status == RolloutStatus::Completed || ways_back();
            return match is_over {
                true => (None, last),
                false => (None, last.ended(RolloutStatus::Completed, at)),
            };
        }
        // One is found by when it began.
        let at = at.max(UnixMillis(last.began_at.0.saturating_add(1)));
        let has_failed = |it: &&Self| {
            it.component == component
                && it.proven == last.proven
                && it.status == RolloutStatus::RolledBack
        };
        let next = match known.iter().rfind(has_failed) {
            _ if last.proven == component || !ways_back() => Self::counted(plugin, component, at),
            Some(failed) => Self {
                began_at: at,
                ..failed.clone()
            },
            None => Self {
                proven: last.proven,
                component,
                status: RolloutStatus::Running,
                canaries_max: CANARIES_MIN,
                ended_at: None,
                ..Self::counted(plugin, component, at)
            },
        };
        let ended = match last.status {
            RolloutStatus::Running => Some(last.ended(RolloutStatus::Replaced, at)),
            _ => None,
        };
        (ended, next)
    }

    /// Returns the component that a session runs on, whether it is a canary or not.
    pub fn component_of(&self, is_canary: bool) -> Digest {
        match self.status {
            RolloutStatus::Completed => self.component,
            RolloutStatus::Running if is_canary => self.component,
            RolloutStatus::Running | RolloutStatus::RolledBack | RolloutStatus::Replaced => {
                self.proven
            }
        }
    }

    /// Whether a session runs on its component, has begun to, or could not.
    pub fn has_reached(&self, session: &SessionProgress) -> bool {
        let open = session.open.as_ref();
        session.snapshot.component == self.component
            || session.adopted == Some(self.component)
            || open.is_some_and(|open| open.begun.component == self.component)
            || session
                .pin
                .as_ref()
                .is_some_and(|pin| pin.refused == self.component)
    }

    /// Returns the proven component, if a turn that fails on this one may have failed for its sake.
    pub fn instead_of(&self, component: Digest) -> Option<Digest> {
        let unproven = match self.status {
            RolloutStatus::Running | RolloutStatus::RolledBack => true,
            RolloutStatus::Completed | RolloutStatus::Replaced => false,
        };
        (unproven && self.component == component && self.proven != component).then_some(self.proven)
    }

    /// Whether a session that was created at `created` takes one of the places for canaries: one that is idle
    /// leaves its own to another.
    pub fn takes_place(
        &self,
        session: &SessionProgress,
        created: UnixMillis,
        at: UnixMillis,
    ) -> bool {
        let runs_on_it =
            session.snapshot.component == self.component || session.adopted == Some(self.component);
        let of_late = at.since(session.last_commit.unwrap_or(created)) < CANARY_IDLE_MS;
        let has_begun = session
            .open
            .as_ref()
            .is_some_and(|open| open.begun.component == self.component);
        session.closed.is_none() && (has_begun || runs_on_it && of_late)
    }

    /// Returns the failure that a session tells of: that its turn was taken over. It may not have been counted.
    pub fn failure_of(&self, id: &SessionId, session: &SessionProgress) -> Option<CanaryFailure> {
        let pin = session.pin.as_ref()?;
        let turn = pin.took_over.filter(|turn| {
            let open = session.open.as_ref();
            pin.refused == self.component && open.is_none_or(|open| open.begun.turn != *turn)
        })?;
        let failure = CanaryFailure::new(id.clone(), Some(turn), &pin.reason, pin.at);
        (pin.at >= self.began_at).then_some(failure)
    }

    /// Counts a turn that has committed on its component.
    pub fn committed(&mut self) {
        self.turns += 1;
    }

    /// Counts the first failure of a session: what went well before does not count any more. Returns whether
    /// it is the first one.
    pub fn failed(&mut self, failure: CanaryFailure) -> bool {
        let mut known = self.failures.iter();
        let is_first = known.all(|known| known.session != failure.session);
        if is_first {
            self.turns = 0;
            self.clean_since = self.clean_since.max(failure.at);
            self.failures.push(failure);
        }
        is_first
    }

    /// Returns how it ends now; none if it goes on.
    pub fn verdict(&self, rule: &CanaryRule, at: UnixMillis) -> Option<RolloutStatus> {
        if self.status != RolloutStatus::Running {
            return None;
        }
        if self.failures.len() >= FAILED_SESSIONS_MAX {
            return Some(RolloutStatus::RolledBack);
        }
        let is_over = at.since(self.clean_since) >= rule.probation_ms;
        (self.turns >= u64::from(rule.turns) && is_over).then_some(RolloutStatus::Completed)
    }

    pub fn ended(mut self, status: RolloutStatus, at: UnixMillis) -> Self {
        if status == RolloutStatus::Completed {
            self.proven = self.component;
        }
        Self {
            status,
            ended_at: Some(at),
            ..self
        }
    }

    /// Returns the finding that its component was rolled back, if it was.
    pub(super) fn finding(&self) -> Option<Finding> {
        let since = self
            .ended_at
            .filter(|_| self.status == RolloutStatus::RolledBack)?;
        let traps = self
            .failures
            .iter()
            .map(|failure| format!("`{}`: {}", failure.session, failure.reason));
        Some(Finding {
            kind: FindingKind::ComponentRolledBack,
            subject: format!("plugins.{}", self.plugin),
            since,
            reason: format!(
                "{}: {}",
                self.summary(),
                traps.collect::<Vec<_>>().join("; ")
            ),
            remedy: "put a mended component in its place: other bytes are tried by themselves; \
                     daemon.canary = \"off\" runs all sessions on these at once"
                .to_owned(),
        })
    }

    /// Returns how far it has come, in one line.
    pub fn summary(&self) -> String {
        let (component, proven) = (self.component.short(), self.proven.short());
        let failures = match self.failures.len() {
            0 => String::new(),
            failed => format!(", {failed} of {FAILED_SESSIONS_MAX} with a turn that failed on it"),
        };
        match self.status {
            RolloutStatus::Running => format!(
                "component {component} is rolled out: {} of at most {} sessions try it, turns since it \
                 last failed: {}{failures}; the others stay on {proven}",
                self.canaries, self.canaries_max, self.turns
            ),
            RolloutStatus::Completed => format!("component {component} counts as proven"),
            RolloutStatus::RolledBack => format!(
                "component {component} was rolled back{failures}; all sessions run on {proven}"
            ),
            RolloutStatus::Replaced => format!("component {component} was replaced"),
        }
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
