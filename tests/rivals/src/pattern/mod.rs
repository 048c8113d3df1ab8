//! What one of Abide's turns writes: read from the write-ahead log of a daemon that had some, so
//! that bare RocksDB can be given the same keys and bytes, and the same options.
//!
//! Keys hold the session's id; behind it may stand numbers, of which each grows by the same in every
//! turn.
//! Values hold the texts of the session's last messages. All else is written as it was.

mod learn;
mod observe;

use std::path::{Path, PathBuf};

use rocksdb::{Cache, ColumnFamilyDescriptor, Env, Options};
use serde::{Deserialize, Serialize};

use crate::chat::{TEXT_BYTES, name};

pub(crate) use observe::observe;

/// Where a server finds the pattern in its folder.
const FILE: &str = "pattern.json";
/// What one turn writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pattern {
    /// A database of RocksDB; its options are to be used.
    like: PathBuf,
    /// By how much the first and the second number of a key grow in a turn.
    strides: [u64; 2],
    pub(crate) rows: Vec<Row>,
}

/// A key that is set or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Its column family.
    pub(crate) family: String,
    key: Key,
    /// What it is set to; none removes it.
    value: Option<Value>,
}

/// A key: what stands before the id and behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    before: Vec<u8>,
    /// What ends the id, where numbers follow.
    end: Option<u8>,
    /// What is to be added to the turn's share of each.
    numbers: Vec<i64>,
    behind: Vec<u8>,
}

/// A value, and where in it which of the last messages stands: 0 is the turn's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Value {
    bytes: Vec<u8>,
    texts: Vec<(usize, usize)>,
}

impl Pattern {
    /// Leaves the pattern in a server's folder.
    pub(crate) fn leave_in(&self, folder: &Path) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        std::fs::write(folder.join(FILE), text)
            .map_err(|error| format!("{}: {error}", folder.display()))
    }

    /// Reads the pattern that was left in a folder.
    pub(crate) fn read_in(folder: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(folder.join(FILE)).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// The options of the database that it was read from.
    pub(crate) fn options(&self) -> Result<(Options, Vec<ColumnFamilyDescriptor>), String> {
        options_of(&self.like)
    }

    /// How many bytes it is, keys and values.
    pub(crate) fn bytes(&self) -> usize {
        let sizes = self.rows.iter().map(|row| {
            let key = row.key(&name(0), 0, self).len();
            key + row.value.as_ref().map_or(0, |value| value.bytes.len())
        });
        sizes.sum()
    }

    /// The row whose value holds all messages that a session keeps.
    pub(crate) fn state(&self) -> Option<&Row> {
        let texts = |row: &&Row| row.value.as_ref().map_or(0, |value| value.texts.len());
        self.rows.iter().max_by_key(texts)
    }

    /// The turn to which a key of [`Self::state`]'s belongs, in a session of that id.
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
    /// Its key in a session's turn.
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

    /// What it is set to where these are the last messages, the turn's own last.
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

    /// The texts in such a value, with their ages.
    pub(crate) fn texts<'a>(&self, bytes: &'a [u8]) -> Vec<(usize, &'a [u8])> {
        let texts = self.value.iter().flat_map(|value| &value.texts);
        let texts = texts.filter_map(|(at, age)| Some((*age, bytes.get(*at..*at + TEXT_BYTES)?)));
        texts.collect()
    }
}

fn options_of(database: &Path) -> Result<(Options, Vec<ColumnFamilyDescriptor>), String> {
    let env = Env::new().map_err(|error| error.to_string())?;
    // As large as the daemon's is by default.
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

    /// A pattern of turns with a record, a state and a marker, whose database is in the folder.
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
        // Records are counted by two, states among them.
        let turns = (1..=TURNS).map(|turn| {
            let said = (turn.saturating_sub(KEPT - 1).max(1)..=turn).map(|message| {
                let mut text = String::new();
                texts.write(0, message, &mut text);
                text + ";"
            });
            let state = said.collect::<String>().into_bytes();
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
        let said = ["new".to_owned(), "old".to_owned()];
        let value = state
            .value(|age| said.get(age).map(String::as_str))
            .unwrap();
        let found = state.texts(&value);
        assert_eq!(found.len() as u64, KEPT);
        for (age, text) in found {
            let expected = said.get(age).map_or("", String::as_str);
            assert_eq!(text.trim_ascii_end(), expected.as_bytes(), "{age}");
        }
        assert!(pattern.rows[2].value(|_| None).is_none());

        pattern.leave_in(folder.path()).unwrap();
        assert_eq!(Pattern::read_in(folder.path()), Ok(pattern));
    }
}
