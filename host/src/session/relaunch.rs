//! The return of the sessions that were active: each is loaded, goes on with its open turn, or
//! proves that its guest restores. One that cannot is known now, not at its next message.

use std::collections::HashMap;

use futures::StreamExt as _;
use tokio::sync::oneshot;

use crate::domain::{ActiveSession, RelaunchReport, SessionId};

use super::mailbox::{Command, Relaunched};
use super::registry::Registry;
use super::shared::Gate;

/// Sessions that come back at once. Few: clients' first turns share the processors with them.
const AT_ONCE: usize = 8;

pub(super) async fn run(registry: &Registry, recorded: Vec<ActiveSession>) -> RelaunchReport {
    let mut recorded: HashMap<SessionId, ActiveSession> = recorded
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
    ids.extend(recorded.keys().cloned());
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
        let before = recorded.remove(&id);
        let Some(returned) = returned else {
            let leaving = *registry.shared.gate.borrow() >= Gate::Cut;
            if before.is_some() && !leaving {
                tracing::error!(session = %id, "the session was active and does not come back");
                report.lesser.push(id);
            }
            continue;
        };
        report.restored += u64::from(!returned.faulted);
        report.faulted += u64::from(returned.faulted);
        report.resumed_turns += u64::from(returned.resumed);
        if before.is_some_and(|before| returned.lacks(&before)) {
            tracing::error!(session = %id, "the session came back with less than was recorded");
            metrics::counter!("abide_sessions_lesser_total").increment(1);
            report.lesser.push(id);
        }
    }
    report
}

/// None for a session that is closed, or that the worker's own end met first.
async fn relaunch(registry: &Registry, id: &SessionId) -> Option<Relaunched> {
    let (reply, returned) = oneshot::channel();
    registry.tell(id, Command::Relaunch(reply)).await.ok()?;
    returned.await.ok()
}

impl Relaunched {
    fn lacks(&self, before: &ActiveSession) -> bool {
        self.turns < before.turns || self.seq < before.seq || self.cursor < before.cursor
    }
}
