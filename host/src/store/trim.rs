//! Retention: how much of a session's log and dead letters is kept. Trimming is part of an append,
//! a few keys at a time, so that no background job is needed.

use crate::domain::{LogPos, Session, SessionId};

use super::{
    StoreError,
    db::{Db, Keyspace},
    keys::{self, kind},
};

/// The maximum number of records that one append removes.
const TRIM_MAX: usize = 512;

/// Returns the position before which records may be removed; none if it is not time to trim, which
/// it is once the log holds a tenth more events than are kept. The records that a queued message or
/// the open turn needs stay, the turn's journal included. So do the records that the two snapshots
/// belong to and the journal between them, unless the log holds more than twice the events that are
/// kept: that bounds the log of a session in which no turn commits.
pub(super) fn bound(oldest: LogPos, after: &Session, keep: u64) -> Option<LogPos> {
    let progress = &after.progress;
    let stand = progress.next.cursor.saturating_sub(oldest.cursor);
    if stand <= keep + (keep / 10).max(1) {
        return None;
    }
    let enough = LogPos {
        cursor: progress.next.cursor.saturating_sub(keep),
        seq: 0,
    };
    let waiting = after.queue.front().map(|queued| queued.pos);
    let open = progress.open.as_ref();
    let open = open.map(|open| open.queued.pos.min(open.from));
    let (snapshots, last) = match stand > keep.saturating_mul(2) {
        true => (None, None),
        false => (
            Some(progress.previous.unwrap_or(progress.snapshot).at),
            progress
                .last
                .as_ref()
                .map(|last| last.from.min(last.message)),
        ),
    };
    let needed = [waiting, open, snapshots, last].into_iter().flatten();
    let bound = needed.fold(enough, LogPos::min);
    (bound > oldest).then_some(bound)
}

/// The result of [`trimmed`].
pub(super) struct Trimmed {
    /// The keys of the records to remove.
    pub keys: Vec<Vec<u8>>,
    /// The first record that stays.
    pub oldest: LogPos,
}

/// Returns the records from `oldest` (inclusive) to `bound` (exclusive) that one append is to
/// remove, at most [`TRIM_MAX`]. A record that has events on both sides of the bound stays.
pub(super) fn trimmed(
    db: &Db,
    id: &SessionId,
    oldest: LogPos,
    bound: LogPos,
) -> Result<Trimmed, StoreError> {
    let mut trimmed = Trimmed {
        keys: Vec::new(),
        oldest,
    };
    // A record is removed only if the next one begins at or before the bound: then none of its
    // events are after the bound.
    let mut last: Option<Vec<u8>> = None;
    let (_, end) = keys::all_of(id);
    db.scan(
        Keyspace::Log,
        &keys::position(id, oldest),
        &end,
        |key, _| {
            let Some(at) = keys::position_of(key) else {
                return Ok(true);
            };
            if at.cursor > bound.cursor || trimmed.keys.len() == TRIM_MAX {
                return Ok(false);
            }
            trimmed.keys.extend(last.replace(key.to_owned()));
            trimmed.oldest = at;
            Ok(at < bound)
        },
    )?;
    Ok(trimmed)
}

/// Returns the keys of the oldest dead letters to delete, so that `limit` remain after one more is
/// added.
pub(super) fn excess_dead_letters(
    db: &Db,
    id: &SessionId,
    limit: u64,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let (first, bound) = keys::all_of_in(kind::DEAD, id);
    let mut letters = Vec::new();
    db.scan(Keyspace::Index, &first, &bound, |key, _| {
        letters.push(key.to_owned());
        Ok(true)
    })?;
    let keep = usize::try_from(limit.saturating_sub(1)).unwrap_or(usize::MAX);
    letters.truncate(letters.len().saturating_sub(keep));
    Ok(letters)
}
