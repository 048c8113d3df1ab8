//! What can be read of one session.

use crate::domain::{
    Identity, LogPos, Point, Queued, Record, SessionId, Snapshot, SnapshotRef, retain_points,
};
use crate::store::{
    StoreError, codec,
    db::{Db, Keyspace},
    kept::Kept,
    keys::{self, kind},
};

/// What can be read of one session. A value that cannot be decoded is as good as not there.
#[derive(Debug)]
pub(super) struct SessionFacts {
    pub(super) id: SessionId,
    pub(super) identity: Option<Identity>,
    pub(super) kept: Option<Kept>,
    /// The entries of its queue, in order.
    pub(super) queue: Vec<Queued>,
    /// The records of its log, in order.
    pub(super) log: Vec<(LogPos, Record)>,
    /// Its snapshots, in order, each with the plugin that it belongs to.
    pub(super) snapshots: Vec<(SnapshotRef, String)>,
    /// The number of its dead letters.
    pub(super) dead_letters: u64,
    /// Its restore points, whether their snapshots are there or not.
    pub(super) points: Vec<Point>,
    /// How many entries of restore points it has, those that cannot be decoded included.
    pub(super) point_entries: usize,
}

impl SessionFacts {
    pub(super) fn gather(db: &Db, id: &SessionId) -> Result<Self, StoreError> {
        let identity = db.get(Keyspace::Sessions, &keys::identity(id))?;
        let kept = db.get(Keyspace::Sessions, &keys::kept(id))?;
        let mut facts = Self {
            id: id.clone(),
            identity: identity.and_then(|bytes| codec::decode("an identity", &bytes).ok()),
            kept: kept.and_then(|bytes| codec::decode("the progress", &bytes).ok()),
            queue: Vec::new(),
            log: Vec::new(),
            snapshots: Vec::new(),
            dead_letters: 0,
            points: Vec::new(),
            point_entries: 0,
        };
        let (first, bound) = keys::all_of(id);
        db.scan(Keyspace::Log, &first, &bound, |key, value| {
            let record = codec::decode_record(String::new, value).ok();
            facts.log.extend(keys::position_of(key).zip(record));
            Ok(true)
        })?;
        db.scan(Keyspace::Snapshots, &first, &bound, |key, value| {
            let snapshot = keys::position_of(key).and_then(|at| snapshot(at, value));
            facts.snapshots.extend(snapshot);
            Ok(true)
        })?;
        let (first, bound) = keys::all_of_in(kind::QUEUED, id);
        db.scan(Keyspace::Index, &first, &bound, |_, value| {
            facts
                .queue
                .extend(codec::decode::<Queued>("a queued message", value).ok());
            Ok(true)
        })?;
        facts.queue.sort_by_key(|queued| queued.pos);
        let (first, bound) = keys::all_of_in(kind::POINT, id);
        db.scan(Keyspace::Index, &first, &bound, |_, value| {
            facts.point_entries += 1;
            facts
                .points
                .extend(codec::decode::<Point>("a restore point", value).ok());
            Ok(true)
        })?;
        let (first, bound) = keys::all_of_in(kind::DEAD, id);
        db.scan(Keyspace::Index, &first, &bound, |_, _| {
            facts.dead_letters += 1;
            Ok(true)
        })?;
        Ok(facts)
    }

    /// Returns the records that are the session's own: behind those of the one that it is a copy of.
    pub(super) fn own_log(&self) -> &[(LogPos, Record)] {
        let origin = self
            .log
            .iter()
            .rposition(|(_, record)| matches!(record, Record::Origin(_)));
        &self.log[origin.unwrap_or_default()..]
    }

    /// Whether the message of the record at `at` is there.
    pub(super) fn has_message(&self, at: LogPos) -> bool {
        let found = self.log.binary_search_by_key(&at, |(at, _)| *at);
        found.is_ok_and(|index| {
            matches!(self.log[index].1, Record::Received(_) | Record::Requeued(_))
        })
    }

    pub(super) fn has_snapshot(&self, at: LogPos) -> bool {
        self.snapshots.iter().any(|(found, _)| found.at == at)
    }

    /// Returns the newest snapshot of a state that no rewind has undone.
    pub(super) fn newest_that_stands(&self) -> Option<SnapshotRef> {
        // From the end on: where the session was rewound, its history goes on before the point, and
        // rewinds in between are undone themselves.
        let mut undone: Vec<(LogPos, LogPos)> = Vec::new();
        for (at, record) in self.log.iter().rev() {
            let stands = undone.last().is_none_or(|(to, _)| at <= to);
            if let (true, Record::Rewound(rewound)) = (stands, record) {
                undone.push((rewound.to, *at));
            }
        }
        let mut snapshots = self.snapshots.iter().rev().map(|(found, _)| *found);
        snapshots.find(|found| {
            let is_within =
                |(to, rewound): &(LogPos, LogPos)| found.at > *to && found.at < *rewound;
            !undone.iter().any(is_within)
        })
    }

    /// Returns the restore points that its history reaches up to `present` and whose snapshots are there.
    pub(super) fn readable_points(&self, present: LogPos) -> Vec<Point> {
        let mut points = self.points.clone();
        retain_points(&mut points, &mut Vec::new(), |point| {
            point.at <= present && self.has_snapshot(point.at)
        });
        points
    }
}

/// Returns the position behind a record.
pub(super) fn behind(at: LogPos, record: &Record) -> LogPos {
    LogPos {
        cursor: at.cursor + record.event_count(),
        seq: at.seq + 1,
    }
}

/// Reads the header of a snapshot: none if the snapshot is damaged.
fn snapshot(at: LogPos, bytes: &[u8]) -> Option<(SnapshotRef, String)> {
    let found = Snapshot::decode_any(bytes).ok()?;
    let reference = SnapshotRef {
        at,
        component: found.component,
        schema: found.schema,
    };
    Some((reference, found.plugin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Owed, Rewound, UnixMillis};

    fn at(seq: u64) -> LogPos {
        LogPos { cursor: seq, seq }
    }

    fn rewound(to: u64) -> Record {
        Record::Rewound(Rewound {
            to: at(to),
            cursor: to,
            turn: to,
            component: Digest::of(b"c"),
            schema: 1,
            dropped: Vec::new(),
            returned: Vec::new(),
            fired: Vec::new(),
            owed: Owed::default(),
            turns_with_effects: 0,
            by: None,
            at: UnixMillis(0),
        })
    }

    #[test]
    fn no_undone_state_is_gone_back_to() {
        // At 60 it went back to 40, which was undone at 50 and stands again; what was rewound to at 50 does not.
        let log = [(30, 10), (50, 20), (60, 40)];
        let cases: [(&[u64], Option<u64>); 6] = [
            (&[5, 40, 55, 61], Some(61)),
            (&[5, 40, 55, 60], Some(60)),
            (&[5, 40, 55], Some(40)),
            (&[5, 35, 45, 55], Some(35)),
            (&[5, 25, 45], Some(5)),
            (&[15, 25, 45], None),
        ];
        for (snapshots, expected) in cases {
            let snapshot = |seq: &u64| SnapshotRef {
                at: at(*seq),
                component: Digest::of(b"c"),
                schema: 1,
            };
            let facts = SessionFacts {
                id: SessionId::new("s").unwrap(),
                identity: None,
                kept: None,
                queue: Vec::new(),
                log: log.map(|(seq, to)| (at(seq), rewound(to))).to_vec(),
                snapshots: snapshots
                    .iter()
                    .map(|seq| (snapshot(seq), "p".to_owned()))
                    .collect(),
                dead_letters: 0,
                points: Vec::new(),
                point_entries: 0,
            };
            let found = facts.newest_that_stands().map(|found| found.at.seq);
            assert_eq!(found, expected, "{snapshots:?}");
        }
    }
}
