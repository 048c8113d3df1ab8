//! Begins a new timeline in every open session, after a loss that an operator has accepted, or in a
//! store that was restored from a backup. Which sessions the lost writes belonged to cannot be told:
//! they may have been the last ones of any. So all of them wait for an operator, and all guests are
//! told.
//!
//! ```text
//!   format 2 --> one write: what was behind the damage, and the order to cut --> cut each session
//!                                                                                     |
//!                                     the order is deleted <--------------------------+
//! ```
//!
//! The order is stored with what it is about, so that a start that ends in between is continued by the
//! next one; a session that is cut twice for one loss waits all the same.

use std::collections::HashMap;
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

/// The order to cut all sessions, until it has been carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CutOrder {
    cause: CutCause,
    /// What is missing, for humans.
    detail: String,
}

impl CutOrder {
    pub(super) fn accepted(missing: &MissingWrites) -> Self {
        Self {
            cause: CutCause::AcceptedLoss,
            detail: format!(
                "at least {} operations of the store are missing",
                missing.operations
            ),
        }
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
    let holes = store.core().read(holes)?;
    let ids = store.core().read(sessions)?;
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
            if holes.contains_key(id) {
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
        "{}: all sessions wait for `abide resume`, and each is told of it",
        order.detail
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
        let mut records = session.cut(timeline, order.cause, &order.detail, UnixMillis::now());
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
