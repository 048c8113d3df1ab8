//! Relaunch of the sessions that were active before a restart: each is loaded and either resumes
//! its open turn or verifies that its guest restores. So a session that cannot run is detected now,
//! not at its next message, and a session that has lost recorded progress is reported as an error.

use std::collections::HashMap;

use futures::StreamExt as _;
use tokio::sync::oneshot;

use crate::domain::{ActiveSession, Extent, RelaunchReport, SessionId};

use super::drain::Gate;
use super::mailbox::{DriverCommand, Relaunched};
use super::registry::Registry;

/// The number of sessions that come back concurrently. Small, because the first turns of clients
/// share the CPUs with them.
const AT_ONCE: usize = 8;

/// The progress of the active sessions when it was last recorded.
#[derive(Clone, Debug, Default)]
pub struct RestartManifest {
    /// The recorded sessions.
    pub sessions: Vec<ActiveSession>,
    /// Whether the drain that led to this worker recorded it: then all its sessions are brought
    /// back. Otherwise (there was a crash since) it is only compared with the sessions found in the
    /// store.
    pub is_fresh: bool,
}

pub(super) async fn run(registry: &Registry, witness: RestartManifest) -> RelaunchReport {
    let RestartManifest { sessions, is_fresh } = witness;
    let mut recorded: HashMap<SessionId, ActiveSession> = sessions
        .into_iter()
        .map(|session| (session.id.clone(), session))
        .collect();
    let mut ids: Vec<SessionId> = match registry.active_ids() {
        Ok(ids) => ids,
        Err(error) => {
            tracing::error!(%error, "the active sessions cannot be read from the store");
            Vec::new()
        }
    };
    if is_fresh {
        ids.extend(recorded.keys().cloned());
    }
    // A new component may repair a faulted session, however long ago the session last ran.
    match registry.shared.store.faulted() {
        Ok(faulted) => ids.extend(faulted),
        Err(error) => tracing::error!(%error, "the faulted sessions cannot be read"),
    }
    ids.sort();
    ids.dedup();
    let mut report = RelaunchReport::default();
    let mut returns = futures::stream::iter(ids)
        .map(|id| async move {
            let returned = relaunch(registry, &id).await;
            (id, returned)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((id, returned)) = returns.next().await {
        // Sessions without a reply are compared with the store below.
        let Some(returned) = returned else { continue };
        report.restored += u64::from(!returned.faulted);
        report.faulted += u64::from(returned.faulted);
        report.pinned += u64::from(returned.pinned);
        report.resumed_turns += u64::from(returned.resumed);
        if let Some(before) = recorded.remove(&id) {
            compare(&mut report, &before, Some(returned.extent));
        }
    }
    drop(returns);
    let mut rest: Vec<ActiveSession> = recorded.into_values().collect();
    rest.sort_by(|a, b| a.id.cmp(&b.id));
    compare_rest(registry, &mut report, rest).await;
    report
}

/// Compares the sessions that were not brought back, or did not reply, with the store.
async fn compare_rest(registry: &Registry, report: &mut RelaunchReport, rest: Vec<ActiveSession>) {
    if rest.is_empty() {
        return;
    }
    let store = registry.shared.store.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let found = rest.into_iter().map(|before| {
            let found = store.load(&before.id);
            (before, found)
        });
        found.collect::<Vec<_>>()
    });
    let Ok(loaded) = loaded.await else { return };
    // A store that is already closed says nothing about the sessions.
    if *registry.shared.turns.gate.borrow() >= Gate::Closing {
        return;
    }
    for (before, found) in loaded {
        let found = found.unwrap_or_else(|error| {
            tracing::error!(session = %before.id, %error, "the session cannot be read");
            None
        });
        compare(report, &before, found.map(|session| session.extent()));
    }
}

/// Logs and reports a session that has less progress than was recorded.
fn compare(report: &mut RelaunchReport, before: &ActiveSession, found: Option<Extent>) {
    let Some(shortfall) = before.shortfall(found) else {
        return;
    };
    tracing::error!(
        session = %before.id,
        "the session came back with LESS than was recorded: {shortfall}"
    );
    metrics::counter!("abide_sessions_lesser_total").increment(1);
    report.lacks(shortfall);
}

/// Relaunches one session. Returns `None` if it does not exist or the worker ends first.
async fn relaunch(registry: &Registry, id: &SessionId) -> Option<Relaunched> {
    let (reply, returned) = oneshot::channel();
    registry
        .tell(id, DriverCommand::Relaunch(reply))
        .await
        .ok()?;
    returned.await.ok()
}
