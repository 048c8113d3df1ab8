//! Restore points: which snapshots stay, and that sessions can be rewound and copied.

use super::*;
use crate::domain::{
    HistoryCut, MadeCall, MadeCalls, NewCopy, Origin, Point, PointRules, Replacement, Retention,
    Rewinding, Rewound, SessionCopy, StateReplaced, StoppedTurn, Timer,
};

fn rules(turns: u32, bytes: u64) -> StoreOptions {
    let retention = Retention {
        points: PointRules { turns, bytes },
        ..Retention::default()
    };
    StoreOptions {
        retention,
        ..StoreOptions::default()
    }
}

fn points(owner: &mut Owner) -> Vec<Point> {
    owner.settle();
    owner.store.points(&owner.id).unwrap()
}

fn turns(points: &[Point]) -> Vec<u64> {
    points.iter().map(|point| point.turn).collect()
}

impl Owner {
    fn rewind(&mut self, to: usize) {
        let all = points(self);
        let at = self.now();
        let records = self.session.rewind(&Rewinding {
            point: &all[to],
            later: &all[to + 1..],
            fired: &[],
            configured: Digest::of(b"c"),
            by: None,
            at,
        });
        self.act = Some(PointAct::Rewind);
        self.append(records.unwrap(), Durability::Synced);
    }

    /// Makes a copy of the session as it was at one of its points.
    fn fork(&mut self, at: usize, new: &str) -> Owner {
        let all = points(self);
        let point = all[at].clone();
        let (left, owed) = self.session.not_copied(&point, &all[at + 1..]);
        let history = self.store.history(&self.id, &point).unwrap();
        check_history(&history, point.cursor).unwrap();
        let copy = SessionCopy {
            session: self.id.clone(),
            identity: self.session.identity.clone(),
            snapshot: self.store.snapshot(&self.id, point.at).unwrap().unwrap(),
            timeline: self.session.progress.timeline.before(point.cursor),
            point,
            history,
            owed,
            left,
        };
        let (session, records) = copy.begin(&NewCopy {
            how: Replacement::Forked,
            generation: Generation(1),
            timeline: None,
            configured: Digest::of(b"c"),
            by: None,
            at: self.now(),
        });
        let mut log: Vec<_> = self.log.clone();
        log.retain(|(at, _)| *at < records[0].0);
        log.extend(records.clone());
        let mut fork = Owner {
            store: self.store.clone(),
            id: id(new),
            session,
            tail: Tail::default(),
            log,
            letters: BTreeMap::new(),
            pending: Vec::new(),
            now: self.now,
            act: None,
        };
        let append = Append {
            id: fork.id.clone(),
            history: copy.history,
            records,
            after: &fork.session,
            snapshot: Some(taken(&fork.session, copy.point.turn)),
            act: None,
            durability: Durability::Synced,
        };
        let appended = fork.store.append(&mut fork.tail, append);
        fork.pending.push(Box::pin(appended));
        fork
    }
}

#[test]
fn the_states_of_the_last_turns_stay_once_the_format_has_them() {
    let home = folder();
    let store = Store::open(home.path(), rules(3, 1 << 20)).unwrap();
    let mut owner = Owner::create(&store, id("s"));
    for n in 0..4 {
        owner.turn(&n.to_string());
    }
    assert_eq!(turns(&points(&mut owner)), [4], "the present state");
    let refused = store.may_keep_points().unwrap_err();
    assert!(matches!(
        refused,
        StoreError::LacksPart { part: "points", .. }
    ));
    store.raise_format().unwrap();
    for n in 4..6 {
        owner.turn(&n.to_string());
    }
    // That of the fourth turn was there when the points began.
    assert_eq!(turns(&points(&mut owner)), [4, 5, 6]);
    owner.check();
    for n in 6..20 {
        owner.turn(&n.to_string());
        owner.check();
    }
    assert_eq!(turns(&points(&mut owner)), [17, 18, 19, 20]);
    // Another owner reads them from the store.
    let (session, tail) = store.load_to_append(&owner.id).unwrap();
    assert_eq!(session.as_ref(), Some(&owner.session));
    owner.tail = tail;
    owner.act = Some(PointAct::Cancel);
    owner.turn("21");
    owner.check();
    let found = points(&mut owner);
    assert_eq!(turns(&found), [18, 19, 20, 21]);
    let acts: Vec<_> = found.iter().map(|point| point.before_act).collect();
    assert_eq!(acts, [None, None, Some(PointAct::Cancel), None]);
    for n in 21..30 {
        owner.turn(&n.to_string());
    }
    assert_eq!(turns(&points(&mut owner))[0], 20, "before an act");
    owner.check();
    store.close();
    let store = Store::open(home.path(), rules(0, 0)).unwrap();
    owner.store = store.clone();
    let (_, tail) = store.load_to_append(&owner.id).unwrap();
    owner.tail = tail;
    owner.turn("31");
    assert_eq!(turns(&points(&mut owner)), [20, 30, 31]);
    owner.check();
}

#[test]
fn rewound_sessions_and_forks_equal_the_fold() {
    let home = folder();
    let store = open(home.path());
    store.raise_format().unwrap();
    let mut owner = Owner::create(&store, id("s"));
    let timer = |due| {
        TimerOp::Set(Timer {
            name: "t".to_owned(),
            due: UnixMillis(due),
            text: "now".to_owned(),
        })
    };
    for n in 0..3 {
        owner.receive(&n.to_string(), None);
        owner.begin();
        owner.complete(Vec::new(), vec![timer(u64::MAX - n)], 0);
        owner.check();
    }
    assert_eq!(turns(&points(&mut owner)), [0, 1, 2, 3]);
    owner.receive("waits", None);
    owner.receive("waits, too", None);
    owner.begin();
    owner.step(false, false);
    // Ends the open turn, whose message becomes a dead letter.
    let all = points(&mut owner);
    let at = owner.now();
    let records = owner.session.rewind(&Rewinding {
        point: &all[1],
        later: &all[2..],
        fired: &[],
        configured: Digest::of(b"c"),
        by: None,
        at,
    });
    owner.append(records.unwrap(), Durability::Synced);
    owner.check();
    assert_eq!(turns(&points(&mut owner)), [0, 1, 2, 3, 1]);
    assert_eq!(owner.session.progress.timers.len(), 1);
    let mut fork = owner.fork(2, "fork");
    fork.check();
    assert_eq!(turns(&points(&mut fork)), [2]);
    fork.turn("its own");
    fork.check();
    owner.turn("after");
    owner.rewind(4);
    owner.check();
    let mut of_rewound = owner.fork(5, "another");
    of_rewound.turn("x");
    of_rewound.check();
    store.close();
    let store = open(home.path());
    for owner in [&mut owner, &mut fork, &mut of_rewound] {
        owner.store = store.clone();
        owner.check();
    }
    // A closed session leaves none.
    let at = owner.now();
    let (_, tail) = store.load_to_append(&owner.id).unwrap();
    owner.tail = tail;
    let records = owner.session.close(at).unwrap();
    owner.append(records, Durability::Synced);
    owner.letters.clear();
    owner.check();
    assert_eq!(points(&mut owner), []);
    fork.check();
}

#[test]
fn of_a_long_history_the_end_is_copied() {
    let home = folder();
    let store = open(home.path());
    store.raise_format().unwrap();
    let mut owner = Owner::create(&store, id("s"));
    for _ in 0..8 {
        owner.turn(&"x".repeat(1000));
    }
    let point = points(&mut owner).pop().unwrap();
    let history = store.history_within(&owner.id, &point, 4000).unwrap();
    let expected: Vec<_> = owner.log.iter().rev().take(history.len()).rev().collect();
    assert!(!history.is_empty() && history.len() < owner.log.len());
    for ((at, bytes), (expected_at, record)) in history.iter().zip(expected) {
        assert_eq!(at, expected_at);
        assert_eq!(codec::encode_record(record).as_ref(), Ok(bytes));
    }
    check_history(&history, point.cursor).unwrap();
    assert!(check_history(&history, point.cursor + 1).is_err());
    let mut gap = history.clone();
    gap.remove(1);
    assert!(check_history(&gap, point.cursor).is_err());
    let mut damaged = history;
    damaged[0].1[0] = 99;
    assert!(check_history(&damaged, point.cursor).is_err());
}

fn timer_due(due: u64) -> Timer {
    Timer {
        name: "t".to_owned(),
        due: UnixMillis(due),
        text: "now".to_owned(),
    }
}

fn rewound() -> Record {
    let mut call = MadeCall::default();
    "t {}".clone_into(&mut call.call);
    let stopped = StoppedTurn {
        turn: 4,
        reason: "undone".to_owned(),
        about: "hello".to_owned(),
        calls: MadeCalls {
            shown: vec![call],
            more: 1,
        },
    };
    Record::Rewound(Rewound {
        to: LogPos { cursor: 3, seq: 2 },
        cursor: 5,
        turn: 2,
        component: Digest::from_bytes([7; 32]),
        schema: 1,
        dropped: vec![timer_due(7)],
        returned: vec![timer_due(8)],
        fired: vec![timer_due(9)],
        owed: owed(stopped),
        turns_with_effects: 4,
        by: Some("ann".to_owned()),
        at: UnixMillis(10),
    })
}

fn owed(stopped: StoppedTurn) -> Owed {
    let replaced = StateReplaced {
        how: Replacement::Forked,
        from: Some(id("a")),
        turn: 2,
        dropped: "t".to_owned(),
        fired: "u".to_owned(),
        at: UnixMillis(6),
    };
    let cut = HistoryCut {
        cause: CutCause::Restore,
        detail: "x".to_owned(),
        at: UnixMillis(5),
        turn: None,
        cuts: 1,
        held: false,
    };
    Owed {
        effects: StoppedTurns {
            turns: vec![stopped],
            earlier_calls: 3,
        },
        replaced: vec![replaced],
        cut: Some(cut),
    }
}

fn origin() -> Record {
    Record::Origin(Origin {
        how: Replacement::Imported,
        session: id("a/b"),
        timeline: Some(TimelineName::draw(1)),
        previous: Some(TimelineName::draw(2)),
        plugin: "echo".to_owned(),
        args: "null".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "x".to_owned())]),
        generation: Generation(3),
        turn: 2,
        turns: 2,
        last_turn: 4,
        component: Digest::from_bytes([7; 32]),
        schema: 1,
        timers: "t".to_owned(),
        owed: Owed::default(),
        by: None,
        at: UnixMillis(10),
    })
}

fn point() -> Point {
    Point {
        at: LogPos { cursor: 3, seq: 2 },
        cursor: 5,
        turn: 2,
        turns: 2,
        last_turn: 4,
        component: Digest::from_bytes([7; 32]),
        schema: 1,
        bytes: 300,
        taken_at: UnixMillis(10),
        timers: vec![timer_due(7)],
        owed: Owed::default(),
        since: Owed::default(),
        before_change: true,
        before_act: Some(PointAct::Rewind),
    }
}

/// Bytes on disk are forever.
#[test]
fn the_bytes_of_a_way_back_never_change() {
    for (record, golden) in [
        (rewound(), &include_bytes!("golden/rewound.bin")[..]),
        (origin(), include_bytes!("golden/origin.bin")),
    ] {
        assert_eq!(codec::encode_record(&record).as_deref(), Ok(golden));
        assert_eq!(codec::decode_record(String::new, golden), Ok(record));
    }
    let golden = include_bytes!("golden/point.bin");
    assert_eq!(
        crate::store::points::encode(&point()).as_deref(),
        Ok(&golden[..])
    );
    assert_eq!(codec::decode("a point", golden), Ok(point()));
}
