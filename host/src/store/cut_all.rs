//! Begins a new timeline in sessions of which something is lost, or whose store was restored from a
//! backup: they wait for an operator, and their guests are told. Which sessions lost writes were about is
//! known by the trail of the group behind them. Where there is none they may have been the last ones
//! of any session: then all of them are cut.
//!
//! ```text
//!   format 2 --> one write: what was behind the damage, and the order to cut --> cut each session
//!                                                                                     |
//!                                     the order is deleted <--------------------------+
//! ```
//!
//! The order is stored with what it is about, so that a start that ends in between is continued by the
//! next one; a session that is cut twice for one loss waits all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::Ordering;

use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::domain::{
    CutCause, Identity, LogPos, Session, SessionId, Snapshot, TimelineName, UnixMillis,
};

use super::{
    Append, Durability, Store, StoreError, codec,
    counts::StoredCounts,
    db::{Db, Keyspace, Op},
    keys,
    recovery::{LostSessions, MissingWrites},
    trail::SessionChecksum,
};

/// How many sessions are cut between two syncs.
const CUT_TOGETHER: usize = 256;

/// The order to cut sessions, until it has been carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CutOrder {
    cause: CutCause,
    /// What is missing, for humans.
    detail: String,
    /// Those to cut, and what is missing of each; none for all, or for those of `checksums` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sessions: Option<BTreeMap<SessionId, String>>,
    /// Those to cut as well. A version that does not know the field cuts all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksums: Option<BTreeSet<SessionChecksum>>,
}

/// The sessions to cut.
struct Concerned {
    ids: Vec<SessionId>,
    /// How many the order names that the store does not have.
    unknown: usize,
}

impl CutOrder {
    /// The sessions that lost writes were about, whose loss was accepted.
    pub(super) fn accepted(missing: &MissingWrites) -> Self {
        Self::lost(CutCause::AcceptedLoss, missing)
    }

    /// The sessions that lost writes were about, in a store that was salvaged without them.
    pub(super) fn damaged(missing: &MissingWrites) -> Self {
        Self::lost(CutCause::Salvage, missing)
    }

    /// The sessions of which a salvage could not read everything, each with what is missing.
    pub(super) fn salvaged(sessions: BTreeMap<SessionId, String>) -> Self {
        Self {
            cause: CutCause::Salvage,
            detail: "a part of the store could not be read".to_owned(),
            sessions: Some(sessions),
            checksums: None,
        }
    }

    /// Adds sessions of which a salvage could not read everything, unless all are cut anyway.
    pub(super) fn and(mut self, sessions: BTreeMap<SessionId, String>) -> Self {
        if !self.is_of_all() {
            self.sessions.get_or_insert_default().extend(sessions);
        }
        self
    }

    fn is_of_all(&self) -> bool {
        self.sessions.is_none() && self.checksums.is_none()
    }

    fn lost(cause: CutCause, missing: &MissingWrites) -> Self {
        Self {
            cause,
            detail: match missing.operations {
                0 => "the last operations of the store may be missing".to_owned(),
                least => format!("at least {least} operations of the store are missing"),
            },
            sessions: None,
            checksums: match &missing.sessions {
                LostSessions::Any => None,
                LostSessions::These(checksums) => Some(checksums.clone()),
            },
        }
    }

    /// Returns what is missing of a session.
    fn detail_of(&self, id: &SessionId) -> &str {
        let own = self.sessions.as_ref().and_then(|sessions| sessions.get(id));
        own.map_or(&self.detail, String::as_str)
    }

    /// The order for a restored store; `missing` is what the restored files lack, which was accepted.
    pub(super) fn restored(what: &str, missing: Option<&MissingWrites>) -> Self {
        let mut detail = what.to_owned();
        if let Some(missing) = missing {
            let operations = missing.operations;
            detail.push_str(&format!(
                "; at least {operations} operations of it are missing"
            ));
        }
        Self {
            cause: CutCause::Restore,
            detail,
            sessions: None,
            checksums: None,
        }
    }

    pub(super) fn read(db: &Db) -> Result<Option<Self>, StoreError> {
        let found = db.get(Keyspace::Meta, keys::CUT_ORDER)?;
        let order = found.map(|bytes| codec::decode("the order to cut all sessions", &bytes));
        order.transpose()
    }

    /// Returns the sessions of the store that are to be cut.
    fn concerned(&self, db: &Db) -> Result<Concerned, StoreError> {
        let (sessions, checksums) = (&self.sessions, &self.checksums);
        let mut unknown = checksums.clone().unwrap_or_default();
        let ids = match (sessions, checksums) {
            (Some(sessions), None) => sessions.keys().cloned().collect(),
            _ => sessions_where(db, |id| {
                let checksum = SessionChecksum::of(id);
                unknown.remove(&checksum);
                let is_named = sessions
                    .as_ref()
                    .is_some_and(|named| named.contains_key(id));
                let is_meant = checksums
                    .as_ref()
                    .is_some_and(|meant| meant.contains(&checksum));
                self.is_of_all() || is_named || is_meant
            })?,
        };
        let unknown = unknown.len();
        Ok(Concerned { ids, unknown })
    }

    /// Returns the operation that stores the order.
    pub(super) fn op(&self) -> Result<Op, StoreError> {
        let bytes = codec::encode("the order to cut all sessions", self)?;
        Ok(Op::Put(Keyspace::Meta, keys::CUT_ORDER.to_vec(), bytes))
    }
}

/// Carries out the order. Waits for the disk.
pub(super) fn cut_all(store: &Store, order: &CutOrder) -> Result<(), StoreError> {
    let Concerned { ids, unknown } = store.core().read(|db| order.concerned(db))?;
    stand_in(store, &ids)?;
    let (mut cut, mut damaged) = (0_u64, 0_u64);
    for ids in ids.chunks(CUT_TOGETHER) {
        let mut cutting = Vec::new();
        for id in ids {
            match store.cut(id, order) {
                Ok(Some(cut)) => cutting.push((id, cut)),
                Ok(None) => {}
                Err(error) => {
                    damaged += 1;
                    tracing::error!("session `{id}` is damaged: {error}");
                }
            }
        }
        for (id, (appended, hole)) in cutting {
            block_on(appended)?;
            cut += 1;
            if !order.is_of_all() {
                let detail = order.detail_of(id);
                tracing::error!("session `{id}` was cut: {detail}");
            }
            if hole.is_some() {
                tracing::error!("session `{id}` has a gap in its history; older events are gone");
            }
        }
    }
    let done = Op::Delete(Keyspace::Meta, keys::CUT_ORDER.to_vec());
    store.write_meta_blocking(vec![done])?;
    if unknown > 0 {
        tracing::error!(
            "{unknown} sessions are gone with their names: they were created in what is missing"
        );
    }
    tracing::error!(
        cut,
        damaged,
        "{}: {} wait for `abide resume`, and each is told of it",
        order.detail,
        match order.is_of_all() {
            true => "all sessions",
            false => "the sessions concerned",
        }
    );
    Ok(())
}

/// Stores an identity for each of the sessions whose own is among what is lost, with the record that
/// created them: else none of them could be read, or listed.
fn stand_in(store: &Store, ids: &[SessionId]) -> Result<(), StoreError> {
    let mut ops = Vec::new();
    store.core().read(|db| {
        for id in ids {
            if db.has(Keyspace::Sessions, &keys::identity(id))? {
                continue;
            }
            let plugin = plugin_of(db, id)?.unwrap_or_else(|| Identity::UNKNOWN_PLUGIN.to_owned());
            tracing::error!(
                "session `{id}` was created in what is missing: its arguments and labels are gone"
            );
            let bytes = codec::encode("a session's identity", &Identity::nameless(&plugin))?;
            ops.push(Op::Put(Keyspace::Sessions, keys::identity(id), bytes));
        }
        Ok(())
    })?;
    if ops.is_empty() {
        return Ok(());
    }
    // They may not have been counted, either.
    let core = store.core();
    let counts = StoredCounts {
        created: core.read(|db| sessions_where(db, |_| true))?.len() as u64,
        closed: core.closed.load(Ordering::Relaxed),
    };
    let bytes = codec::encode("the count of sessions", &counts)?;
    ops.push(Op::Put(Keyspace::Meta, keys::COUNTS.to_vec(), bytes));
    store.write_meta_blocking(ops)?;
    core.created.store(counts.created, Ordering::Relaxed);
    Ok(())
}

/// Returns the plugin that a session's latest snapshot names.
fn plugin_of(db: &Db, id: &SessionId) -> Result<Option<String>, StoreError> {
    let mut plugin = None;
    let (first, bound) = keys::all_of(id);
    db.scan(Keyspace::Snapshots, &first, &bound, |_, value| {
        plugin = Snapshot::decode_any(value)
            .ok()
            .map(|it| it.plugin)
            .or(plugin.take());
        Ok(true)
    })?;
    Ok(plugin)
}

/// An append that is queued, and where the session's log continues behind a gap.
type Appended = (
    Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>,
    Option<LogPos>,
);

impl Store {
    /// Begins a new timeline in a session: none if it is closed. What is before a gap in its log is
    /// given up.
    fn cut(&self, id: &SessionId, order: &CutOrder) -> Result<Option<Appended>, StoreError> {
        let (Some(session), mut tail) = self.load_to_append(id)? else {
            return Ok(None);
        };
        let timeline = TimelineName::draw(rand::random());
        let mut records = session.cut(
            timeline,
            order.cause,
            order.detail_of(id),
            UnixMillis::now(),
        );
        if records.is_empty() {
            return Ok(None);
        }
        if !self.core().read(|db| has_message(db, id, &session))? {
            // It may be among what was lost, and cannot be buried then: the turn stays open, behind
            // the cut, and the session is faulted when it is resumed.
            records.truncate(1);
        }
        let mut after = session;
        let placed = records.into_iter();
        let records = placed
            .map(|record| (after.apply(&record), record))
            .collect();
        let oldest = tail.oldest();
        let hole = self.core().read(|db| behind_hole(db, id, oldest))?;
        tail.give_up_before(hole);
        let append = Append {
            id: id.clone(),
            history: Vec::new(),
            records,
            after: &after,
            snapshot: None,
            act: None,
            durability: Durability::Lazy,
        };
        Ok(Some((Box::pin(self.append(&mut tail, append)), hole)))
    }
}

/// Whether the message of the open turn is in the log; true if no turn is open.
fn has_message(db: &Db, id: &SessionId, session: &Session) -> Result<bool, StoreError> {
    let Some(open) = &session.progress.open else {
        return Ok(true);
    };
    let key = keys::position(id, open.queued.pos);
    Ok(db.get(Keyspace::Log, &key)?.is_some())
}

/// Returns the sessions that are wanted, in the order of their ids.
fn sessions_where(
    db: &Db,
    mut is_wanted: impl FnMut(&SessionId) -> bool,
) -> Result<Vec<SessionId>, StoreError> {
    let mut ids: Vec<SessionId> = Vec::new();
    db.scan(Keyspace::Sessions, &[], &[0xff], |key, _| {
        if key.ends_with(b"p")
            && let Some(id) = keys::session_of(key)
            && is_wanted(&id)
        {
            ids.push(id);
        }
        Ok(true)
    })?;
    Ok(ids)
}

/// Returns the position behind the last gap in a session's log, whose first record that counts is at
/// `oldest`: none if it has none.
fn behind_hole(db: &Db, id: &SessionId, oldest: LogPos) -> Result<Option<LogPos>, StoreError> {
    let (mut hole, mut last) = (None, None::<LogPos>);
    let (first, bound) = keys::all_of(id);
    db.scan(Keyspace::Log, &first, &bound, |key, _| {
        if let Some(at) = keys::position_of(key) {
            let follows = match last {
                Some(last) => at.seq == last.seq + 1,
                None => at.seq <= oldest.seq,
            };
            if !follows {
                hole = Some(at);
            }
            last = Some(at);
        }
        Ok(true)
    })?;
    Ok(hole)
}
