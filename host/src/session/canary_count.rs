//! Counts the canaries of roll-outs, by looking at all sessions.

use std::collections::HashSet;

use crate::domain::{CanaryFailure, Patterns, Rollout, SessionId, UnixMillis};
use crate::store::{SessionSummary, Store, StoreError};

/// The number of sessions that are read at once.
const PAGE: usize = 256;

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
    let mut after = None;
    loop {
        let page = store.list(after.as_ref(), PAGE, &Patterns::all())?;
        for listed in &page {
            counts.iter_mut().for_each(|it| it.add(listed, now));
        }
        match page.last() {
            Some(last) => after = Some(last.id.clone()),
            None => return Ok(counts),
        }
    }
}
