//! Counts the canaries of roll-outs, by looking at all sessions.

use std::collections::HashSet;

use crate::domain::{CanaryFailure, Rollout, SessionId, UnixMillis};
use crate::store::{SessionSummary, Store, StoreError};

/// What is counted of a roll-out by looking at all sessions.
pub(super) struct CanaryCount {
    pub(super) rollout: Rollout,
    /// The canaries that were not counted before.
    pub(super) joined: HashSet<SessionId>,
    pub(super) sessions: u64,
    pub(super) canaries: u64,
    pub(super) failures: Vec<CanaryFailure>,
}

impl CanaryCount {
    pub(super) fn new(rollout: &Rollout, joined: &HashSet<SessionId>) -> Self {
        Self {
            rollout: rollout.clone(),
            joined: joined.clone(),
            sessions: 0,
            canaries: 0,
            failures: Vec::new(),
        }
    }

    fn add(&mut self, listed: &SessionSummary, now: UnixMillis) {
        let (session, created) = (&listed.progress, listed.identity.created_at);
        if listed.identity.plugin != self.rollout.plugin || session.closed.is_some() {
            return;
        }
        self.sessions += 1;
        self.canaries += u64::from(self.rollout.takes_place(session, created, now));
        self.failures
            .extend(self.rollout.failure_of(&listed.id, session));
    }
}

/// Counts all sessions. Reads each session's state.
pub(super) fn count(
    store: &Store,
    mut counts: Vec<CanaryCount>,
) -> Result<Vec<CanaryCount>, StoreError> {
    let now = UnixMillis::now();
    store.each_session(|listed| counts.iter_mut().for_each(|it| it.add(listed, now)))?;
    Ok(counts)
}
