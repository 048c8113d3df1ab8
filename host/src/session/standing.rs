//! The standing approvals: in memory for each call that needs a human, in the store for good.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::domain::{
    ApprovalId, Asked, Patterns, Refusal, STANDING_MAX, SessionId, StandingApproval,
};
use crate::store::Store;

use super::queries::{alive, refusal};

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

    /// Refuses to add another one where there would be too many, or where the data folder cannot hold it yet.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        self.0
            .store
            .may_hold_standing_approvals()
            .map_err(refusal)?;
        let all = || self.table(|table| table.values().map(Vec::len).sum::<usize>());
        if all() >= STANDING_MAX {
            self.forget_closed();
        }
        match all() < STANDING_MAX {
            true => Ok(()),
            false => Err(Refusal::TooManyStanding {
                limit: STANDING_MAX,
            }),
        }
    }

    /// Adds one, which is synced to disk when this returns.
    pub(super) async fn add(
        &self,
        session: SessionId,
        new: StandingApproval,
    ) -> Result<(), Refusal> {
        let _adding = self.0.adding.lock().await;
        let is_there = |those: &Vec<StandingApproval>| those.iter().any(|it| it.id == new.id);
        if self.table(|table| table.get(&session).is_some_and(is_there)) {
            return Ok(());
        }
        self.check_room()?;
        let put = self.0.store.put_standing_approval(&new).await;
        put.map_err(refusal)?;
        self.change(|table| table.entry(session).or_default().push(new));
        Ok(())
    }

    /// Revokes one, and others about the same calls: they are asked about from now on, whatever the disk
    /// does. That is synced when this returns well; else it is tried again until it is, or until this worker
    /// ends.
    pub(super) async fn revoke(&self, id: &ApprovalId) -> Result<StandingApproval, Refusal> {
        let unknown = || Refusal::UnknownStanding(id.to_string());
        let session = id.session().ok_or_else(unknown)?;
        let revoked = self.change(|table| {
            let of_session = table.get_mut(&session)?;
            let named = of_session.iter().find(|it| it.id == *id)?.clone();
            let alike = of_session.extract_if(.., |it| it.covers_what(&named));
            let ids = alike.map(|it| it.id).collect();
            Some((named, ids))
        });
        let (revoked, ids) = revoked.ok_or_else(unknown)?;
        match tokio::time::timeout(DISK_PATIENCE, self.delete(ids)).await {
            Ok(_deleted) => Ok(revoked),
            Err(_) => Err(Refusal::StoreFailed(format!(
                "calls like `{id}` are asked about from now on, but the disk takes its time to note that; a \
                 restart before then would approve them again"
            ))),
        }
    }

    /// Forgets those of a session that was closed: no other session will have its id.
    pub(super) fn forget(&self, session: &SessionId) {
        let forgotten = self.change(|table| table.remove(session));
        let ids: Vec<_> = forgotten.into_iter().flatten().map(|it| it.id).collect();
        if !ids.is_empty() {
            // Nobody waits for it.
            drop(self.delete(ids));
        }
    }

    /// Forgets those of sessions that were closed by a worker that died before it could.
    fn forget_closed(&self) {
        let sessions: Vec<_> = self.table(|table| table.keys().cloned().collect());
        for session in sessions {
            if matches!(alive(&self.0.store, &session), Err(Refusal::Closed { .. })) {
                self.forget(&session);
            }
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
