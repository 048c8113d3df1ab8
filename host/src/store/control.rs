//! Access tokens, standing approvals and the audit log. They are of the part `control` (see `format`), and
//! are synced when the write returns.

use std::time::Duration;

use crate::domain::{AccessToken, ApprovalId, AuditEntry, AuditId, Digest, StandingApproval};

use super::{
    Store, StoreError,
    codec::{self, MOVE},
    db::{Keyspace, Op},
    format::Part,
    keys,
};

/// The number of entries of the audit log that are kept.
pub const AUDIT_KEPT: u64 = 100_000;

/// The pause before something is deleted again that the disk would not delete.
const DELETE_AGAIN: Duration = Duration::from_secs(2);

impl Store {
    /// Refuses that sessions run on another component than their plugin's, before this version has passed
    /// its probation.
    pub fn may_move_sessions(&self) -> Result<(), StoreError> {
        self.core().format.allow_part(MOVE, Part::Components)
    }

    /// Returns all access tokens, by the digests of their secrets. One that cannot be decoded (a later
    /// version may have written it) is left out: it lets nobody in.
    pub fn tokens(&self) -> Result<Vec<(Digest, AccessToken)>, StoreError> {
        let (first, bound) = keys::all_of_kind(keys::TOKEN);
        let mut tokens = Vec::new();
        self.core().read(|db| {
            db.scan(Keyspace::Meta, &first, &bound, |key, value| {
                let what = "an access token";
                let secret = keys::token_of(key);
                let secret = secret.ok_or_else(|| codec::corrupt(what, "its key is no digest"))?;
                match codec::decode(what, value) {
                    Ok(token) => tokens.push((secret, token)),
                    Err(error) => tracing::error!(%error, "an access token is not accepted"),
                }
                Ok(true)
            })
        })?;
        Ok(tokens)
    }

    /// Writes an access token. Refused before this version has passed its probation.
    pub async fn put_token(&self, secret: &Digest, token: &AccessToken) -> Result<(), StoreError> {
        let what = "an access token";
        self.core().format.allow_part(what, Part::Control)?;
        let bytes = codec::encode(what, token)?;
        let put = Op::Put(Keyspace::Meta, keys::token(secret), bytes);
        self.write_meta(vec![put]).await
    }

    /// Deletes an access token, at the latest when the disk takes writes again.
    pub async fn delete_token(&self, secret: &Digest) {
        self.delete_for_good("a revoked token", keys::token(secret))
            .await;
    }

    /// Returns all standing approvals. One that cannot be decoded is left out: its call is asked about.
    pub fn standing_approvals(&self) -> Result<Vec<StandingApproval>, StoreError> {
        let (first, bound) = keys::all_of_kind(keys::STANDING);
        let mut standing = Vec::new();
        self.core().read(|db| {
            db.scan(Keyspace::Meta, &first, &bound, |_, value| {
                match codec::decode("a standing approval", value) {
                    Ok(approval) => standing.push(approval),
                    Err(error) => tracing::error!(%error, "a standing approval is left out"),
                }
                Ok(true)
            })
        })?;
        Ok(standing)
    }

    /// Refuses standing approvals before this version has passed its probation.
    pub fn may_hold_standing_approvals(&self) -> Result<(), StoreError> {
        self.core()
            .format
            .allow_part("a standing approval", Part::Control)
    }

    /// Writes a standing approval. Refused before this version has passed its probation.
    pub async fn put_standing_approval(&self, it: &StandingApproval) -> Result<(), StoreError> {
        let what = "a standing approval";
        self.core().format.allow_part(what, Part::Control)?;
        let bytes = codec::encode(what, it)?;
        let put = Op::Put(Keyspace::Meta, keys::standing(&it.id), bytes);
        self.write_meta(vec![put]).await
    }

    /// Deletes a standing approval, at the latest when the disk takes writes again.
    pub async fn delete_standing_approval(&self, id: &ApprovalId) {
        self.delete_for_good("a revoked standing approval", keys::standing(id))
            .await;
    }

    async fn delete_for_good(&self, what: &'static str, key: Vec<u8>) {
        loop {
            let delete = Op::Delete(Keyspace::Meta, key.clone());
            match self.write_meta(vec![delete]).await {
                Ok(()) => return,
                Err(StoreError::Closed) => {
                    tracing::error!(
                        what,
                        "the store is closed and has it still: revoke it again"
                    );
                    return;
                }
                Err(error) => tracing::error!(what, %error, "the store has it still"),
            }
            tokio::time::sleep(DELETE_AGAIN).await;
        }
    }

    /// Writes an entry of the audit log, and replaces an earlier one of the same number. The one
    /// [`AUDIT_KEPT`] numbers below it is deleted. Refused before this version has passed its probation.
    pub async fn put_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let what = "an entry of the audit log";
        self.core().format.allow_part(what, Part::Control)?;
        let bytes = codec::encode(what, entry)?;
        let mut ops = vec![Op::Put(Keyspace::Meta, keys::audit(entry.id), bytes)];
        if let Some(last) = entry.id.0.checked_sub(AUDIT_KEPT) {
            ops.push(Op::Delete(Keyspace::Meta, keys::audit(AuditId(last))));
        }
        self.write_meta(ops).await
    }

    /// Deletes an entry of the audit log.
    pub async fn delete_audit(&self, id: AuditId) -> Result<(), StoreError> {
        let delete = Op::Delete(Keyspace::Meta, keys::audit(id));
        self.write_meta(vec![delete]).await
    }

    /// Returns at most `limit` entries of the audit log before the entry `before` (none: from the last
    /// one), the newest first.
    pub fn audit(
        &self,
        before: Option<AuditId>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let (first, end) = keys::all_of_kind(keys::AUDIT);
        let bound = before.map_or(end, keys::audit);
        self.newest_meta("an entry of the audit log", (first, bound), limit)
    }

    /// Returns the number of the last entry of the audit log.
    pub fn last_audit(&self) -> Result<Option<AuditId>, StoreError> {
        let (first, bound) = keys::all_of_kind(keys::AUDIT);
        self.core().read(|db| {
            let mut entries = db.range(Keyspace::Meta, &first, &bound);
            entries.seek_to_last();
            let last = entries.key().and_then(keys::audit_of);
            entries.status().map_err(|error| StoreError::read(&error))?;
            Ok(last)
        })
    }
}
