//! The record of operators' acts: who, what, when, and how it ended. An act is recorded, synced, before
//! it is done, so that none is done without a trace. Where the store takes no writes, or the data folder
//! is too young for an audit log, the trace is in the daemon's log alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{AuditEntry, AuditId, PrincipalName, UnixMillis};
use crate::store::{Store, StoreError};

/// How long an act waits for the disk: an operator must be able to act on a daemon whose disk hangs.
pub(super) const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// The audit log. Clones share it.
#[derive(Clone)]
pub struct AuditLog {
    store: Store,
    next: Arc<AtomicU64>,
}

impl AuditLog {
    /// Continues the store's log. Waits for the disk.
    pub fn load(store: Store) -> Self {
        let next = match store.last_audit() {
            Ok(last) => last.map_or(1, |AuditId(last)| last + 1),
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be read; it goes on behind a gap");
                // More than acts there can have been.
                UnixMillis::now().0
            }
        };
        Self {
            store,
            next: Arc::new(AtomicU64::new(next)),
        }
    }

    /// Records an act that is about to be done, and returns its entry. If it cannot be stored, the
    /// daemon's log has it alone: an operator must be able to act on a daemon whose disk is full.
    pub async fn begin(&self, who: &PrincipalName, act: &str, subject: Option<&str>) -> AuditEntry {
        let entry = AuditEntry {
            id: AuditId(self.next.fetch_add(1, Ordering::Relaxed)),
            at: UnixMillis::now(),
            who: who.to_string(),
            act: act.to_owned(),
            subject: subject.map(str::to_owned),
            status: None,
        };
        tracing::info!(
            who = entry.who,
            act = entry.act,
            subject = entry.subject,
            "an operator acts"
        );
        self.write(self.store.put_audit(&entry)).await;
        entry
    }

    /// Records the status of the act's response, and what the act was about if that was not known. An act
    /// that was refused (4xx) is taken out again: nothing was done, and whoever may do little must not
    /// push out what others did.
    pub async fn end(&self, entry: AuditEntry, subject: Option<String>, status: u16) {
        if (400..500).contains(&status) {
            self.write(self.store.delete_audit(entry.id)).await;
            return;
        }
        let entry = AuditEntry {
            status: Some(status),
            subject: entry.subject.or(subject),
            ..entry
        };
        self.write(self.store.put_audit(&entry)).await;
    }

    async fn write(&self, written: impl Future<Output = Result<(), StoreError>>) {
        match tokio::time::timeout(DISK_PATIENCE, written).await {
            // It is too early for the store to have an audit log, or too late: the daemon's has it.
            Ok(Ok(()) | Err(StoreError::LacksPart { .. } | StoreError::Closed)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the audit log lacks an act"),
            Err(_) => tracing::warn!("the disk takes its time; the audit log may lack an act"),
        }
    }

    /// Returns at most `limit` entries before `before` (none: from the last one), the newest first.
    pub fn entries(
        &self,
        before: Option<AuditId>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        self.store.audit(before, limit)
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::domain::TokenName;
    use crate::store::{AUDIT_KEPT, StoreOptions};

    #[tokio::test]
    async fn acts_are_kept_in_order_and_the_oldest_go() {
        let home = tempfile::tempdir().unwrap();
        let open = || Store::open(home.path(), StoreOptions::default()).unwrap();
        let store = open();
        store.raise_format().unwrap();
        let log = AuditLog::load(store.clone());
        let who = PrincipalName::Token(TokenName::new("ci").unwrap());
        let first = log.begin(&who, "restart_daemon", None).await;
        assert_eq!(log.entries(None, 9).unwrap(), slice::from_ref(&first));
        log.end(first.clone(), None, 202).await;
        store.close();

        let store = open();
        let log = AuditLog::load(store.clone());
        let next = log.begin(&who, "close_session", Some("a/b")).await;
        assert_eq!((first.id, next.id), (AuditId(1), AuditId(2)));
        let ended = AuditEntry {
            status: Some(202),
            ..first
        };
        assert_eq!(log.entries(None, 9).unwrap(), [next.clone(), ended.clone()]);
        assert_eq!(log.entries(Some(next.id), 9).unwrap(), [ended]);
        assert_eq!(log.entries(None, 1).unwrap(), slice::from_ref(&next));
        let refused = log.begin(&who, "resume_session", Some("a/b")).await;
        log.end(refused, None, 409).await;
        assert_eq!(log.entries(None, 1).unwrap(), slice::from_ref(&next));
        let last = AuditEntry {
            id: AuditId(AUDIT_KEPT + 1),
            ..next.clone()
        };
        store.put_audit(&last).await.unwrap();
        assert_eq!(log.entries(None, 9).unwrap(), [last, next]);
        store.close();
    }

    #[tokio::test]
    async fn before_probation_is_over_acts_are_done_all_the_same() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), StoreOptions::default()).unwrap();
        let log = AuditLog::load(store.clone());
        let entry = log
            .begin(&PrincipalName::Anybody, "restart_daemon", None)
            .await;
        log.end(entry, None, 202).await;
        assert_eq!(log.entries(None, 9), Ok(Vec::new()));
        store.close();
    }
}
