//! The standing approvals: in memory for each call that needs a human, in the store for good.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::domain::{
    ApprovalId, Asked, Patterns, Refusal, STANDING_MAX, SessionId, StandingApproval,
};
use crate::store::Store;

use super::queries::refusal;

/// How long a revocation waits for the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// The standing approvals of all sessions. Clones share them.
#[derive(Clone)]
pub(super) struct StandingApprovals(Arc<Inner>);

struct Inner {
    store: Store,
    table: RwLock<Table>,
    /// Held while one is added, so that there are never too many.
    adding: tokio::sync::Mutex<()>,
}

type Table = BTreeMap<SessionId, Vec<StandingApproval>>;

impl StandingApprovals {
    /// Reads those of the store. If they cannot be read, there is none: humans are asked. Waits for the
    /// disk.
    pub(super) fn load(store: Store) -> Self {
        let stored = store.standing_approvals().unwrap_or_else(|error| {
            tracing::error!(%error, "standing approvals cannot be read; each call is asked about");
            Vec::new()
        });
        let mut table = Table::new();
        for standing in stored {
            if let Some(session) = standing.id.session() {
                table.entry(session).or_default().push(standing);
            }
        }
        Self(Arc::new(Inner {
            store,
            table: RwLock::new(table),
            adding: tokio::sync::Mutex::new(()),
        }))
    }

    /// Returns the one that covers a call of the session.
    pub(super) fn covering(&self, session: &SessionId, asked: &Asked) -> Option<StandingApproval> {
        self.table(|table| {
            let of_session = table.get(session)?;
            of_session.iter().find(|it| it.covers(asked)).cloned()
        })
    }

    /// Returns those of the sessions whose ids match, by session.
    pub(super) fn list(&self, ids: &Patterns) -> Vec<StandingApproval> {
        self.table(|table| {
            let matching = table.iter().filter(|(id, _)| ids.allow(id.as_str()));
            matching
                .flat_map(|(_, those)| those.iter().cloned())
                .collect()
        })
    }

    /// Adds one, which is synced to disk when this returns. Goes on if the caller leaves.
    pub(super) async fn add(
        &self,
        session: SessionId,
        new: StandingApproval,
    ) -> Result<(), Refusal> {
        let this = self.clone();
        let adding = tokio::spawn(async move {
            let _adding = this.0.adding.lock().await;
            let (known, all) = this.table(|table| {
                let known = table
                    .get(&session)
                    .is_some_and(|those| those.iter().any(|it| it.id == new.id));
                (known, table.values().map(Vec::len).sum::<usize>())
            });
            if known {
                return Ok(());
            }
            if all >= STANDING_MAX {
                return Err(Refusal::TooManyStanding {
                    limit: STANDING_MAX,
                });
            }
            this.0
                .store
                .put_standing_approval(&new)
                .await
                .map_err(refusal)?;
            this.change(|table| table.entry(session).or_default().push(new));
            Ok(())
        });
        adding.await.unwrap_or(Err(Refusal::Restarting))
    }

    /// Revokes one: its call is asked about from now on, whatever the disk does. That is synced when this
    /// returns well; else it is tried again until it is, or until this worker ends.
    pub(super) async fn revoke(&self, id: &ApprovalId) -> Result<StandingApproval, Refusal> {
        let unknown = || Refusal::UnknownStanding(id.to_string());
        let session = id.session().ok_or_else(unknown)?;
        let revoked = self.change(|table| {
            let of_session = table.get_mut(&session)?;
            let at = of_session.iter().position(|it| it.id == *id)?;
            Some(of_session.remove(at))
        });
        let revoked = revoked.ok_or_else(unknown)?;
        match tokio::time::timeout(DISK_PATIENCE, self.delete(vec![id.clone()])).await {
            Ok(_deleted) => Ok(revoked),
            Err(_) => Err(Refusal::StoreFailed(format!(
                "calls like `{id}` are asked about from now on, but the disk takes its time to note that; a \
                 restart before then would approve them again"
            ))),
        }
    }

    /// Forgets those of a session that was closed.
    pub(super) fn forget(&self, session: &SessionId) {
        let forgotten = self
            .change(|table| table.remove(session))
            .unwrap_or_default();
        if !forgotten.is_empty() {
            // Nobody waits for it: no other session has this id.
            drop(self.delete(forgotten.into_iter().map(|it| it.id).collect()));
        }
    }

    fn delete(&self, ids: Vec<ApprovalId>) -> tokio::task::JoinHandle<()> {
        let store = self.0.store.clone();
        tokio::spawn(async move {
            for id in ids {
                store.delete_standing_approval(&id).await;
            }
        })
    }

    fn table<T>(&self, read: impl FnOnce(&Table) -> T) -> T {
        // Ignores poisoning: each change is one insertion or removal.
        read(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.0.table.write().unwrap_or_else(PoisonError::into_inner))
    }
}
