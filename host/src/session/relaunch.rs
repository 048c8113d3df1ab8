//! The return of the sessions that were active: each is loaded, goes on with its open turn, or
//! proves that its guest restores. One that cannot is known now, not at its next message; and one
//! that comes back with less than was recorded is told aloud.

use std::collections::HashMap;

use futures::StreamExt as _;
use tokio::sync::oneshot;

use crate::domain::{ActiveSession, Extent, RelaunchReport, SessionId};

use super::mailbox::{DriverCommand, Relaunched};
use super::registry::Registry;
use super::shared::Gate;

/// Sessions that come back at once. Few: clients' first turns share the processors with them.
const AT_ONCE: usize = 8;

/// What sessions had when it was last written down.
#[derive(Clone, Debug, Default)]
pub struct RestartManifest {
    /// Each of them.
    pub sessions: Vec<ActiveSession>,
    /// It was written down by the drain that led to this worker: all of them are brought back.
    /// Else (a crash has come since) they are only held against what there is.
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
    // Another component may mend what is faulted, however long ago it ran.
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
        // Those that do not answer are looked for below.
        let Some(returned) = returned else { continue };
        report.restored += u64::from(!returned.faulted);
        report.faulted += u64::from(returned.faulted);
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

/// Holds those that were not brought back, or gave no answer, against the store.
async fn compare_rest(registry: &Registry, report: &mut RelaunchReport, rest: Vec<ActiveSession>) {
    if rest.is_empty() {
        return;
    }
    let store = registry.shared.store.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let found = rest.into_iter().map(|before| {
            let found = store.load(&before.id);
            (before, found)
        });
        found.collect::<Vec<_>>()
    });
    let Ok(looked) = looked.await else { return };
    // The store may be closed already: that says nothing of the sessions.
    if *registry.shared.gate.borrow() >= Gate::Closing {
        return;
    }
    for (before, found) in looked {
        let found = found.unwrap_or_else(|error| {
            tracing::error!(session = %before.id, %error, "the session cannot be read");
            None
        });
        compare(report, &before, found.map(|session| session.extent()));
    }
}

/// Says so aloud where less is found than was recorded.
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

/// None for a session that is not there, or that the worker's own end met first.
async fn relaunch(registry: &Registry, id: &SessionId) -> Option<Relaunched> {
    let (reply, returned) = oneshot::channel();
    registry
        .tell(id, DriverCommand::Relaunch(reply))
        .await
        .ok()?;
    returned.await.ok()
}
