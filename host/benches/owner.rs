//! A session's owner, which appends turns to a store as the session driver does.

use std::collections::BTreeMap;
use std::future::Future;

use abide::domain::{
    BeginWith, Created, Digest, Generation, Limits, LogPos, ModelUsage, NewMessage, Output, Owed,
    Record, Session, SessionId, Snapshot, TurnEnd, TurnEnded, UnixMillis,
};
use abide::store::{Append, Durability, NewSnapshot, Store, StoreError, Tail};

/// The size of a session's state, in bytes, as in the measurements' guests.
pub(crate) const STATE_BYTES: usize = 4 << 10;
/// The size of a message's text, in bytes.
const TEXT_BYTES: usize = 200;

pub(crate) struct Owner {
    id: SessionId,
    session: Session,
    tail: Tail,
    state: Vec<u8>,
}

impl Owner {
    /// Creates a session with a state of that size; the future resolves once the session is synced.
    pub(crate) fn create(
        store: &Store,
        name: &str,
        state_bytes: usize,
    ) -> (Self, impl Future<Output = Result<(), StoreError>> + use<>) {
        let created = Record::Created(Created {
            plugin: "chat".to_owned(),
            args: "null".to_owned(),
            labels: BTreeMap::new(),
            generation: Generation(1),
            component: Digest::of(b"chat"),
            schema: 1,
            outputs: Vec::new(),
            timers: Vec::new(),
            at: UnixMillis::now(),
        });
        let mut owner = Self {
            id: SessionId::new(name).expect("the benchmarks name sessions well"),
            session: Session::create(&created).expect("the record creates one"),
            tail: Tail::default(),
            state: noise(name.len() as u64 + 1, state_bytes),
        };
        let at = LogPos::default();
        let append = Append {
            id: owner.id.clone(),
            history: Vec::new(),
            records: vec![(at, created)],
            after: &owner.session,
            snapshot: Some(owner.taken(0)),
            act: None,
            durability: Durability::Synced,
        };
        let synced = store.append(&mut owner.tail, append);
        (owner, synced)
    }

    /// Appends a whole turn; the future resolves once the turn is synced.
    pub(crate) fn turn(
        &mut self,
        store: &Store,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let now = UnixMillis::now();
        let turn = self.session.progress.last_turn + 1;
        let text = String::from_utf8_lossy(&noise(turn, TEXT_BYTES)).into_owned();
        let limits = Limits::default();
        let mut records = Vec::with_capacity(3);
        let message = NewMessage {
            text,
            key: None,
            sender: None,
        };
        let received = self.session.receive(message, &limits, now);
        let received = received.expect("the session is open and its inbox empty");
        records.push((self.session.apply(&received), received));
        let begun = self.session.begin(BeginWith {
            now,
            seed: turn,
            component: Digest::of(b"chat"),
            limits: &limits,
            generation: Generation(1),
            restarts: &[],
            notice_window_ms: 0,
        });
        let begun = begun.expect("a message waits");
        let message = begun.message.clone();
        let begun = Record::Begun(begun);
        records.push((self.session.apply(&begun), begun));
        let ended = Record::Ended(TurnEnded {
            turn,
            message,
            end: TurnEnd::Completed {
                notice: None,
                further_notices: Vec::new(),
                component: Digest::of(b"chat"),
                schema: 1,
                outputs: vec![Output::Text(format!("{{\"turn\":{turn},\"kept\":20}}"))],
                timers: Vec::new(),
                received: Vec::new(),
                generation: Generation(1),
                crc: Some(0),
            },
            effects: 0,
            usage: ModelUsage::default(),
            at: now,
        });
        let at = self.session.apply(&ended);
        records.push((at, ended));
        let replaced = TEXT_BYTES.min(self.state.len());
        self.state.rotate_left(replaced);
        let append = Append {
            id: self.id.clone(),
            history: Vec::new(),
            records,
            after: &self.session,
            snapshot: Some(self.taken(turn)),
            act: None,
            durability: Durability::Synced,
        };
        store.append(&mut self.tail, append)
    }
}

impl Owner {
    /// Returns the snapshot of the present state, after turn `turn`.
    fn taken(&self, turn: u64) -> NewSnapshot {
        let bytes = snapshot(&self.state);
        let point = self
            .session
            .point(turn, bytes.len(), Owed::default(), UnixMillis::now());
        NewSnapshot { point, bytes }
    }
}

fn snapshot(data: &[u8]) -> Vec<u8> {
    let snapshot = Snapshot {
        plugin: "chat".to_owned(),
        component: Digest::of(b"chat"),
        schema: 1,
        data: data.to_vec(),
    };
    snapshot.encode()
}

/// Returns letters without a pattern that compression could use, from a xorshift generator.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letters = (0..bytes).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'a' + (state >> 59) as u8 % 26
    });
    letters.collect()
}
