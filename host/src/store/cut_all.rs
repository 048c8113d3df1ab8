//! Begins a new timeline in sessions of which something is lost, or whose store was restored from a
//! backup. Which sessions writes belonged to that
//! are lost as a whole cannot be told: they may have been the last ones of any. Then all of them wait
//! for an operator, and all guests are told; else only those that a salvage has named.
//!
//! ```text
//!   format 2 --> one write: what was behind the damage, and the order to cut --> cut each session
//!                                                                                     |
//!                                     the order is deleted <--------------------------+
//! ```
//!
//! The order is stored with what it is about, so that a start that ends in between is continued by the
//! next one; a session that is cut twice for one loss waits all the same.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::domain::{CutCause, LogPos, Session, SessionId, TimelineName, UnixMillis};

use super::{
    Append, Durability, Store, StoreError, codec,
    db::{Db, Keyspace, Op},
    keys,
    queue::{Write, WriteWaiter, WriterJob},
    recovery::MissingWrites,
};

/// How many sessions are cut between two syncs.
const CUT_TOGETHER: usize = 256;

/// The order to cut sessions, until it has been carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CutOrder {
    cause: CutCause,
    /// What is missing, for humans.
    detail: String,
    /// Those to cut, and what is missing of each; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sessions: Option<BTreeMap<SessionId, String>>,
}

impl CutOrder {
    pub(super) fn accepted(missing: &MissingWrites) -> Self {
        Self::all(CutCause::AcceptedLoss, missing)
    }

    /// All sessions of a store that was salvaged without what is missing.
    pub(super) fn damaged(missing: &MissingWrites) -> Self {
        Self::all(CutCause::Salvage, missing)
    }

    /// The sessions of which a salvage could not read everything, each with what is missing.
    pub(super) fn salvaged(sessions: BTreeMap<SessionId, String>) -> Self {
        Self {
            cause: CutCause::Salvage,
            detail: "a part of the store could not be read".to_owned(),
            sessions: Some(sessions),
        }
    }

    fn all(cause: CutCause, missing: &MissingWrites) -> Self {
        Self {
            cause,
            detail: format!(
                "at least {} operations of the store are missing",
                missing.operations
            ),
            sessions: None,
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
        }
    }

    pub(super) fn read(db: &Db) -> Result<Option<Self>, StoreError> {
        let found = db.get(Keyspace::Meta, keys::CUT_ORDER)?;
        let order = found.map(|bytes| codec::decode("the order to cut all sessions", &bytes));
        order.transpose()
    }

    /// Returns the operation that stores the order.
    pub(super) fn op(&self) -> Result<Op, StoreError> {
        let bytes = codec::encode("the order to cut all sessions", self)?;
        Ok(Op::Put(Keyspace::Meta, keys::CUT_ORDER.to_vec(), bytes))
    }
}

/// Carries out the order. Waits for the disk.
pub(super) fn cut_all(store: &Store, order: &CutOrder) -> Result<(), StoreError> {
    let (holes, ids) = match &order.sessions {
        // A salvage leaves no holes.
        Some(sessions) => (HashMap::new(), sessions.keys().cloned().collect()),
        None => (store.core().read(holes)?, store.core().read(sessions)?),
    };
    let (mut cut, mut damaged) = (0_u64, 0_u64);
    for ids in ids.chunks(CUT_TOGETHER) {
        let mut cutting = Vec::new();
        for id in ids {
            match store.cut(id, order, holes.get(id).copied()) {
                Ok(Some(appended)) => cutting.push((id, appended)),
                Ok(None) => {}
                Err(error) => {
                    damaged += 1;
                    tracing::error!("session `{id}` is damaged: {error}");
                }
            }
        }
        for (id, appended) in cutting {
            block_on(appended)?;
            cut += 1;
            if order.sessions.is_some() {
                let detail = order.detail_of(id);
                tracing::error!("session `{id}` was cut: {detail}");
            } else if holes.contains_key(id) {
                tracing::error!("session `{id}` has a gap in its history; older events are gone");
            }
        }
    }
    let (done, outcome) = sync_channel(1);
    store.core().push(WriterJob::Write(Write {
        session: None,
        ops: vec![Op::Delete(Keyspace::Meta, keys::CUT_ORDER.to_vec())],
        created: 0,
        closed: 0,
        due: Instant::now(),
        done: WriteWaiter::Thread(done),
    }))?;
    outcome.recv().unwrap_or(Err(StoreError::Closed))?;
    tracing::error!(
        cut,
        damaged,
        "{}: {} wait for `abide resume`, and each is told of it",
        order.detail,
        match &order.sessions {
            None => "all sessions",
            Some(_) => "the sessions concerned",
        }
    );
    Ok(())
}

/// An append that is queued.
type Appended = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

impl Store {
    /// Begins a new timeline in a session: none if it is closed. `hole` is where its log continues
    /// behind a gap: what is before that is given up.
    fn cut(
        &self,
        id: &SessionId,
        order: &CutOrder,
        hole: Option<LogPos>,
    ) -> Result<Option<Appended>, StoreError> {
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
        tail.give_up_before(hole);
        let append = Append {
            id: id.clone(),
            records,
            after: &after,
            snapshot: None,
            durability: Durability::Lazy,
        };
        Ok(Some(Box::pin(self.append(&mut tail, append))))
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

/// Returns all sessions in the order of their ids.
fn sessions(db: &Db) -> Result<Vec<SessionId>, StoreError> {
    let mut ids: Vec<SessionId> = Vec::new();
    db.scan(Keyspace::Sessions, &[], &[0xff], |key, _| {
        if key.ends_with(b"p")
            && let Some(id) = keys::session_of(key)
        {
            ids.push(id);
        }
        Ok(true)
    })?;
    Ok(ids)
}

/// Returns the sessions whose logs have gaps, each with the position behind its last gap.
fn holes(db: &Db) -> Result<HashMap<SessionId, LogPos>, StoreError> {
    let mut holes = HashMap::new();
    let mut last: Option<(SessionId, LogPos)> = None;
    db.scan(Keyspace::Log, &[], &[0xff], |key, _| {
        let (Some(id), Some(at)) = (keys::session_of(key), keys::position_of(key)) else {
            return Ok(true);
        };
        if let Some((before, stood)) = &last
            && *before == id
            && at.seq != stood.seq + 1
        {
            holes.insert(id.clone(), at);
        }
        last = Some((id, at));
        Ok(true)
    })?;
    Ok(holes)
}
