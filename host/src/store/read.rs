//! Reading one session. Reads see only synced data.

use std::{collections::VecDeque, sync::mpsc::sync_channel};

use serde::{Deserialize, Serialize};

use crate::domain::{
    Digest, Event, Identity, LogPos, Message, MessageId, Queued, Record, Session, SessionId,
    SessionTimeline, UnixMillis,
};

use super::{
    Store, StoreError, codec,
    db::{Db, Keyspace, expired},
    kept::kept,
    keys::{self, kind},
    queue::WriterJob,
    tail::Tail,
};

/// A page of events ends with the record that brings it to this size, in bytes as stored.
pub const EVENT_PAGE_BYTES: usize = 1 << 20;

/// A page of a session's events, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    /// The cursor of the last event is the `after` of the next page.
    pub items: Vec<Event>,
    /// The smallest `after` that can be served.
    pub oldest: u64,
    /// The cursor of the session's last event.
    pub last: u64,
}

/// The message that was received with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    pub message: MessageId,
    /// The cursor of the message's event.
    pub cursor: u64,
    /// The digest of the request body that came with the key.
    pub body: Digest,
}

/// [`KnownKey`] as it is stored, after the time at which it was received.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub message: MessageId,
    pub body: Digest,
}

impl StoredKey {
    /// Encodes it, after the time at which it was received.
    pub(super) fn encode(&self, at: UnixMillis) -> Result<Vec<u8>, StoreError> {
        let mut value = at.0.to_be_bytes().to_vec();
        value.extend(codec::encode("an idempotency key", self)?);
        Ok(value)
    }
}

impl Store {
    /// Returns the session's identity, progress and queue; none if it was never created. A closed
    /// session is still returned, although its log is deleted.
    pub fn load(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        let loaded = self.core().read(|db| load(db, id))?;
        Ok(loaded.map(|(session, _)| session))
    }

    /// Does the same as [`Store::load`] for the owner of the session, who is about to append to it,
    /// and also returns the tail of its log. This allows appends again after a failed one; if it
    /// fails itself, they stay forbidden. May wait for the disk.
    pub fn load_to_append(&self, id: &SessionId) -> Result<(Option<Session>, Tail), StoreError> {
        let core = self.core();
        let failed = core.failed().contains(id);
        if failed {
            // Through the queue, so that all appends queued before it have failed before the load.
            let (done, forgiven) = sync_channel(1);
            core.push(WriterJob::Forgive {
                id: id.clone(),
                done,
            })?;
            forgiven.recv().map_err(|_| StoreError::Closed)?;
        }
        let loaded = core.read(|db| load(db, id)).inspect_err(|_| {
            if failed {
                core.failed().insert(id.clone());
            }
        })?;
        Ok(match loaded {
            Some((session, tail)) => (Some(session), tail),
            None => (None, Tail::default()),
        })
    }

    /// Returns the snapshot, with its header, that belongs to the record at `at`. The last two
    /// snapshots are kept, and those of the restore points.
    pub fn snapshot(&self, id: &SessionId, at: LogPos) -> Result<Option<Vec<u8>>, StoreError> {
        let key = keys::position(id, at);
        self.core().read(|db| db.get(Keyspace::Snapshots, &key))
    }

    /// Returns the message that the record at `at` added to the inbox. The session's owner must ask
    /// its [`Tail`] first, since the message may not be on disk yet.
    pub fn message(&self, id: &SessionId, at: LogPos) -> Result<Option<Message>, StoreError> {
        self.core().read(|db| message_at(db, id, at))
    }

    /// Returns the records from `from` (inclusive) to `until` (exclusive) or to the end of the log,
    /// such as the journal of a turn.
    pub fn records(
        &self,
        id: &SessionId,
        from: LogPos,
        until: Option<LogPos>,
    ) -> Result<Vec<Record>, StoreError> {
        let (_, end) = keys::all_of(id);
        let end = until.map_or(end, |until| keys::position(id, until));
        let mut records = Vec::new();
        self.core().read(|db| {
            db.scan(
                Keyspace::Log,
                &keys::position(id, from),
                &end,
                |key, value| {
                    let at = keys::position_of(key)
                        .ok_or_else(|| codec::corrupt("a key of the log", "it has no position"))?;
                    records.push(decode_at(id, at, value)?);
                    Ok(true)
                },
            )
        })?;
        Ok(records)
    }

    /// Returns the message that was received with an idempotency key; none if the key is unknown or
    /// has expired.
    pub fn key(&self, id: &SessionId, name: &str) -> Result<Option<KnownKey>, StoreError> {
        let key = keys::idempotency(id, name);
        let Some(value) = self.core().read(|db| db.get(Keyspace::Index, &key))? else {
            return Ok(None);
        };
        let options = &self.core().options;
        if expired(&value, options.retention.keys, &options.clock) {
            return Ok(None);
        }
        let what = "an idempotency key";
        let known = value.get(8..).unwrap_or_default();
        let StoredKey { message, body } = codec::decode(what, known)?;
        let cursor = message
            .cursor()
            .ok_or_else(|| codec::corrupt(what, "it names no message"))?;
        Ok(Some(KnownKey {
            message,
            cursor,
            body,
        }))
    }

    /// Returns the events after the cursor `after`, at most `limit` of them and about
    /// [`EVENT_PAGE_BYTES`]. An unknown or closed session has no events.
    pub fn events(
        &self,
        id: &SessionId,
        after: u64,
        limit: usize,
    ) -> Result<EventPage, StoreError> {
        self.events_within(id, after, limit, EVENT_PAGE_BYTES)
    }

    /// Like [`Store::events`]; the page ends with the record that brings it to `bytes`.
    pub fn events_within(
        &self,
        id: &SessionId,
        after: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<EventPage, StoreError> {
        self.core().read(|db| {
            let Some(kept) = kept(db, id)? else {
                return Ok(EventPage::default());
            };
            let oldest = kept.oldest.cursor;
            if after < oldest {
                return Err(StoreError::Trimmed { oldest });
            }
            let mut page = EventPage {
                items: Vec::new(),
                oldest,
                last: kept.progress.next.cursor,
            };
            if after >= page.last || limit == 0 || kept.progress.closed.is_some() {
                return Ok(page);
            }
            let most = (limit, bytes);
            collect_events(db, id, &kept.progress.timeline, after, most, &mut page)?;
            Ok(page)
        })
    }
}

fn load(db: &Db, id: &SessionId) -> Result<Option<(Session, Tail)>, StoreError> {
    let Some(mut kept) = kept(db, id)? else {
        return Ok(None);
    };
    loop {
        let queue = queue(db, id)?;
        let identity = identity(db, id)?;
        // A reader that does not own the session races with the owner's appends: if one was written
        // between these reads, read again, so that the parts belong together.
        if let Some(again) = self::kept(db, id)?.filter(|again| *again != kept) {
            kept = again;
            continue;
        }
        let oldest = kept.oldest;
        let session = Session {
            identity,
            progress: kept.progress,
            queue,
        };
        let tail = Tail::of(&session, oldest, kept.components);
        return Ok(Some((session, tail)));
    }
}

fn identity(db: &Db, id: &SessionId) -> Result<Identity, StoreError> {
    let what = format!("the identity of session `{id}`");
    match db.get(Keyspace::Sessions, &keys::identity(id))? {
        Some(bytes) => codec::decode(&what, &bytes),
        None => Err(codec::corrupt(&what, "it is missing")),
    }
}

/// Reads the queued messages, oldest first.
fn queue(db: &Db, id: &SessionId) -> Result<VecDeque<Queued>, StoreError> {
    let mut queue: Vec<Queued> = Vec::new();
    let (first, bound) = keys::all_of_in(kind::QUEUED, id);
    db.scan(Keyspace::Index, &first, &bound, |_, value| {
        queue.push(codec::decode("a queued message", value)?);
        Ok(true)
    })?;
    queue.sort_by_key(|queued| queued.pos);
    Ok(queue.into())
}

/// Reads the message of the record at `at`.
fn message_at(db: &Db, id: &SessionId, at: LogPos) -> Result<Option<Message>, StoreError> {
    let Some(bytes) = db.get(Keyspace::Log, &keys::position(id, at))? else {
        return Ok(None);
    };
    match decode_at(id, at, &bytes)? {
        Record::Received(received) => Ok(Some(received.message)),
        Record::Requeued(requeued) => Ok(Some(requeued.message)),
        _ => Ok(None),
    }
}

/// Reads a message from the log: at the position `at` if that is known, else at the position that
/// its queue entry holds.
pub(super) fn logged_message(
    db: &Db,
    id: &SessionId,
    message: &MessageId,
    at: Option<LogPos>,
) -> Result<Message, StoreError> {
    let what = || format!("message {message} of session `{id}`");
    let at = match at {
        Some(at) => Some(at),
        None => db
            .get(Keyspace::Index, &keys::message(kind::QUEUED, id, message)?)?
            .map(|bytes| codec::decode::<Queued>(&what(), &bytes))
            .transpose()?
            .map(|queued| queued.pos),
    };
    let at = at.ok_or_else(|| codec::corrupt(&what(), "it is not queued"))?;
    message_at(db, id, at)?.ok_or_else(|| codec::corrupt(&what(), "it is not in the log"))
}

/// Adds the events after the cursor `after` to the page, at most so many and about so many bytes of them.
/// A record's position counts the events before it, so the event that follows cursor `n` belongs to the
/// last record whose cursor is at most `n`; reading starts there.
fn collect_events(
    db: &Db,
    id: &SessionId,
    timeline: &SessionTimeline,
    after: u64,
    (limit, bytes_max): (usize, usize),
    page: &mut EventPage,
) -> Result<(), StoreError> {
    let (first, bound) = keys::all_of(id);
    let mut records = db.range(Keyspace::Log, &first, &bound);
    records.seek_for_prev(keys::position(
        id,
        LogPos {
            cursor: after,
            seq: u64::MAX,
        },
    ));
    let mut bytes = 0;
    while let Some((key, value)) = records.item() {
        let at = keys::position_of(key)
            .ok_or_else(|| codec::corrupt("a key of the log", "it has no position"))?;
        // All events of a record are on one timeline: a cut is a record of its own.
        let timeline = timeline.of(at.cursor + 1);
        let events = decode_at(id, at, value)?.events(at.cursor, timeline);
        let new = events.into_iter().filter(|event| event.cursor > after);
        page.items.extend(new.take(limit - page.items.len()));
        bytes += value.len();
        if page.items.len() == limit || bytes >= bytes_max {
            break;
        }
        records.next();
    }
    records.status().map_err(|error| StoreError::read(&error))?;
    // An append may have been written between the two reads, and have trimmed the events requested.
    if page
        .items
        .first()
        .is_none_or(|event| event.cursor != after + 1)
    {
        let oldest = kept(db, id)?.map_or(0, |kept| kept.oldest.cursor);
        return match oldest > after {
            true => Err(StoreError::Trimmed { oldest }),
            false => Err(codec::corrupt(
                &format!("the log of session `{id}`"),
                format!("event {} is missing", after + 1),
            )),
        };
    }
    page.last = page
        .last
        .max(page.items.last().map_or(0, |event| event.cursor));
    Ok(())
}

fn decode_at(id: &SessionId, at: LogPos, bytes: &[u8]) -> Result<Record, StoreError> {
    codec::decode_record(|| format!("record {} of session `{id}`", at.seq), bytes)
}
