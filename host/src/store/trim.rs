//! Retention: what a session's log and dead letters may keep. Trimming is part of an append, a
//! few keys at a time, so that nothing has to run in the background.

use crate::domain::{LogPos, Session, SessionId};

use super::{
    StoreError,
    db::{Db, Keyspace},
    keys::{self, kind},
};

/// Records that one append removes at most.
const TRIM_MAX: usize = 512;

/// Before which position records may go, if it is time: when a tenth more events than are kept
/// stand in the log. What a waiting message or the open turn needs stays, its journal among it; and
/// so does what the two snapshots stand with and the journal between them, but a session of which
/// no turn commits keeps twice its events at most.
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

/// What [`trimmed`] found.
pub(super) struct Trimmed {
    /// Keys of records to remove.
    pub keys: Vec<Vec<u8>>,
    /// The first record that stays.
    pub oldest: LogPos,
}

/// The records from `oldest` to before `bound`, as far as one append takes them. A record that
/// tells events on both sides of the bound stays.
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
    // A key goes once the next one is seen to begin at the bound or before it.
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

/// The keys of the oldest dead letters, beyond `limit` when one more is added.
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
