//! Reads a whole family around what is damaged in it.
//!
//! Where a block cannot be read, RocksDB's iterator ends with an error, and does not tell which key is
//! the first behind the block. So that key is searched for: first among keys at which something may
//! begin anew (the first key of a session, the bounds of tables), then by halving what is in between.
//!
//! What is in between is not lost as a whole, since other tables have keys there too, and a search for
//! any of them ends at the damaged block. Those keys are read from a database without the damaged table,
//! and each of them is then looked up in the whole one, which tells its newest value, or that the damaged
//! block may have a newer one: an older value must not stand for one that cannot be read.

use std::collections::BTreeSet;

use crate::store::{
    StoreError,
    damage::{is_unnamed, unreadable_table_in},
    db::{Db, Keyspace},
};

/// A key behind all keys of a family.
const END: [u8; 48] = [0xff; 48];

/// How often what is in between is halved: that resolves keys that differ in their first 64 bytes after
/// what all of them begin with.
const HALVINGS_MAX: usize = 512;

/// A part of a family that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) family: Keyspace,
    /// RocksDB's error.
    pub(super) reason: String,
}

/// Why a family cannot be read, not even around the damage.
#[derive(Debug)]
pub(super) enum Blocked {
    /// A table has no part that can be read, or reading it keeps the others from being read.
    ByTable { number: u64, reason: String },
    /// A table cannot be opened, and the error does not say which.
    ByUnnamed { reason: String },
    /// Something else failed.
    Failed(StoreError),
}

impl From<StoreError> for Blocked {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Takes a key and its value.
type EachEntry<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// Calls a function with a database that lacks the table with that number, and those of earlier calls.
pub(super) type WithoutTable<'a> =
    dyn FnMut(u64, &mut dyn FnMut(&Db) -> Result<(), Blocked>) -> Result<(), Blocked> + 'a;

/// Calls `each` with all entries of a family that can be read, in order. `marks` returns keys, in order,
/// at which it may be readable again. Returns the parts that cannot be read.
pub(super) fn read_around<'m>(
    db: &Db,
    family: Keyspace,
    marks: &dyn Fn() -> Result<&'m [Vec<u8>], StoreError>,
    without: &mut WithoutTable<'_>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<Vec<Unreadable>, Blocked> {
    let mut unreadable = Vec::new();
    let mut entries = db.walk(family);
    // The last key that was passed.
    let mut last: Option<Vec<u8>> = None;
    entries.seek_to_first();
    loop {
        while let Some((key, value)) = entries.item() {
            each(key, value)?;
            let last = last.get_or_insert_default();
            last.clear();
            last.extend(key);
            entries.next();
        }
        let Err(error) = entries.status() else {
            return Ok(unreadable);
        };
        let reason = error.to_string();
        let Some(number) = unreadable_table_in(&reason) else {
            return Err(blocked(&error));
        };
        let good = end_of_gap(db, family, last.as_deref(), marks()?)?;
        let gap = Gap {
            db,
            family,
            after: last.as_deref(),
            until: &good,
        };
        gap.fill(number, without, &mut each)?;
        entries = db.walk(family);
        entries.seek(&good);
        last = Some(good);
        unreadable.push(Unreadable { family, reason });
    }
}

/// A range of keys at which the iterator over a whole database fails.
struct Gap<'a> {
    db: &'a Db,
    family: Keyspace,
    /// The last key before it, if there is one.
    after: Option<&'a [u8]>,
    /// The first key behind it.
    until: &'a [u8],
}

impl Gap<'_> {
    /// Calls `each` with the entries in the range whose newest values can be read. The table with the
    /// number `damaged` is what keeps the iterator from them.
    fn fill(
        &self,
        mut damaged: u64,
        without: &mut WithoutTable<'_>,
        each: &mut EachEntry<'_>,
    ) -> Result<(), Blocked> {
        let mut tried = BTreeSet::new();
        loop {
            match without(damaged, &mut |rest| self.read_from(rest, each)) {
                // Another one is damaged in the same range.
                Err(Blocked::ByTable { number, .. })
                    if tried.insert(damaged) && !tried.contains(&number) =>
                {
                    damaged = number;
                }
                read => return read,
            }
        }
    }

    fn read_from(&self, rest: &Db, each: &mut EachEntry<'_>) -> Result<(), Blocked> {
        let mut entries = rest.walk(self.family);
        match self.after {
            Some(after) => entries.seek([after, &[0]].concat()),
            None => entries.seek_to_first(),
        }
        while let Some(key) = entries.key()
            && key < self.until
        {
            // The error of a key in the damaged block is known already.
            if let Ok(Some(value)) = self.db.get(self.family, key) {
                each(key, &value)?;
            }
            entries.next();
        }
        entries.status().map_err(|error| blocked(&error))
    }
}

/// Fails if a table keeps a family from being read, even behind its last key.
pub(super) fn check_end(db: &Db, family: Keyspace) -> Result<(), Blocked> {
    is_readable_from(db, family, &END).map_err(|error| blocked(&error))
}

/// Returns the first key behind `last` from which on the family can be read, as far as keys are told
/// apart.
fn end_of_gap(
    db: &Db,
    family: Keyspace,
    last: Option<&[u8]>,
    marks: &[Vec<u8>],
) -> Result<Vec<u8>, Blocked> {
    let mut bad = last.unwrap_or_default().to_vec();
    let next = marks.partition_point(|mark| **mark <= *bad);
    let mut good = END.to_vec();
    for mark in &marks[next..] {
        if is_readable_from(db, family, mark).is_ok() {
            good.clone_from(mark);
            break;
        }
        bad.clone_from(mark);
    }
    for _ in 0..HALVINGS_MAX {
        let Some(middle) = between(&bad, &good) else {
            break;
        };
        match is_readable_from(db, family, &middle) {
            Ok(()) => good = middle,
            Err(_) => bad = middle,
        }
    }
    is_readable_from(db, family, &good).map_err(|error| blocked(&error))?;
    Ok(good)
}

/// Whether the first entry from `key` on can be read, or there is none. Asked of a new iterator: one that
/// has met a damaged block may fail behind it as well.
fn is_readable_from(db: &Db, family: Keyspace, key: &[u8]) -> Result<(), rocksdb::Error> {
    let mut entries = db.walk(family);
    entries.seek(key);
    entries.status()
}

fn blocked(error: &rocksdb::Error) -> Blocked {
    let reason = error.to_string();
    match unreadable_table_in(&reason) {
        Some(number) => Blocked::ByTable { number, reason },
        None if is_unnamed(&reason) => Blocked::ByUnnamed { reason },
        None => Blocked::Failed(StoreError::read(error)),
    }
}

/// Returns a key in the middle of two, as long as the longer one and a byte; none if there is no other
/// in between of that length.
fn between(low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    let length = low.len().max(high.len()) + 1;
    // Keys are long only where many begin alike, so the sum of two is halved byte by byte.
    let byte = |key: &[u8], at: usize| u16::from(key.get(at).copied().unwrap_or(0));
    let mut sum = vec![0_u16; length];
    let mut carry = 0;
    for at in (0..length).rev() {
        let both = byte(low, at) + byte(high, at) + carry;
        (sum[at], carry) = (both & 0xff, both >> 8);
    }
    let mut middle = Vec::with_capacity(length);
    for digit in sum {
        let value = carry << 8 | digit;
        middle.push((value >> 1) as u8);
        carry = value & 1;
    }
    (&middle[..] > low && &middle[..] < high).then_some(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between() {
        assert_eq!(between(b"a", b"c").unwrap()[0], b'b');
        assert_eq!(between(b"", &[2]).unwrap()[0], 1);
        let (mut low, mut high) = (b"session\0".to_vec(), b"session\x01".to_vec());
        let wanted = b"session\0\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x07".to_vec();
        for _ in 0..HALVINGS_MAX {
            let middle = between(&low, &high).unwrap();
            match middle >= wanted {
                true => high = middle,
                false => low = middle,
            }
        }
        assert!(high >= wanted && low < wanted);
        assert_eq!(high[..wanted.len()], wanted[..]);
        assert_eq!(between(b"a", b"a"), None);
    }
}
