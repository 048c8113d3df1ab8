//! Appending: a session's new records, and all changes that they make to the projections, as one
//! atomic batch.

use std::{future::Future, time::Instant};

use tokio::sync::oneshot;

use crate::domain::{
    DeadLetter, IdempotencyKey, LogPos, Message, MessageId, Point, PointAct, Record, Session,
    SessionId, TurnEnd,
};

use super::{
    Store, StoreError, codec,
    db::{Keyspace, Op},
    handle::Core,
    kept::KeptRef,
    keys::{self, kind},
    points::{self, StoredRecords},
    queue::{LAZY_DELAY, Write, WriteWaiter, WriterJob},
    read::{StoredKey, logged_message},
    tail::{Stands, Tail, moments, works},
    trim,
};

/// The records to append to one session's log. The caller owns the session: no one else may append
/// to it meanwhile.
#[derive(Debug)]
pub struct Append<'a> {
    pub id: SessionId,
    /// For a new session that is a copy: the records of its history, as they are stored.
    pub history: StoredRecords,
    /// The records, each with its position. The first record of a session is a `Created`, or an
    /// `Origin` behind its history.
    pub records: Vec<(LogPos, Record)>,
    /// The session's state after all of these records.
    pub after: &'a Session,
    /// The snapshot that belongs to one of the records.
    pub snapshot: Option<NewSnapshot>,
    /// An act on the session, before which its state is to be kept.
    pub act: Option<PointAct>,
    pub durability: Durability,
}

/// A snapshot, with its header, and what is kept of it as a restore point.
#[derive(Debug)]
pub struct NewSnapshot {
    pub point: Point,
    pub bytes: Vec<u8>,
}

/// How soon an append is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As soon as the disk is free: the caller waits for it.
    Synced,
    /// Together with the next write of any session, but 5 ms from now at the latest.
    Lazy,
}

impl Store {
    /// Appends records to a session's log. They are queued at once, in the order of the calls, and
    /// are written even if the future is dropped. The future resolves when they are synced; no
    /// reader sees them earlier. After an error the records may have been stored or not:
    /// [`Store::load_to_append`] shows which, and until it is called all further appends to the
    /// session fail.
    pub fn append(
        &self,
        tail: &mut Tail,
        append: Append<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static + use<> {
        let outcome = self.submit(tail, append);
        async move {
            // The sender is dropped without an outcome if the writer has ended.
            outcome?.await.unwrap_or(Err(StoreError::Closed))
        }
    }

    fn submit(
        &self,
        tail: &mut Tail,
        append: Append<'_>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let core = self.core();
        let id = append.id.clone();
        let due = match append.durability {
            Durability::Synced => Instant::now(),
            Durability::Lazy => Instant::now() + LAZY_DELAY,
        };
        // On any error the session must be loaded again, since `tail` may have changed already.
        let fail = |error| {
            core.failed().insert(id.clone());
            error
        };
        let batch = Batch::of(core, tail, append).map_err(fail)?;
        let (done, outcome) = oneshot::channel();
        let write = Write {
            session: Some(id.clone()),
            ops: batch.ops,
            created: batch.created,
            closed: batch.closed,
            due,
            done: WriteWaiter::Task(done),
        };
        core.push(WriterJob::Write(write)).map_err(fail)?;
        Ok(outcome)
    }
}

/// The key changes of one append.
#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    /// Messages that the append both receives and takes off the queue. They never get a queue
    /// entry, so there is none to delete.
    passed: Vec<MessageId>,
    created: u64,
    closed: u64,
}

impl Batch {
    fn of(core: &Core, tail: &mut Tail, append: Append<'_>) -> Result<Self, StoreError> {
        let Append {
            id,
            history,
            records,
            after,
            snapshot,
            act,
            ..
        } = append;
        let mut batch = Self {
            ops: Vec::with_capacity(records.len() + 6),
            ..Self::default()
        };
        let before = tail.stands.as_ref();
        let mut oldest = before.map_or(LogPos::default(), |before| before.oldest);
        let mut components = before.map_or_else(Vec::new, |before| before.components.clone());
        batch.set_timers(&id, tail.stands.as_ref(), after)?;
        if after.progress.closed.is_some() {
            if tail.stands.is_none() {
                batch.created += 1;
                batch.identify(&id, after)?;
            }
            batch.closed += 1;
            batch.forget(&id);
            components.clear();
        } else {
            if let Some((at, Record::Origin(_))) = records.first() {
                oldest = history.first().map_or(*at, |(first, _)| *first);
            }
            for (at, bytes) in history {
                batch.put(Keyspace::Log, keys::position(&id, at), bytes);
            }
            for (at, record) in records {
                codec::allow(&core.format, &record)?;
                let bytes = codec::encode_record(&record)?;
                batch.put(Keyspace::Log, keys::position(&id, at), bytes);
                batch.project(core, &id, tail, after, at, record)?;
            }
            let point = snapshot.map(|NewSnapshot { point, bytes }| {
                batch.put(Keyspace::Snapshots, keys::position(&id, point.at), bytes);
                point
            });
            if point.is_some() || act.is_some() {
                let kept = points::keep(core, &id, tail, after, point, act)?;
                batch.ops.extend(kept);
                if let Some(points) = &tail.points {
                    components = points::components(points, after);
                }
            }
            batch.ops.extend(points::superseded(&id, tail, after));
            batch.mark(&id, tail.stands.as_ref(), after);
            oldest = batch.trim(core, &id, oldest, after)?;
        }
        let kept = KeptRef {
            progress: &after.progress,
            queued: after.queue.len() as u64,
            oldest,
            components: &components,
        };
        let bytes = codec::encode("a session's progress", &kept)?;
        batch.put(Keyspace::Sessions, keys::kept(&id), bytes);
        tail.moved(after, oldest, components);
        Ok(batch)
    }

    fn put(&mut self, family: Keyspace, key: Vec<u8>, value: Vec<u8>) {
        self.ops.push(Op::Put(family, key, value));
    }

    fn delete(&mut self, family: Keyspace, key: Vec<u8>) {
        self.ops.push(Op::Delete(family, key));
    }

    /// Adds the changes that one record makes to the projections.
    fn project(
        &mut self,
        core: &Core,
        id: &SessionId,
        tail: &mut Tail,
        after: &Session,
        at: LogPos,
        record: Record,
    ) -> Result<(), StoreError> {
        match record {
            Record::Created(_) | Record::Origin(_) => {
                self.created += 1;
                self.identify(id, after)?;
            }
            Record::Relabelled(_) => self.identify(id, after)?,
            Record::Received(received) => {
                if let Some(key) = &received.key {
                    self.know(id, key, &received.message)?;
                }
                self.enqueue(id, at, &received.message, after)?;
                tail.add(at, received.message);
            }
            Record::Requeued(requeued) => {
                let key = keys::message(kind::DEAD, id, &requeued.message.id)?;
                self.delete(Keyspace::Index, key);
                self.enqueue(id, at, &requeued.message, after)?;
                tail.add(at, requeued.message);
            }
            Record::Begun(begun) if begun.attempt == 1 => self.dequeue(id, &begun.message)?,
            // Steps have no projection: they are read from the log and the progress only. That a cut
            // parks the session is in its progress, see `mark`.
            Record::Begun(_)
            | Record::Cut(_)
            | Record::Moved(_)
            | Record::Rewound(_)
            | Record::Planned(_)
            | Record::Done(_)
            | Record::Asked(_)
            | Record::Decided(_) => {}
            Record::Ended(ended) => match ended.end {
                TurnEnd::Completed { received, .. } => {
                    for message in &received {
                        self.dequeue(id, message)?;
                    }
                }
                TurnEnd::Failed(reason) => {
                    let letter = DeadLetter {
                        message: find_message(core, id, tail, &ended.message)?,
                        reason,
                        turn: Some(ended.turn),
                        effects: ended.effects,
                        at: ended.at,
                    };
                    self.bury(core, id, after, &letter)?;
                }
            },
            Record::Discarded(discarded) => {
                self.dequeue(id, &discarded.message)?;
                let letter = DeadLetter {
                    message: find_message(core, id, tail, &discarded.message)?,
                    reason: discarded.failure,
                    turn: None,
                    effects: 0,
                    at: discarded.at,
                };
                self.bury(core, id, after, &letter)?;
            }
            Record::Faulted(_) => {
                self.put(Keyspace::Index, keys::marker(kind::FAULTED, id), Vec::new());
            }
            Record::Resumed(_) => {
                self.delete(Keyspace::Index, keys::marker(kind::FAULTED, id));
            }
            // Not reached: `of` does not project the records of an append that closes the session,
            // but calls `forget`.
            Record::Closed(_) => {}
        }
        Ok(())
    }

    fn identify(&mut self, id: &SessionId, after: &Session) -> Result<(), StoreError> {
        let bytes = codec::encode("a session's identity", &after.identity)?;
        self.put(Keyspace::Sessions, keys::identity(id), bytes);
        Ok(())
    }

    /// Adds a message to the queue, unless a later record of the same append has taken it already.
    fn enqueue(
        &mut self,
        id: &SessionId,
        at: LogPos,
        message: &Message,
        after: &Session,
    ) -> Result<(), StoreError> {
        match after.queue.iter().rfind(|queued| queued.pos == at) {
            Some(queued) => {
                let bytes = codec::encode("a queued message", queued)?;
                let key = keys::message(kind::QUEUED, id, &message.id)?;
                self.put(Keyspace::Index, key, bytes);
            }
            None => self.passed.push(message.id.clone()),
        }
        Ok(())
    }

    fn dequeue(&mut self, id: &SessionId, message: &MessageId) -> Result<(), StoreError> {
        if self.passed.contains(message) {
            return Ok(());
        }
        let key = keys::message(kind::QUEUED, id, message)?;
        self.delete(Keyspace::Index, key);
        Ok(())
    }

    /// Stores an idempotency key with the message that it came with.
    fn know(
        &mut self,
        id: &SessionId,
        key: &IdempotencyKey,
        message: &Message,
    ) -> Result<(), StoreError> {
        let known = StoredKey {
            message: message.id.clone(),
            body: key.body,
        };
        let value = known.encode(message.at)?;
        self.put(Keyspace::Index, keys::idempotency(id, &key.key), value);
        Ok(())
    }

    /// Stores a dead letter, and deletes the oldest ones beyond the limit.
    fn bury(
        &mut self,
        core: &Core,
        id: &SessionId,
        after: &Session,
        letter: &DeadLetter,
    ) -> Result<(), StoreError> {
        let bytes = codec::encode("a dead letter", letter)?;
        let key = keys::message(kind::DEAD, id, &letter.message.id)?;
        self.put(Keyspace::Index, key, bytes);
        let limit = core.options.retention.dead_letters;
        if after.progress.dead_letters > limit {
            let excess = core.read(|db| trim::excess_dead_letters(db, id, limit))?;
            self.ops.extend(
                excess
                    .into_iter()
                    .map(|key| Op::Delete(Keyspace::Index, key)),
            );
        }
        Ok(())
    }

    /// Updates the markers of sessions that have work, that are parked, and that committed lately.
    fn mark(&mut self, id: &SessionId, before: Option<&Stands>, after: &Session) {
        let active = keys::marker(kind::ACTIVE, id);
        match (before.is_some_and(|before| before.works), works(after)) {
            (false, true) => self.put(Keyspace::Index, active, Vec::new()),
            (true, false) => self.delete(Keyspace::Index, active),
            (false, false) | (true, true) => {}
        }
        let parked = keys::marker(kind::PARKED, id);
        match (before.is_some_and(|b| b.parked), after.progress.is_parked()) {
            (false, true) => self.put(Keyspace::Index, parked, Vec::new()),
            (true, false) => self.delete(Keyspace::Index, parked),
            (false, false) | (true, true) => {}
        }
        let span = after.progress.last_commit.map(keys::span);
        if let Some(span) = span
            && before.and_then(|before| before.span) != Some(span)
        {
            self.put(Keyspace::Index, keys::recent(span, id), Vec::new());
        }
    }

    fn set_timers(
        &mut self,
        id: &SessionId,
        before: Option<&Stands>,
        after: &Session,
    ) -> Result<(), StoreError> {
        let now = &moments(after);
        let before = before.map_or(&[][..], |before| &before.timers);
        for timer in before.iter().filter(|timer| !now.contains(timer)) {
            self.delete(Keyspace::Index, keys::timer(timer.due, id, &timer.name));
        }
        for timer in now.iter().filter(|timer| !before.contains(timer)) {
            let bytes = codec::encode("a timer", timer)?;
            self.put(
                Keyspace::Index,
                keys::timer(timer.due, id, &timer.name),
                bytes,
            );
        }
        Ok(())
    }

    /// Deletes all data of a closed session but its identity and its progress, which stay so that
    /// its id is never reused.
    fn forget(&mut self, id: &SessionId) {
        for family in [Keyspace::Log, Keyspace::Snapshots] {
            let (first, bound) = keys::all_of(id);
            self.ops.push(Op::DeleteRange(family, first, bound));
        }
        for kind in [kind::DEAD, kind::KEY, kind::POINT, kind::QUEUED] {
            let (first, bound) = keys::all_of_in(kind, id);
            self.ops
                .push(Op::DeleteRange(Keyspace::Index, first, bound));
        }
        for kind in [kind::ACTIVE, kind::FAULTED, kind::PARKED] {
            self.delete(Keyspace::Index, keys::marker(kind, id));
        }
    }

    /// Deletes the records that retention no longer keeps. Returns the position of the log's first
    /// record afterwards.
    fn trim(
        &mut self,
        core: &Core,
        id: &SessionId,
        oldest: LogPos,
        after: &Session,
    ) -> Result<LogPos, StoreError> {
        let events = core.options.retention.events;
        let Some(bound) = trim::bound(oldest, after, events) else {
            return Ok(oldest);
        };
        let trimmed = core.read(|db| trim::trimmed(db, id, oldest, bound))?;
        let deletes = trimmed
            .keys
            .into_iter()
            .map(|key| Op::Delete(Keyspace::Log, key));
        self.ops.extend(deletes);
        Ok(trimmed.oldest)
    }
}

/// Returns a message by its id. It is queued, or the message of the open turn.
fn find_message(
    core: &Core,
    id: &SessionId,
    tail: &Tail,
    message: &MessageId,
) -> Result<Message, StoreError> {
    if let Some(found) = tail.message_of(message) {
        return Ok(found.clone());
    }
    let open = tail.stands.as_ref().and_then(|stands| stands.open.as_ref());
    let at = open.filter(|(open, _)| open == message).map(|(_, at)| *at);
    core.read(|db| logged_message(db, id, message, at))
}
