//! Copies what can be read of a database into a new one.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use crate::domain::SessionId;
use crate::store::{
    StoreError,
    db::{Db, Keyspace, Op},
    keys::{self, kind},
};

use super::around::{Blocked, Unreadable, WithoutTable, read_around};

/// How much is written at once, in bytes.
const WRITE_BYTES: usize = 1 << 20;

/// What was copied.
#[derive(Debug, Default)]
pub(super) struct CopiedStore {
    pub(super) unreadable: Vec<Unreadable>,
    /// All sessions of which anything was found.
    pub(super) ids: BTreeSet<SessionId>,
    pub(super) bytes: u64,
}

/// Copies all families. `without` makes the same database without damaged tables. `tell` is told of the
/// bytes so far.
pub(super) fn copy(
    from: &Db,
    to: Option<&Db>,
    without: &mut WithoutTable<'_>,
    tell: &mut dyn FnMut(u64),
) -> Result<CopiedStore, Blocked> {
    let mut copied = CopiedStore::default();
    // The names of the sessions first: they show where it is readable again in the others.
    for family in [
        Keyspace::Sessions,
        Keyspace::Log,
        Keyspace::Snapshots,
        Keyspace::Index,
        Keyspace::Meta,
    ] {
        copy_family(from, to, family, &mut copied, without, tell)?;
    }
    Ok(copied)
}

fn copy_family(
    from: &Db,
    to: Option<&Db>,
    family: Keyspace,
    copied: &mut CopiedStore,
    without: &mut WithoutTable<'_>,
    tell: &mut dyn FnMut(u64),
) -> Result<(), Blocked> {
    let mut ids = BTreeSet::new();
    let mut last: Option<SessionId> = None;
    let mut bytes = copied.bytes;
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    let marks = Marks {
        db: from,
        family,
        ids: &copied.ids,
        keys: OnceCell::new(),
    };
    let unreadable = read_around(from, family, &|| marks.keys(), without, |key, value| {
        let id = match family {
            Keyspace::Sessions | Keyspace::Log | Keyspace::Snapshots => keys::session_of(key),
            Keyspace::Index if key.first() == Some(&kind::QUEUED) => keys::session_of(&key[1..]),
            Keyspace::Index | Keyspace::Meta => None,
        };
        if id.is_some() && id != last {
            ids.extend(id.clone());
            last = id;
        }
        let length = key.len() + value.len();
        bytes += length as u64;
        let Some(to) = to else {
            return Ok(());
        };
        batch.push(Op::Put(family, key.to_owned(), value.to_owned()));
        batch_bytes += length;
        if batch_bytes >= WRITE_BYTES {
            to.write_unlogged(&batch)?;
            batch.clear();
            batch_bytes = 0;
            tell(bytes);
        }
        Ok(())
    })?;
    if let Some(to) = to {
        to.write_unlogged(&batch)?;
    }
    copied.unreadable.extend(unreadable);
    copied.ids.extend(ids);
    copied.bytes = bytes;
    tell(bytes);
    Ok(())
}

/// The keys of a family at which it may be readable again.
struct Marks<'a> {
    db: &'a Db,
    family: Keyspace,
    ids: &'a BTreeSet<SessionId>,
    keys: OnceCell<Vec<Vec<u8>>>,
}

impl Marks<'_> {
    fn keys(&self) -> Result<&[Vec<u8>], StoreError> {
        if let Some(keys) = self.keys.get() {
            return Ok(keys);
        }
        let mut marks = self.db.table_bounds(self.family)?;
        match self.family {
            Keyspace::Sessions | Keyspace::Log | Keyspace::Snapshots => {
                for id in self.ids {
                    let (first, bound) = keys::all_of(id);
                    marks.extend([first, bound]);
                }
            }
            Keyspace::Index => {
                for kind in kind::ALL {
                    marks.push(vec![kind]);
                    marks.extend(self.ids.iter().map(|id| keys::all_of_in(kind, id).0));
                }
            }
            Keyspace::Meta => {
                marks.extend(keys::META_KINDS.map(|kind| vec![kind]));
            }
        }
        marks.sort();
        marks.dedup();
        Ok(self.keys.get_or_init(|| marks))
    }
}
