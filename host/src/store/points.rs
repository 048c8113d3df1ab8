//! Restore points of sessions: which are kept, their snapshots, and the history up to one.

use crate::domain::{
    Digest, HISTORY_MAX_BYTES, LogPos, Owed, Point, PointAct, Record, Session, SessionId,
    SnapshotRef, Timer, UnixMillis, history_weight, keep_points, retain_points,
};

use super::{
    Store, StoreError, codec,
    db::{Db, Keyspace, Op},
    format::Part,
    handle::Core,
    kept::kept,
    keys::{self, kind},
    tail::{Tail, guests_timers},
};

/// What a [`Point`] is, for humans.
const POINT: &str = "a restore point";

/// The records of a session's log, as they are stored.
pub type StoredRecords = Vec<(LogPos, Vec<u8>)>;

impl Store {
    /// Returns the restore points of a session, oldest first: those whose snapshots can be read. The last
    /// one is its present state. An unknown or closed session has none.
    pub fn points(&self, id: &SessionId) -> Result<Vec<Point>, StoreError> {
        self.core().read(|db| {
            let mut points = points(db, id)?;
            let mut failed = None;
            // What turns did before one that is gone is to be told all the same.
            retain_points(&mut points, &mut Vec::new(), |point| {
                let has = db.has(Keyspace::Snapshots, &keys::position(id, point.at));
                has.unwrap_or_else(|error| {
                    failed = Some(error);
                    true
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            let Some(kept) = kept(db, id)?.filter(|kept| kept.progress.closed.is_none()) else {
                return Ok(Vec::new());
            };
            let progress = &kept.progress;
            if points.last().map(|point| point.at) != Some(progress.snapshot.at) {
                let turns = progress.turns;
                points.extend(unlisted(
                    db,
                    id,
                    progress.snapshot,
                    turns,
                    &progress.timers,
                )?);
            }
            Ok(points)
        })
    }

    /// Returns the records up to that of a point, oldest first, and at most [`HISTORY_MAX_BYTES`] of them: of
    /// a longer history the end. None if that of the point is not there.
    pub fn history(&self, id: &SessionId, point: &Point) -> Result<StoredRecords, StoreError> {
        self.history_within(id, point, HISTORY_MAX_BYTES)
    }

    /// Like [`Store::history`], of at most so many bytes.
    pub(super) fn history_within(
        &self,
        id: &SessionId,
        point: &Point,
        bytes_max: usize,
    ) -> Result<StoredRecords, StoreError> {
        self.core().read(|db| {
            let (first, bound) = keys::all_of(id);
            let mut entries = db.range(Keyspace::Log, &first, &bound);
            entries.seek_for_prev(keys::position(id, point.at));
            let (mut history, mut bytes): (StoredRecords, usize) = (Vec::new(), 0);
            while let Some((key, value)) = entries.item() {
                bytes += history_weight(value);
                let at = keys::position_of(key)
                    .ok_or_else(|| codec::corrupt("a key of the log", "it has no position"))?;
                // What is before a gap cannot be copied.
                let follows = match history.last() {
                    None => at == point.at,
                    Some((later, _)) => later.seq == at.seq + 1,
                };
                if bytes > bytes_max || !follows {
                    break;
                }
                history.push((at, value.to_vec()));
                entries.prev();
            }
            entries.status().map_err(|error| StoreError::read(&error))?;
            history.reverse();
            Ok(history)
        })
    }

    /// Returns the timers whose messages were received since the record at `from`, as far as the log still
    /// has them.
    pub fn timers_fired(&self, id: &SessionId, from: LogPos) -> Result<Vec<Timer>, StoreError> {
        let mut fired = Vec::new();
        let (_, end) = keys::all_of(id);
        let first = keys::position(id, from);
        self.core().read(|db| {
            db.scan(Keyspace::Log, &first, &end, |_, value| {
                let record = codec::decode_record(|| format!("a record of session `{id}`"), value)?;
                if let Record::Received(received) = record
                    && let (Some(name), Some(due)) = (received.message.name, received.message.due)
                {
                    let text = received.message.text;
                    fired.push(Timer { name, due, text });
                }
                Ok(true)
            })
        })?;
        Ok(fired)
    }

    /// Whether the store has restore points yet: from the end of this version's probation on.
    pub fn may_keep_points(&self) -> Result<(), StoreError> {
        self.core().format.allow_part(POINT, Part::Points)
    }
}

/// Checks the records of a history that comes from outside: each is one of a session's, they follow each
/// other without gaps, and they have `cursor` events.
pub fn check_history(history: &StoredRecords, cursor: u64) -> Result<(), StoreError> {
    let what = "the history";
    let mut next: Option<LogPos> = None;
    for (at, bytes) in history {
        let record = codec::decode_record(|| format!("record {} of the history", at.seq), bytes)?;
        if next.is_some_and(|next| next != *at) {
            return Err(codec::corrupt(what, "its records do not follow each other"));
        }
        let is_first = *at == LogPos::default();
        if matches!(record, Record::Created(_)) != is_first || matches!(record, Record::Closed(_)) {
            return Err(codec::corrupt(what, "it has a record that cannot be there"));
        }
        next = Some(LogPos {
            cursor: at.cursor + record.event_count(),
            seq: at.seq + 1,
        });
    }
    match next {
        Some(next) if next.cursor != cursor => {
            Err(codec::corrupt(what, "it does not end where the point is"))
        }
        _ => Ok(()),
    }
}

/// Adds the new snapshot of a session to its restore points, notes that an act was done on its present state,
/// and removes the points that are no longer kept. Returns the operations.
pub(super) fn keep(
    core: &Core,
    id: &SessionId,
    tail: &mut Tail,
    after: &Session,
    new: Option<Point>,
    act: Option<PointAct>,
) -> Result<Vec<Op>, StoreError> {
    if !core.format.has(Part::Points) {
        return Ok(Vec::new());
    }
    let mut points = match tail.points.take() {
        Some(points) => points,
        None => core.read(|db| self::points(db, id))?,
    };
    let mut changed = Vec::new();
    if let Some(before) = &tail.stands {
        let present = before.snapshots[0];
        if points.last().map(|point| point.at) != present {
            let refs = [Some(after.progress.snapshot), after.progress.previous];
            let of = refs.into_iter().flatten().find(|of| Some(of.at) == present);
            let commits = new.is_some() && act.is_none();
            let turns = after.progress.turns.saturating_sub(u64::from(commits));
            if let Some(of) = of {
                let timers = guests_timers(&before.timers);
                let found = core.read(|db| unlisted(db, id, of, turns, &timers))?;
                changed.extend(found.iter().map(|point| point.at));
                points.extend(found);
            }
        }
        let last = points.last_mut();
        if let Some(point) = last.filter(|point| Some(point.at) == present) {
            let changes = new
                .as_ref()
                .is_some_and(|new| new.component != point.component);
            if changes && !point.before_change {
                point.before_change = true;
                changed.push(point.at);
            }
            if act.is_some() && point.before_act != act {
                point.before_act = act;
                changed.push(point.at);
            }
        }
    }
    changed.extend(new.iter().map(|point| point.at));
    points.extend(new);
    let removed = keep_points(&mut points, core.options.retention.points, &mut changed);
    let mut ops = Vec::with_capacity(changed.len() + 2 * removed.len());
    for point in points.iter().filter(|point| changed.contains(&point.at)) {
        let key = keys::point(id, point.at);
        ops.push(Op::Put(Keyspace::Index, key, encode(point)?));
    }
    for point in removed {
        ops.push(Op::Delete(Keyspace::Index, keys::point(id, point.at)));
        ops.push(Op::Delete(
            Keyspace::Snapshots,
            keys::position(id, point.at),
        ));
    }
    tail.hold_points(points);
    Ok(ops)
}

/// Returns the operations that delete the last two snapshots that were, unless they are still these, or are
/// kept as restore points.
pub(super) fn superseded(id: &SessionId, tail: &Tail, after: &Session) -> Vec<Op> {
    let progress = &after.progress;
    let stay = [
        Some(progress.snapshot.at),
        progress.previous.map(|previous| previous.at),
    ];
    let before = tail.stands.as_ref();
    let before = before.map_or([None, None], |before| before.snapshots);
    let is_point = |at| tail.points.iter().flatten().any(|point| point.at == at);
    let before = before.into_iter().flatten();
    let gone = before.filter(|at| !stay.contains(&Some(*at)) && !is_point(*at));
    gone.map(|at| Op::Delete(Keyspace::Snapshots, keys::position(id, at)))
        .collect()
}

/// Reads the points that are stored of a session, oldest first.
pub(super) fn points(db: &Db, id: &SessionId) -> Result<Vec<Point>, StoreError> {
    let mut points = Vec::new();
    let (first, bound) = keys::all_of_in(kind::POINT, id);
    db.scan(Keyspace::Index, &first, &bound, |_, value| {
        match codec::decode(POINT, value) {
            Ok(point) => points.push(point),
            // The session goes on without it.
            Err(error) => tracing::warn!(session = %id, %error, "a restore point cannot be read"),
        }
        Ok(true)
    })?;
    Ok(points)
}

/// Encodes a point for the index.
pub(super) fn encode(point: &Point) -> Result<Vec<u8>, StoreError> {
    codec::encode(POINT, point)
}

/// Returns the point of the present snapshot of a session that was last written before there were
/// points; none if it cannot be read. `timers` are those that are set now.
pub(super) fn unlisted(
    db: &Db,
    id: &SessionId,
    snapshot: SnapshotRef,
    turns: u64,
    timers: &[Timer],
) -> Result<Option<Point>, StoreError> {
    let at = snapshot.at;
    let key = keys::position(id, at);
    let Some(stored) = db.get(Keyspace::Snapshots, &key)? else {
        return Ok(None);
    };
    let record = db.get(Keyspace::Log, &key)?;
    let record = record.map(|bytes| codec::decode_record(|| format!("record {}", at.seq), &bytes));
    let record = record.transpose()?;
    let (turn, taken_at) = match &record {
        Some(Record::Ended(ended)) => (ended.turn, ended.at),
        Some(Record::Created(created)) => (0, created.at),
        Some(Record::Rewound(rewound)) => (rewound.turn, rewound.at),
        Some(Record::Origin(origin)) => (origin.turn, origin.at),
        // It was trimmed.
        _ => (turns, UnixMillis::default()),
    };
    let events = record.as_ref().map_or(0, Record::event_count);
    Ok(Some(Point {
        at,
        cursor: at.cursor + events,
        turn,
        turns,
        last_turn: turn.max(turns),
        component: snapshot.component,
        schema: snapshot.schema,
        bytes: stored.len() as u64,
        taken_at,
        timers: timers.to_vec(),
        owed: Owed::default(),
        since: Owed::default(),
        before_change: false,
        before_act: None,
    }))
}

/// Returns the components, beside that of the present snapshot, that a session's points need.
pub(super) fn components(points: &[Point], session: &Session) -> Vec<Digest> {
    let present = session.progress.snapshot.component;
    let others = points.iter().map(|point| point.component);
    let mut components: Vec<_> = others.filter(|component| *component != present).collect();
    components.sort_unstable();
    components.dedup();
    components
}
