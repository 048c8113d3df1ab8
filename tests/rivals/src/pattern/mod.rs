//! The data that one of Abide's turns writes, read from the write-ahead log of a daemon that took
//! some turns, so that bare RocksDB can write the same keys and bytes with the same options.
//!
//! A key contains the session's id, possibly followed by numbers, each of which grows by a constant
//! in every turn.
//! Values contain the texts of the session's recent messages. Everything else is written unchanged.

mod learn;
mod observe;

use std::path::{Path, PathBuf};

use rocksdb::{Cache, ColumnFamilyDescriptor, Env, Options};
use serde::{Deserialize, Serialize};

use crate::chat::{TEXT_BYTES, name};

pub(crate) use observe::observe;

/// The name of the pattern's file in a server's directory.
const FILE: &str = "pattern.json";
/// The data that one turn writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pattern {
    /// The RocksDB database whose options are used.
    like: PathBuf,
    /// How much the first and the second number of a key grow in a turn.
    strides: [u64; 2],
    pub(crate) rows: Vec<Row>,
}

/// A key that is written or deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) family: String,
    key: Key,
    /// The new value; `None` deletes the key.
    value: Option<Value>,
}

/// A key: the bytes before the id, and those after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    before: Vec<u8>,
    /// The byte that terminates the id, if numbers follow.
    end: Option<u8>,
    /// For each number, the offset to add to the turn's number times the stride.
    numbers: Vec<i64>,
    behind: Vec<u8>,
}

/// A value, and the offset and age of each recent message in it; age 0 is the turn's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Value {
    bytes: Vec<u8>,
    texts: Vec<(usize, usize)>,
}

impl Pattern {
    /// Writes the pattern into a server's directory.
    pub(crate) fn leave_in(&self, folder: &Path) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        std::fs::write(folder.join(FILE), text)
            .map_err(|error| format!("{}: {error}", folder.display()))
    }

    /// Reads the pattern from a server's directory.
    pub(crate) fn read_in(folder: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(folder.join(FILE)).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Returns the options of the database that the pattern was read from.
    pub(crate) fn options(&self) -> Result<(Options, Vec<ColumnFamilyDescriptor>), String> {
        options_of(&self.like)
    }

    /// Returns the size of one turn's keys and values in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let sizes = self.rows.iter().map(|row| {
            let key = row.key(&name(0), 0, self).len();
            key + row.value.as_ref().map_or(0, |value| value.bytes.len())
        });
        sizes.sum()
    }

    /// Returns the row whose value contains the most messages: all that a session keeps.
    pub(crate) fn state(&self) -> Option<&Row> {
        let texts = |row: &&Row| row.value.as_ref().map_or(0, |value| value.texts.len());
        self.rows.iter().max_by_key(texts)
    }

    /// Returns the turn that a key of [`Self::state`]'s row belongs to, in a session with that id.
    pub(crate) fn turn_of(&self, id: &str, key: &[u8]) -> Option<u64> {
        let Key {
            before, numbers, ..
        } = &self.state()?.key;
        let number = key.get(before.len() + id.len() + 1..)?.first_chunk()?;
        let number = u64::from_be_bytes(*number).wrapping_sub_signed(*numbers.first()?);
        Some(number / self.strides[0])
    }
}

impl Row {
    /// Returns the row's key in a turn of a session.
    pub(crate) fn key(&self, id: &str, turn: u64, pattern: &Pattern) -> Vec<u8> {
        let Key {
            before,
            end,
            numbers,
            behind,
        } = &self.key;
        let len = before.len() + id.len() + 1 + 8 * numbers.len() + behind.len();
        let mut key = Vec::with_capacity(len);
        key.extend(before);
        key.extend(id.as_bytes());
        key.extend(end);
        for (base, stride) in numbers.iter().zip(pattern.strides) {
            let number = (turn * stride).wrapping_add_signed(*base);
            key.extend(number.to_be_bytes());
        }
        key.extend(behind);
        key
    }

    /// Returns the row's value; `text` returns the message of a given age, of which 0 is the turn's
    /// own.
    pub(crate) fn value<'a>(
        &self,
        mut text: impl FnMut(usize) -> Option<&'a str>,
    ) -> Option<Vec<u8>> {
        let Value { bytes, texts } = self.value.as_ref()?;
        let mut bytes = bytes.clone();
        for (at, age) in texts {
            let text = text(*age).unwrap_or_default().as_bytes();
            let place = &mut bytes[*at..*at + TEXT_BYTES];
            let len = text.len().min(TEXT_BYTES);
            place[..len].copy_from_slice(&text[..len]);
            place[len..].fill(b' ');
        }
        Some(bytes)
    }

    /// Returns the texts in a value of this row, with their ages.
    pub(crate) fn texts<'a>(&self, bytes: &'a [u8]) -> Vec<(usize, &'a [u8])> {
        let texts = self.value.iter().flat_map(|value| &value.texts);
        let texts = texts.filter_map(|(at, age)| Some((*age, bytes.get(*at..*at + TEXT_BYTES)?)));
        texts.collect()
    }
}

fn options_of(database: &Path) -> Result<(Options, Vec<ColumnFamilyDescriptor>), String> {
    let env = Env::new().map_err(|error| error.to_string())?;
    // The daemon's default block cache size.
    let cache = Cache::new_lru_cache(32 << 20);
    Options::load_latest(database, env, false, cache)
        .map_err(|error| format!("{}: {error}", database.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use abide::loadgen::Texts;
    use rocksdb::DB;

    use super::learn::{ENDED, LOG, TURNS, learn};
    use super::*;
    use crate::chat::KEPT;

    /// Returns the pattern of turns with a record, a state and a marker, whose database is in the
    /// directory.
    pub(crate) fn sample(folder: &Path) -> Pattern {
        let database = folder.join("like");
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        drop(DB::open_cf(&options, &database, [LOG, "state"]).unwrap());
        let id = name(0);
        let texts = Texts::new(TEXT_BYTES);
        let key = |cursor: u64, seq: u64| {
            [
                id.as_bytes(),
                &[0],
                &cursor.to_be_bytes(),
                &seq.to_be_bytes(),
            ]
            .concat()
        };
        // The sequence number grows by two in a turn, because states count too.
        let turns = (1..=TURNS).map(|turn| {
            let messages = (turn.saturating_sub(KEPT - 1).max(1)..=turn).map(|message| {
                let mut text = String::new();
                texts.write(0, message, &mut text);
                text + ";"
            });
            let state = messages.collect::<String>().into_bytes();
            let ended = [&ENDED[..], b"ended"].concat();
            vec![
                (LOG.to_owned(), key(3 * turn + 2, 2 * turn + 9), Some(ended)),
                ("state".to_owned(), key(3 * turn + 1, 2 * turn), Some(state)),
                ("state".to_owned(), key(3 * turn - 2, 2 * turn - 2), None),
                (
                    LOG.to_owned(),
                    [b"a", id.as_bytes()].concat(),
                    Some(Vec::new()),
                ),
            ]
        });
        learn(&database, &turns.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_pattern_is_written_for_any_session_and_turn() {
        let folder = tempfile::tempdir().unwrap();
        let pattern = sample(folder.path());
        assert_eq!(pattern.strides, [3, 2]);
        let keys: Vec<_> = pattern
            .rows
            .iter()
            .map(|row| row.key("x", 100, &pattern))
            .collect();
        let key = |cursor: u64, seq: u64| {
            [b"x", &[0][..], &cursor.to_be_bytes(), &seq.to_be_bytes()].concat()
        };
        let expected = [key(302, 209), key(301, 200), key(298, 198), b"ax".to_vec()];
        assert_eq!(keys, expected);

        let state = pattern.state().unwrap();
        assert_eq!(pattern.turn_of("x", &keys[1]), Some(100));
        let messages = ["new".to_owned(), "old".to_owned()];
        let value = state
            .value(|age| messages.get(age).map(String::as_str))
            .unwrap();
        let found = state.texts(&value);
        assert_eq!(found.len() as u64, KEPT);
        for (age, text) in found {
            let expected = messages.get(age).map_or("", String::as_str);
            assert_eq!(text.trim_ascii_end(), expected.as_bytes(), "{age}");
        }
        assert!(pattern.rows[2].value(|_| None).is_none());

        pattern.leave_in(folder.path()).unwrap();
        assert_eq!(Pattern::read_in(folder.path()), Ok(pattern));
    }
}
