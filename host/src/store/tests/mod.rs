//! Tests of the whole store: what it returns must equal the result of the domain's fold.

mod backup;
mod beside;
mod failures;
mod folder;
mod lifecycle;
mod lost_groups;
mod points;
mod restoring;
mod retention;
mod salvage;
mod timelines;
mod witness;
mod writing;

use std::{collections::BTreeMap, future::Future, path::Path, pin::Pin};

use futures::executor::block_on;
use tempfile::TempDir;

use super::*;
use crate::domain::{
    ApprovalId, Asked, BeginWith, Begun, Created, CutCause, DeadLetter, Digest, Effect, Event,
    EventBody, FailureCode, Fault, FaultCode, Generation, IdempotencyKey, Limits, LogPos, Message,
    MessageId, ModelUsage, NewMessage, Output, Owed, Patterns, Planned, PointAct, Record, Session,
    SessionId, Snapshot, StepCallName, StepDone, StepError, StepRequest, StoppedTurns,
    TimelineName, TimerOp, ToolCall, TurnEnd, TurnEnded, TurnFailure, UnixMillis,
};

type Pending = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

fn open(path: &Path) -> Store {
    Store::open(path, StoreOptions::default()).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn id(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

fn failure() -> TurnFailure {
    TurnFailure {
        code: FailureCode::Guest,
        text: "no".to_owned(),
    }
}

/// Copies a folder, as it is while a store is open in it: what a kill leaves.
fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The snapshot that is stored with the record number `seq`.
fn snapshot(seq: u64) -> Vec<u8> {
    let snapshot = Snapshot {
        plugin: "echo".to_owned(),
        component: Digest::of(b"c"),
        schema: 1,
        data: seq.to_be_bytes().to_vec(),
    };
    snapshot.encode()
}

/// The snapshot that is stored with the session's last record, after turn `turn`.
fn taken(session: &Session, turn: u64) -> NewSnapshot {
    let bytes = snapshot(session.progress.snapshot.at.seq);
    let now = UnixMillis::now();
    NewSnapshot {
        point: session.point(turn, bytes.len(), Owed::default(), now),
        bytes,
    }
}

/// The owner of a session, with everything that it has ever appended.
struct Owner {
    store: Store,
    id: SessionId,
    session: Session,
    tail: Tail,
    log: Vec<(LogPos, Record)>,
    letters: BTreeMap<u64, DeadLetter>,
    pending: Vec<Pending>,
    now: u64,
    /// What is done on the session with the next append.
    act: Option<PointAct>,
}

impl Owner {
    fn create(store: &Store, id: SessionId) -> Self {
        let created = Record::Created(Created {
            plugin: "echo".to_owned(),
            args: "null".to_owned(),
            labels: BTreeMap::new(),
            generation: Generation(1),
            component: Digest::of(b"c"),
            schema: 1,
            outputs: vec![Output::Text("hello".to_owned())],
            timers: Vec::new(),
            at: UnixMillis(1),
        });
        let session = Session::create(&created).unwrap();
        let mut owner = Self {
            store: store.clone(),
            id,
            session,
            tail: Tail::default(),
            log: vec![(LogPos::default(), created.clone())],
            letters: BTreeMap::new(),
            pending: Vec::new(),
            now: UnixMillis::now().0,
            act: None,
        };
        let append = Append {
            id: owner.id.clone(),
            history: Vec::new(),
            records: vec![(LogPos::default(), created)],
            after: &owner.session,
            snapshot: Some(taken(&owner.session, 0)),
            act: None,
            durability: Durability::Synced,
        };
        let appended = store.append(&mut owner.tail, append);
        owner.pending.push(Box::pin(appended));
        owner
    }

    fn now(&mut self) -> UnixMillis {
        self.now += 1;
        UnixMillis(self.now)
    }

    /// Applies the records to the session and appends them to the store.
    fn append(&mut self, records: Vec<Record>, durability: Durability) {
        let mut placed = Vec::new();
        let mut snapshot = None;
        for record in records {
            self.bury(&record);
            let at = self.session.apply(&record);
            match &record {
                Record::Ended(ended) if matches!(ended.end, TurnEnd::Completed { .. }) => {
                    snapshot = Some(taken(&self.session, ended.turn));
                }
                Record::Rewound(rewound) => snapshot = Some(taken(&self.session, rewound.turn)),
                _ => {}
            }
            placed.push((at, record));
        }
        self.log.extend(placed.clone());
        let append = Append {
            id: self.id.clone(),
            history: Vec::new(),
            records: placed,
            after: &self.session,
            snapshot,
            act: self.act.take(),
            durability,
        };
        let appended = self.store.append(&mut self.tail, append);
        self.pending.push(Box::pin(appended));
    }

    /// Updates the expected dead letters with those that the record adds or removes.
    fn bury(&mut self, record: &Record) {
        let (message, reason, turn, effects, at) = match record {
            Record::Ended(TurnEnded {
                message,
                end: TurnEnd::Failed(failure),
                turn,
                effects,
                at,
                ..
            }) => (message, failure, Some(*turn), *effects, *at),
            Record::Discarded(d) => (&d.message, &d.failure, None, 0, d.at),
            Record::Requeued(requeued) => {
                self.letters.remove(&requeued.message.id.cursor().unwrap());
                return;
            }
            _ => return,
        };
        let letter = DeadLetter {
            message: self.message(message),
            reason: reason.clone(),
            turn,
            effects,
            at,
        };
        self.letters.insert(message.cursor().unwrap(), letter);
    }

    /// Finds a message in the records by its id.
    fn message(&self, id: &MessageId) -> Message {
        let received = self.log.iter().find_map(|(_, record)| match record {
            Record::Received(received) if received.message.id == *id => Some(&received.message),
            _ => None,
        });
        received.unwrap().clone()
    }

    fn receive(&mut self, text: &str, key: Option<&str>) {
        let key = key.map(|key| IdempotencyKey {
            key: key.to_owned(),
            body: Digest::of(text.as_bytes()),
        });
        let at = self.now();
        let limits = Limits::default();
        if let Ok(record) = self.session.receive(
            NewMessage {
                text: text.to_owned(),
                key,
                sender: None,
            },
            &limits,
            at,
        ) {
            self.append(vec![record], Durability::Synced);
        }
    }

    fn begin(&mut self) -> Option<Begun> {
        let now = self.now();
        let begun = self.session.begin(BeginWith {
            now,
            seed: 7,
            component: Digest::of(b"c"),
            limits: &Limits::default(),
            generation: Generation(1),
            restarts: &[],
            notice_window_ms: 0,
        })?;
        self.append(vec![Record::Begun(begun.clone())], Durability::Lazy);
        Some(begun)
    }

    fn complete(&mut self, outputs: Vec<Output>, timers: Vec<TimerOp>, received: usize) {
        let at = self.now();
        let Some(open) = self.session.progress.open.clone() else {
            return;
        };
        let taken = self.session.queue.iter().take(received);
        let end = TurnEnd::Completed {
            notice: None,
            further_notices: Vec::new(),
            component: open.begun.component,
            schema: 1,
            outputs,
            timers,
            received: taken.map(|queued| queued.id.clone()).collect(),
            generation: open.begun.generation,
            crc: None,
        };
        let ended = TurnEnded {
            turn: open.begun.turn,
            message: open.begun.message,
            end,
            effects: 0,
            usage: ModelUsage::default(),
            at,
        };
        self.append(vec![Record::Ended(ended)], Durability::Synced);
    }

    /// Plans a step of the open turn, and completes it if `done` is set.
    fn step(&mut self, repeatable: bool, done: bool) {
        let at = self.now();
        let Some(open) = self.session.progress.open.clone() else {
            return;
        };
        let (turn, step) = (open.begun.turn, open.journal.steps + 1);
        let request = StepRequest::ToolCall(ToolCall {
            name: "t".to_owned(),
            arguments: step.to_string(),
        });
        let planned = Record::Planned(Planned {
            turn,
            step,
            call: StepCallName::of(&request),
            effects: vec![Effect::Tool {
                name: "t".to_owned(),
                repeatable,
                read_only: false,
            }],
            parts: Vec::new(),
            about: String::new(),
            at,
        });
        self.append(vec![planned], Durability::Lazy);
        if done {
            let done = Record::Done(StepDone {
                turn,
                step,
                part: 0,
                tool: Some("t".to_owned()),
                result: Err(StepError::Failed("no".to_owned())),
                took_ms: 1,
                at,
            });
            self.append(vec![done], Durability::Lazy);
        }
    }

    fn fail(&mut self) {
        let at = self.now();
        if let Some(record) = self.session.fail(failure(), at) {
            self.append(vec![record], Durability::Synced);
        }
    }

    /// Cuts the session's history, as the store's recovery does.
    fn cut(&mut self, bits: u64) {
        self.store.raise_format().unwrap();
        let at = self.now();
        let (name, cause) = (TimelineName::draw(bits), CutCause::Salvage);
        let records = self.session.cut(name, cause, "damage", at);
        if !records.is_empty() {
            self.append(records, Durability::Synced);
        }
    }

    /// Executes one turn, from the receipt of its message to its commit.
    fn turn(&mut self, text: &str) {
        self.receive(text, None);
        self.begin();
        self.complete(vec![Output::Text(format!("re: {text}"))], Vec::new(), 0);
    }

    /// Waits until all appends are synced.
    fn settle(&mut self) {
        for pending in self.pending.drain(..) {
            block_on(pending).unwrap();
        }
    }

    /// Returns the events of all records.
    fn events(&self) -> Vec<Event> {
        let timeline = &self.session.progress.timeline;
        let events = self.log.iter();
        let events =
            events.map(|(at, record)| record.events(at.cursor, timeline.of(at.cursor + 1)));
        events.flatten().collect()
    }

    /// Compares everything that the store returns with the fold.
    fn check(&mut self) {
        self.settle();
        let (store, id, session) = (&self.store, &self.id, &self.session);
        assert_eq!(store.load(id).unwrap().as_ref(), Some(session));
        let progress = &session.progress;
        let closed = progress.closed.is_some();
        let active = store.active(UnixMillis(0), 0).unwrap().contains(id);
        let works = progress.open.is_some() || !session.queue.is_empty();
        assert_eq!(active, works && !closed);
        assert_eq!(
            store.faulted().unwrap().contains(id),
            progress.fault.is_some() && !closed
        );
        let mut timers: Vec<_> = progress.timers.clone();
        timers.sort_by(|a, b| (a.due, &a.name).cmp(&(b.due, &b.name)));
        let due = store
            .timers_due(UnixMillis(u64::MAX), 100, |_, _| true)
            .unwrap();
        let due = due.into_iter().filter(|(of, _)| of == id);
        assert_eq!(due.map(|(_, timer)| timer).collect::<Vec<_>>(), timers);
        let list = store.list(None, 100, &Patterns::all()).unwrap();
        let summary = list.iter().find(|summary| summary.id == *id).unwrap();
        assert_eq!(summary.view(), session.view(id));
        let letters: Vec<_> = self.letters.values().cloned().collect();
        let stored = store.dead(id, None, 10_000).unwrap();
        let snapshot = |at| store.snapshot(id, at).unwrap();
        if closed {
            assert_eq!(stored, []);
            assert_eq!(snapshot(progress.snapshot.at), None);
            assert_eq!(store.events(id, 0, 10).unwrap().items, []);
            return;
        }
        assert_eq!(stored, letters);
        for queued in &session.queue {
            let message = store.message(id, queued.pos).unwrap();
            assert_eq!(message, Some(self.message(&queued.id)));
        }
        let kept = [Some(progress.snapshot), progress.previous];
        for at in kept.into_iter().flatten().map(|snapshot| snapshot.at) {
            assert_eq!(snapshot(at), Some(self::snapshot(at.seq)));
        }
        let points = store.points(id).unwrap();
        assert_eq!(
            points.last().map(|point| point.at),
            Some(progress.snapshot.at)
        );
        for (at, _) in &self.log {
            let is_kept = kept.iter().flatten().any(|snapshot| snapshot.at == *at);
            let is_point = points.iter().any(|point| point.at == *at);
            match snapshot(*at) {
                Some(stored) => {
                    assert!(is_kept || is_point, "{at:?} is still there");
                    assert_eq!(stored, self::snapshot(at.seq));
                }
                None => assert!(!is_point, "{at:?} is listed, and not there"),
            }
        }
        if let Some(open) = &progress.open {
            let stored = store.records(id, open.from, None).unwrap();
            let own = self.log.iter().filter(|(at, _)| *at >= open.from);
            assert_eq!(
                stored,
                own.map(|(_, record)| record.clone()).collect::<Vec<_>>()
            );
        }
        self.check_events();
    }

    /// Reads all events in pages of several sizes and compares them with the records' events.
    fn check_events(&self) {
        let expected = self.events();
        for limit in [1, 3, 1000] {
            let mut found: Vec<Event> = Vec::new();
            loop {
                let after = found.last().map_or(0, |event| event.cursor);
                let page = self.store.events(&self.id, after, limit).unwrap();
                assert_eq!(page.last, expected.len() as u64);
                assert!(page.items.len() <= limit);
                if page.items.is_empty() {
                    break;
                }
                found.extend(page.items);
            }
            assert_eq!(found, expected);
            let cursors = found.iter().map(|event| event.cursor);
            assert!(cursors.eq(1..=expected.len() as u64));
        }
    }
}
