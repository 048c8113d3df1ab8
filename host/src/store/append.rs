//! An append: a session's new records, and all that they change in the projections, as one batch.

use std::{future::Future, time::Instant};

use tokio::sync::oneshot;

use crate::domain::{
    DeadLetter, Failure, IdempotencyKey, LogPos, Message, MessageId, Record, Session, SessionId,
    SnapshotRef, TurnEnd, UnixMillis,
};

use super::{
    Store, StoreError,
    codec::{self, Kept},
    db::{Family, Op},
    handle::Core,
    keys::{self, kind},
    queue::{Done, Job, LAZY_DELAY, Write},
    read::{StoredKey, logged_message},
    trim,
};

/// What is to be appended to one session's log. The caller owns the session: nobody else appends
/// to it meanwhile.
#[derive(Debug)]
pub struct Append<'a> {
    /// The session.
    pub id: SessionId,
    /// The records, each with its place. The first of all is a `Created`.
    pub records: Vec<(LogPos, Record)>,
    /// The fold after all of them.
    pub after: &'a Session,
    /// The snapshot that stands with the record at that place, with its header.
    pub snapshot: Option<(LogPos, Vec<u8>)>,
    /// How soon it is synced.
    pub durability: Durability,
}

/// How soon an append is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As soon as the disk is free: somebody waits for it.
    Synced,
    /// With the next write of anybody, but 5 ms from now at the latest.
    Lazy,
}

impl Store {
    /// Appends. The records are taken in at once and in the order of the calls, even if the
    /// future is dropped; it ends when they are synced, and until then no reader sees them. After
    /// an error what was appended may stand or not: [`Store::load`] tells, and until then all
    /// further appends to the session fail.
    pub fn append(
        &self,
        append: Append<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static + use<> {
        let told = self.submit(append);
        async move {
            // A writer that is gone has not told; then nothing more can be known.
            told?.await.unwrap_or(Err(StoreError::Closed))
        }
    }

    fn submit(
        &self,
        mut append: Append<'_>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let core = self.core();
        let (id, end) = (append.id.clone(), append.after.progress.next);
        let delay = match append.durability {
            Durability::Synced => None,
            Durability::Lazy => Some(LAZY_DELAY),
        };
        let fail = |error| {
            core.failed().insert(id.clone());
            error
        };
        let snapshot = append.snapshot.take();
        let batch = Batch::of(core, &append, snapshot).map_err(fail)?;
        let (done, told) = oneshot::channel();
        core.flights().depart(&id, batch.kept, batch.messages);
        let write = Write {
            session: Some((id.clone(), end)),
            ops: batch.ops,
            created: batch.created,
            closed: batch.closed,
            due: delay.map_or_else(Instant::now, |delay| Instant::now() + delay),
            done: Done::Task(done),
        };
        core.push(Job::Write(write)).map_err(|error| {
            core.flights().arrive(&id, end);
            fail(error)
        })?;
        Ok(told)
    }
}

/// An append as changes of keys.
struct Batch {
    ops: Vec<Op>,
    kept: Kept,
    /// The messages that it brings.
    messages: Vec<(LogPos, Message)>,
    created: u64,
    closed: u64,
}

impl Batch {
    fn of(
        core: &Core,
        append: &Append<'_>,
        snapshot: Option<(LogPos, Vec<u8>)>,
    ) -> Result<Self, StoreError> {
        let (id, after) = (&append.id, append.after);
        let before = match append.records.first() {
            Some((_, Record::Created(_))) => None,
            _ => kept_before(core, id)?,
        };
        let oldest = before.as_ref().map(|kept| kept.oldest);
        let mut batch = Self {
            ops: Vec::with_capacity(append.records.len() + 4),
            kept: Kept {
                progress: after.progress.clone(),
                queued: after.queue.len() as u64,
                oldest: oldest.unwrap_or_default(),
            },
            messages: Vec::new(),
            created: 0,
            closed: 0,
        };
        batch.set_timers(id, before.as_ref(), after)?;
        if after.progress.closed.is_some() {
            if before.is_none() {
                batch.created += 1;
                batch.identify(id, after)?;
            }
            batch.closed += 1;
            batch.forget(id);
        } else {
            for (at, record) in &append.records {
                let bytes = codec::encode_record(record)?;
                batch.put(Family::Log, keys::position(id, *at), bytes);
                batch.project(core, append, before.as_ref(), *at, record)?;
            }
            if let Some((at, bytes)) = snapshot {
                batch.put(Family::Snapshots, keys::position(id, at), bytes);
            }
            batch.drop_snapshots(id, before.as_ref(), after);
            batch.trim(core, id, after)?;
        }
        let bytes = codec::encode("a session's progress", &batch.kept)?;
        batch.put(Family::Sessions, keys::kept(id), bytes);
        Ok(batch)
    }

    fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.ops.push(Op::Put(family, key, value));
    }

    fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.ops.push(Op::Delete(family, key));
    }

    /// What one record changes.
    fn project(
        &mut self,
        core: &Core,
        append: &Append<'_>,
        before: Option<&Kept>,
        at: LogPos,
        record: &Record,
    ) -> Result<(), StoreError> {
        let (id, after) = (&append.id, append.after);
        match record {
            Record::Created(_) => {
                self.created += 1;
                self.identify(id, after)?;
            }
            Record::Relabelled(_) => self.identify(id, after)?,
            Record::Received(received) => {
                if let Some(key) = &received.key {
                    self.know(id, key, &received.message)?;
                }
                self.enqueue(id, at, &received.message, after)?;
            }
            Record::Requeued(requeued) => {
                let key = keys::message(kind::DEAD, id, &requeued.message.id)?;
                self.delete(Family::Index, key);
                self.enqueue(id, at, &requeued.message, after)?;
            }
            Record::Begun(begun) if begun.attempt == 1 => self.dequeue(id, &begun.message)?,
            // A step is in the log and in the progress; nobody looks for it elsewhere.
            Record::Begun(_) | Record::Planned(_) | Record::Done(_) => {}
            Record::Ended(ended) => match &ended.end {
                TurnEnd::Completed { received, .. } => {
                    for message in received {
                        self.dequeue(id, message)?;
                    }
                }
                TurnEnd::Failed(reason) => {
                    let death = Death {
                        message: &ended.message,
                        reason,
                        turn: Some(ended.turn),
                        effects: ended.effects,
                        at: ended.at,
                    };
                    self.bury(core, append, before, death)?;
                }
            },
            Record::Discarded(discarded) => {
                self.dequeue(id, &discarded.message)?;
                let death = Death {
                    message: &discarded.message,
                    reason: &discarded.failure,
                    turn: None,
                    effects: 0,
                    at: discarded.at,
                };
                self.bury(core, append, before, death)?;
            }
            Record::Faulted(_) => {
                self.put(Family::Index, keys::marker(kind::FAULTED, id), Vec::new());
            }
            Record::Resumed(_) => {
                self.delete(Family::Index, keys::marker(kind::FAULTED, id));
            }
            // Its last append is made by `forget`.
            Record::Closed(_) => {}
        }
        Ok(())
    }

    fn identify(&mut self, id: &SessionId, after: &Session) -> Result<(), StoreError> {
        let bytes = codec::encode("a session's identity", &after.identity)?;
        self.put(Family::Sessions, keys::identity(id), bytes);
        Ok(())
    }

    /// A message waits, unless a later record of the same append has taken it already.
    fn enqueue(
        &mut self,
        id: &SessionId,
        at: LogPos,
        message: &Message,
        after: &Session,
    ) -> Result<(), StoreError> {
        if let Some(queued) = after.queue.iter().rfind(|queued| queued.pos == at) {
            let bytes = codec::encode("a queued message", queued)?;
            let key = keys::message(kind::QUEUED, id, &message.id)?;
            self.put(Family::Index, key, bytes);
        }
        self.put(Family::Index, keys::marker(kind::ACTIVE, id), Vec::new());
        self.messages.push((at, message.clone()));
        Ok(())
    }

    fn dequeue(&mut self, id: &SessionId, message: &MessageId) -> Result<(), StoreError> {
        let key = keys::message(kind::QUEUED, id, message)?;
        self.delete(Family::Index, key);
        Ok(())
    }

    /// An idempotency key is known from now on.
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
        let mut value = message.at.0.to_be_bytes().to_vec();
        value.extend(codec::encode("an idempotency key", &known)?);
        self.put(Family::Index, keys::idempotency(id, &key.key), value);
        Ok(())
    }

    /// A message becomes a dead letter; where there are too many, the oldest go.
    fn bury(
        &mut self,
        core: &Core,
        append: &Append<'_>,
        before: Option<&Kept>,
        death: Death<'_>,
    ) -> Result<(), StoreError> {
        let id = &append.id;
        let own = self.messages.iter().rfind(|(_, m)| m.id == *death.message);
        let message = match own {
            Some((_, message)) => message.clone(),
            None => find_message(core, id, before, death.message)?,
        };
        let letter = DeadLetter {
            message,
            reason: death.reason.clone(),
            turn: death.turn,
            effects: death.effects,
            at: death.at,
        };
        let bytes = codec::encode("a dead letter", &letter)?;
        let key = keys::message(kind::DEAD, id, death.message)?;
        self.put(Family::Index, key, bytes);
        let limit = core.options.retention.dead_letters;
        if append.after.progress.dead_letters > limit {
            let excess = core.read(|db| trim::excess_dead_letters(db, id, limit))?;
            self.ops
                .extend(excess.into_iter().map(|key| Op::Delete(Family::Index, key)));
        }
        Ok(())
    }

    /// Of the snapshots the last two stay.
    fn drop_snapshots(&mut self, id: &SessionId, before: Option<&Kept>, after: &Session) {
        let refs = |snapshot: SnapshotRef, previous: Option<SnapshotRef>| {
            [Some(snapshot.at), previous.map(|previous| previous.at)]
        };
        let Some(before) = before.map(|kept| &kept.progress) else {
            return;
        };
        let stay = refs(after.progress.snapshot, after.progress.previous);
        for at in refs(before.snapshot, before.previous).into_iter().flatten() {
            if !stay.contains(&Some(at)) {
                self.delete(Family::Snapshots, keys::position(id, at));
            }
        }
    }

    fn set_timers(
        &mut self,
        id: &SessionId,
        before: Option<&Kept>,
        after: &Session,
    ) -> Result<(), StoreError> {
        let now = &after.progress.timers;
        let before = before.map_or(&[][..], |kept| &kept.progress.timers);
        for timer in before.iter().filter(|timer| !now.contains(timer)) {
            self.delete(Family::Index, keys::timer(timer.due, id, &timer.name));
        }
        for timer in now.iter().filter(|timer| !before.contains(timer)) {
            let bytes = codec::encode("a timer", timer)?;
            self.put(
                Family::Index,
                keys::timer(timer.due, id, &timer.name),
                bytes,
            );
        }
        Ok(())
    }

    /// A closed session leaves who it was and where it ended, so that its id is never reused.
    fn forget(&mut self, id: &SessionId) {
        for family in [Family::Log, Family::Snapshots] {
            let (first, bound) = keys::all_of(id);
            self.ops.push(Op::DeleteRange(family, first, bound));
        }
        for kind in [kind::DEAD, kind::KEY, kind::QUEUED] {
            let (first, bound) = keys::all_of_in(kind, id);
            self.ops.push(Op::DeleteRange(Family::Index, first, bound));
        }
        for kind in [kind::ACTIVE, kind::FAULTED] {
            self.delete(Family::Index, keys::marker(kind, id));
        }
    }

    fn trim(&mut self, core: &Core, id: &SessionId, after: &Session) -> Result<(), StoreError> {
        let events = core.options.retention.events;
        let Some(bound) = trim::bound(self.kept.oldest, after, events) else {
            return Ok(());
        };
        let from = self.kept.oldest;
        let trimmed = core.read(|db| trim::trimmed(db, id, from, bound))?;
        self.kept.oldest = trimmed.oldest;
        let deletes = trimmed
            .keys
            .into_iter()
            .map(|key| Op::Delete(Family::Log, key));
        self.ops.extend(deletes);
        Ok(())
    }
}

/// How a message died.
struct Death<'a> {
    message: &'a MessageId,
    reason: &'a Failure,
    turn: Option<u64>,
    effects: u32,
    at: UnixMillis,
}

/// What the session's last append left, or leaves, behind.
fn kept_before(core: &Core, id: &SessionId) -> Result<Option<Kept>, StoreError> {
    let in_flight = core.flights().kept(id);
    match in_flight {
        Some(kept) => Ok(Some(kept)),
        // What is not in flight is written.
        None => core.read(|db| super::read::kept(db, id)),
    }
}

/// The message of that id, which waits or whose turn is open.
fn find_message(
    core: &Core,
    id: &SessionId,
    before: Option<&Kept>,
    message: &MessageId,
) -> Result<Message, StoreError> {
    let in_flight = core.flights().message(id, |_, m| m.id == *message);
    if let Some(found) = in_flight {
        return Ok(found);
    }
    let open = before.and_then(|kept| kept.progress.open.as_ref());
    let at = open
        .map(|open| &open.queued)
        .filter(|queued| queued.id == *message);
    core.read(|db| logged_message(db, id, message, at.map(|queued| queued.pos)))
}
