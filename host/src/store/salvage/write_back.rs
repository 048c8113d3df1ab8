//! Writes back what becomes of a session.

use crate::domain::{Closed, Digest, Identity, LogPos, Record, Session, SessionId, UnixMillis};
use crate::store::{
    StoreError, codec,
    db::{Keyspace, Op},
    kept::KeptRef,
    keys::{self, kind},
    points,
    read::StoredKey,
    tail::{moments, works},
};

use super::facts::SessionFacts;
use super::salvaged::{Salvaged, SoundFamilies, stand_in};

/// The kinds of entries in the index that follow from the sessions' states; so do those of the queue,
/// which each session's judgement still reads.
const DERIVED: [u8; 5] = [
    kind::ACTIVE,
    kind::FAULTED,
    kind::PARKED,
    kind::RECENT,
    kind::TIMER,
];

/// Returns the operations that empty the part of the index that is made anew.
pub(super) fn clear_index() -> Vec<Op> {
    let all = DERIVED.map(keys::all_of_kind);
    all.map(|(first, bound)| Op::DeleteRange(Keyspace::Index, first, bound))
        .into()
}

/// Returns the operations that remove what is left of a session but its name and its state.
pub(super) fn forget(id: &SessionId) -> Vec<Op> {
    let families = [Keyspace::Log, Keyspace::Snapshots].into_iter();
    let (first, bound) = keys::all_of(id);
    let mut ops: Vec<_> = families
        .map(|family| Op::DeleteRange(family, first.clone(), bound.clone()))
        .collect();
    for kind in [kind::DEAD, kind::KEY, kind::POINT, kind::QUEUED] {
        let (first, bound) = keys::all_of_in(kind, id);
        ops.push(Op::DeleteRange(Keyspace::Index, first, bound));
    }
    ops
}

/// Returns the operations that close a session of which nothing is left, so that its id is not used
/// again.
pub(super) fn close(id: &SessionId, at: UnixMillis) -> Result<Vec<Op>, StoreError> {
    let mut ops = forget(id);
    let Some(mut session) =
        Session::create(&stand_in(&Identity::nameless(Identity::UNKNOWN_PLUGIN)))
    else {
        return Ok(ops);
    };
    session.apply(&Record::Closed(Closed { at }));
    ops.push(name_only(id)?);
    ops.push(state(id, &session, LogPos::default(), &[])?);
    Ok(ops)
}

/// Returns the operation that stores an identity of which nothing is known.
pub(super) fn name_only(id: &SessionId) -> Result<Op, StoreError> {
    let bytes = codec::encode(
        "a session's identity",
        &Identity::nameless(Identity::UNKNOWN_PLUGIN),
    )?;
    Ok(Op::Put(Keyspace::Sessions, keys::identity(id), bytes))
}

/// Returns the operations that write a session back, and with an unsound index all of its entries.
pub(super) fn write_back(
    facts: &SessionFacts,
    salvaged: &Salvaged,
    sound: SoundFamilies,
) -> Result<Vec<Op>, StoreError> {
    let id = &facts.id;
    let session = &salvaged.session;
    let mut ops = Vec::new();
    for at in &salvaged.surplus {
        ops.push(Op::Delete(Keyspace::Log, keys::position(id, *at)));
    }
    if facts.identity.as_ref() != Some(&session.identity) {
        let bytes = codec::encode("a session's identity", &session.identity)?;
        ops.push(Op::Put(Keyspace::Sessions, keys::identity(id), bytes));
    }
    let points = facts.readable_points(session.progress.snapshot.at);
    let components = points::components(&points, session);
    ops.push(state(id, session, salvaged.oldest, &components)?);
    if points != facts.points || points.len() != facts.point_entries {
        let (first, bound) = keys::all_of_in(kind::POINT, id);
        ops.push(Op::DeleteRange(Keyspace::Index, first, bound));
        for point in &points {
            let bytes = points::encode(point)?;
            ops.push(Op::Put(Keyspace::Index, keys::point(id, point.at), bytes));
        }
    }
    let queue_is_other = facts.queue.iter().ne(&session.queue);
    if !sound.index || queue_is_other {
        let (first, bound) = keys::all_of_in(kind::QUEUED, id);
        ops.push(Op::DeleteRange(Keyspace::Index, first, bound));
        for queued in &session.queue {
            let key = keys::message(kind::QUEUED, id, &queued.id)?;
            let bytes = codec::encode("a queued message", queued)?;
            ops.push(Op::Put(Keyspace::Index, key, bytes));
        }
    }
    if !sound.is_index_kept() {
        markers(id, session, &mut ops)?;
    }
    if !sound.index {
        known_keys(facts, &mut ops)?;
    }
    Ok(ops)
}

fn state(
    id: &SessionId,
    session: &Session,
    oldest: LogPos,
    components: &[Digest],
) -> Result<Op, StoreError> {
    let kept = KeptRef {
        progress: &session.progress,
        queued: session.queue.len() as u64,
        oldest,
        components,
    };
    let bytes = codec::encode("a session's progress", &kept)?;
    Ok(Op::Put(Keyspace::Sessions, keys::kept(id), bytes))
}

/// Adds the markers and timers of a session.
fn markers(id: &SessionId, session: &Session, ops: &mut Vec<Op>) -> Result<(), StoreError> {
    let progress = &session.progress;
    for (kind, is_so) in [
        (kind::ACTIVE, works(session)),
        (kind::FAULTED, progress.fault.is_some()),
        (kind::PARKED, progress.is_parked()),
    ] {
        if is_so {
            let key = keys::marker(kind, id);
            ops.push(Op::Put(Keyspace::Index, key, Vec::new()));
        }
    }
    if let Some(span) = progress.last_commit.map(keys::span) {
        ops.push(Op::Put(Keyspace::Index, keys::recent(span, id), Vec::new()));
    }
    for timer in moments(session) {
        let key = keys::timer(timer.due, id, &timer.name);
        let bytes = codec::encode("a timer", &timer)?;
        ops.push(Op::Put(Keyspace::Index, key, bytes));
    }
    Ok(())
}

/// Adds the idempotency keys that the log still has.
fn known_keys(facts: &SessionFacts, ops: &mut Vec<Op>) -> Result<(), StoreError> {
    for (_, record) in facts.own_log() {
        let Record::Received(received) = record else {
            continue;
        };
        let Some(key) = &received.key else {
            continue;
        };
        let known = StoredKey {
            message: received.message.id.clone(),
            body: key.body,
        };
        let bytes = known.encode(received.message.at)?;
        ops.push(Op::Put(
            Keyspace::Index,
            keys::idempotency(&facts.id, &key.key),
            bytes,
        ));
    }
    Ok(())
}
