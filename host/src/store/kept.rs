//! The stored state of a session, without its log, its identity and its queue. It is one small
//! value, so that lists and the writer can read it of many sessions.

use serde::{Deserialize, Serialize};

use crate::domain::{Digest, LogPos, SessionId, SessionProgress};

use super::{
    StoreError, codec,
    db::{Db, Keyspace},
    keys,
};

/// The stored state of a session, except for its identity and its queue.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Kept {
    /// The session's folded state without the queue.
    pub progress: SessionProgress,
    /// The number of queued messages.
    pub queued: u64,
    /// The first record that has not been trimmed.
    pub oldest: LogPos,
    /// The components, beside that of the present snapshot, that its restore points need.
    #[serde(default)]
    pub components: Vec<Digest>,
}

/// [`Kept`] by reference, for writing.
#[derive(Serialize)]
pub(super) struct KeptRef<'a> {
    pub progress: &'a SessionProgress,
    pub queued: u64,
    pub oldest: LogPos,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub components: &'a [Digest],
}

/// Reads the stored state of a session, without its identity and its queue.
pub(super) fn kept(db: &Db, id: &SessionId) -> Result<Option<Kept>, StoreError> {
    let found = db.get(Keyspace::Sessions, &keys::kept(id))?;
    found
        .map(|bytes| codec::decode(&format!("the progress of session `{id}`"), &bytes))
        .transpose()
}

/// Returns whether a session has neither an open turn nor queued messages.
pub(super) fn is_idle(db: &Db, id: &SessionId) -> Result<bool, StoreError> {
    let kept = kept(db, id)?;
    Ok(kept.is_none_or(|kept| kept.progress.open.is_none() && kept.queued == 0))
}
