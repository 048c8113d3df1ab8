//! The sessions: recent messages in memory, and everything in RocksDB.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::{DB, Direction, IteratorMode};

use super::writer::{self, Ops, Queue};
use crate::chat::KEPT;
use crate::pattern::Pattern;

/// An upper bound that no session's turn number reaches.
const TURNS_MAX: u64 = 1 << 40;

/// The in-memory state of a session.
#[derive(Default)]
pub(super) struct Session {
    pub(super) turn: u64,
    /// The most recent messages, oldest first.
    texts: VecDeque<String>,
}

pub(super) struct Store {
    db: Arc<DB>,
    pattern: Pattern,
    /// For each of the pattern's rows, the index of its column family.
    families: Vec<usize>,
    queue: Arc<Queue>,
    sessions: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Session>>>>>,
}

impl Store {
    /// Opens the database in a directory that contains a pattern.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let pattern = Pattern::read_in(folder)?;
        let (mut options, families) = pattern.options()?;
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let db = DB::open_cf_descriptors(&options, folder.join("db"), families);
        let db = Arc::new(db.map_err(|error| error.to_string())?);
        let names: BTreeSet<_> = pattern.rows.iter().map(|row| row.family.clone()).collect();
        let names: Vec<_> = names.into_iter().collect();
        let number = |family: &String| names.binary_search(family).unwrap_or_default();
        let families = pattern.rows.iter().map(|row| number(&row.family)).collect();
        let queue = Arc::new(Queue::default());
        writer::start(db.clone(), names, queue.clone());
        Ok(Self {
            db,
            pattern,
            families,
            queue,
            sessions: Mutex::default(),
        })
    }

    /// Takes a turn; returns its number, and how many messages are kept.
    pub(super) async fn say(&self, id: &str, text: String) -> Result<(u64, u64), String> {
        let session = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            match sessions.get(id) {
                Some(session) => session.clone(),
                None => sessions.entry(id.to_owned()).or_default().clone(),
            }
        };
        // Held until the turn is synced, so that the turns of one session are serialized.
        let mut session = session.lock().await;
        let session = match &mut *session {
            Some(session) => session,
            none => none.insert(self.load(id)?),
        };
        session.turn += 1;
        session.texts.push_back(text);
        if session.texts.len() as u64 > KEPT {
            session.texts.pop_front();
        }
        let ops = self.ops(id, session);
        let done = self.queue.push(ops);
        done.await.map_err(|_| "the write failed".to_owned())?;
        Ok((session.turn, session.texts.len() as u64))
    }

    fn ops(&self, id: &str, session: &Session) -> Ops {
        let pattern = &self.pattern;
        let rows = pattern.rows.iter().zip(&self.families);
        let text = |age: usize| {
            let texts = session.texts.iter();
            texts.rev().nth(age).map(String::as_str)
        };
        rows.map(|(row, family)| {
            let key = row.key(id, session.turn, pattern);
            (*family, key, row.value(text))
        })
        .collect()
    }

    /// Loads a session that is not in memory; one that was never sent a message is empty.
    fn load(&self, id: &str) -> Result<Session, String> {
        let state = self.pattern.state().ok_or("the pattern has no state")?;
        let family = self.db.cf_handle(&state.family).ok_or("no such family")?;
        let behind = state.key(id, TURNS_MAX, &self.pattern);
        let from = IteratorMode::From(&behind, Direction::Reverse);
        let last = self.db.iterator_cf(family, from).next().transpose();
        let last = last.map_err(|error| error.to_string())?;
        let Some((key, value)) = last.filter(|(key, _)| key.starts_with(id.as_bytes())) else {
            return Ok(Session::default());
        };
        let turn = self
            .pattern
            .turn_of(id, &key)
            .ok_or("a key without a number")?;
        let mut texts = state.texts(&value);
        texts.retain(|(age, _)| (*age as u64) < turn);
        texts.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        let texts = texts
            .iter()
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned());
        Ok(Session {
            turn,
            texts: texts.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::tests::sample;

    #[tokio::test]
    async fn what_is_written_can_be_loaded() {
        let folder = tempfile::tempdir().unwrap();
        sample(folder.path()).leave_in(folder.path()).unwrap();
        let store = Store::open(folder.path()).unwrap();
        for turn in 1..=KEPT + 3 {
            for id in ["s1", "s2"] {
                let reply = store.say(id, format!("{id} {turn}")).await;
                assert_eq!(reply, Ok((turn, turn.min(KEPT))));
                let loaded = store.load(id).unwrap();
                assert_eq!(
                    (loaded.turn, loaded.texts.len() as u64),
                    (turn, turn.min(KEPT))
                );
                let last = loaded.texts.back().unwrap();
                assert_eq!(last.trim_end(), format!("{id} {turn}"));
            }
        }
        assert_eq!(store.load("s").unwrap().turn, 0, "another session's key");
        let family = store.db.cf_handle("state").unwrap();
        let states = store.db.iterator_cf(family, IteratorMode::Start).count();
        assert_eq!(states, 2, "each turn removes the state before its own");
    }
}
