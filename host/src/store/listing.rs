//! Reading many sessions: lists, projections, counts. None of it reads a session's log.

use std::{
    collections::HashSet,
    sync::{atomic::Ordering, mpsc::sync_channel},
};

use serde::{Deserialize, Serialize};

use crate::domain::{
    Approval, Identity, SessionId, SessionProgress, SessionView, Timer, UnixMillis,
};

use super::{
    Store, StoreError,
    codec::{self, Kept},
    db::{Db, Keyspace},
    keys::{self, kind},
    queue::WriterJob,
    read::kept,
};

/// A session as lists need it.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// Who it is.
    pub identity: Identity,
    /// Where it stands.
    pub progress: SessionProgress,
    /// Messages that wait.
    pub queued: u64,
}

impl SessionSummary {
    /// As clients see it.
    pub fn view(&self) -> SessionView {
        SessionView::of(self.id.clone(), &self.identity, &self.progress, self.queued)
    }
}

/// How many sessions there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Created and not closed.
    pub open: u64,
    /// Of these, those that cannot run until somebody acts.
    pub faulted: u64,
    /// Of these, those whose turn waits for a human.
    pub parked: u64,
    /// Closed.
    pub closed: u64,
}

/// [`Counts`] as they are stored.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct StoredCounts {
    /// Sessions ever created.
    pub created: u64,
    /// Of these, those that were closed.
    pub closed: u64,
}

impl Store {
    /// Sessions in the order of their ids, from behind `after`; closed ones too.
    pub fn list(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        // Ids begin above 0x1f; what stands behind the last of them begins with 0xff, as no UTF-8.
        let first = after.map_or_else(Vec::new, |after| keys::all_of(after).1);
        let mut list: Vec<SessionSummary> = Vec::new();
        let mut identity: Option<(SessionId, Identity)> = None;
        self.core().read(|db| {
            db.scan(Keyspace::Sessions, &first, &[0xff], |key, value| {
                if list.len() == limit {
                    return Ok(false);
                }
                let what = "a session in the list";
                let id = keys::session_of(key)
                    .ok_or_else(|| codec::corrupt(what, "its key holds no id"))?;
                if key.ends_with(b"i") {
                    identity = Some((id, codec::decode(what, value)?));
                    return Ok(true);
                }
                let kept: Kept = codec::decode(what, value)?;
                match identity.take() {
                    Some((of, identity)) if of == id => list.push(SessionSummary {
                        id,
                        identity,
                        progress: kept.progress,
                        queued: kept.queued,
                    }),
                    _ => return Err(codec::corrupt(what, format!("`{id}` has no identity"))),
                }
                Ok(true)
            })
        })?;
        Ok(list)
    }

    /// All sessions that have an open turn or queued messages, and of the others that committed a
    /// turn since about `since` (to ten minutes) at most `others_max`, the latest first: all that
    /// a start has to look at, however many are stored.
    pub fn active(
        &self,
        since: UnixMillis,
        others_max: usize,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.core().read(|db| {
            let mut ids = marked(db, kind::ACTIVE)?;
            let mut known: HashSet<SessionId> = ids.iter().cloned().collect();
            let most = known.len().saturating_add(others_max);
            let first = keys::recent_bound(keys::span(since));
            let (_, bound) = keys::all_of_kind(kind::RECENT);
            let mut entries = db.range(Keyspace::Index, &first, &bound);
            entries.seek_to_last();
            while let Some(key) = entries.key()
                && known.len() < most
            {
                let id = keys::recent_of(key);
                let id = id.ok_or_else(|| codec::corrupt("a commit's key", "it holds no id"))?;
                if known.insert(id.clone()) {
                    ids.push(id);
                }
                entries.prev();
            }
            entries.status().map_err(|error| StoreError::read(&error))?;
            Ok(ids)
        })
    }

    /// Forgets who committed a turn long before `older_than`, and markers of work that is done,
    /// which stores of earlier versions hold. Waits for the disk.
    pub fn prune_active(&self, older_than: UnixMillis) -> Result<(), StoreError> {
        let candidates = self.core().read(|db| {
            let mut idle = Vec::new();
            for id in marked(db, kind::ACTIVE)? {
                if is_idle(db, &id)? {
                    idle.push(id);
                }
            }
            Ok(idle)
        })?;
        if candidates.is_empty() && !self.remembers_before(older_than)? {
            return Ok(());
        }
        let (done, told) = sync_channel(1);
        self.core().push(WriterJob::Prune {
            candidates,
            older_than,
            done,
        })?;
        told.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn remembers_before(&self, older_than: UnixMillis) -> Result<bool, StoreError> {
        let (first, _) = keys::all_of_kind(kind::RECENT);
        let bound = keys::recent_bound(keys::span(older_than));
        self.core().read(|db| {
            let mut entries = db.range(Keyspace::Index, &first, &bound);
            entries.seek_to_first();
            entries.status().map_err(|error| StoreError::read(&error))?;
            Ok(entries.valid())
        })
    }

    /// Sessions that cannot run until somebody acts, in the order of their ids.
    pub fn faulted(&self) -> Result<Vec<SessionId>, StoreError> {
        self.core().read(|db| marked(db, kind::FAULTED))
    }

    /// The approvals that wait, session by session in the order of their ids, from behind the session
    /// `after`; those of at most `limit` sessions, and whether there may be more. Reads the parked
    /// sessions of the page and no others.
    pub fn approvals(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<(Vec<Approval>, Option<SessionId>), StoreError> {
        let (first, bound) = keys::all_of_kind(kind::PARKED);
        // A marker is an id and nothing more: what is behind it begins with it and goes on.
        let first = after.map_or(first, |after| {
            let mut key = keys::marker(kind::PARKED, after);
            key.push(0);
            key
        });
        self.core().read(|db| {
            let (mut ids, mut more) = (Vec::new(), false);
            db.scan(Keyspace::Index, &first, &bound, |key, _| {
                more = ids.len() == limit;
                if more {
                    return Ok(false);
                }
                let id = keys::marked(key);
                ids.push(id.ok_or_else(|| codec::corrupt("a marker", "its key holds no id"))?);
                Ok(true)
            })?;
            let mut waiting = Vec::new();
            for id in &ids {
                if let Some(kept) = kept(db, id)? {
                    waiting.extend(kept.progress.waiting().cloned());
                }
            }
            Ok((waiting, ids.pop().filter(|_| more)))
        })
    }

    /// Sessions that are marked as having work, and neither are faulted nor wait for a human: so far
    /// as the store knows, turns of theirs should run. A marker may be left from an earlier version; [`Store::load`] knows.
    pub fn should_run(&self) -> Result<Vec<SessionId>, StoreError> {
        self.core().read(|db| {
            let mut ids = marked(db, kind::ACTIVE)?;
            let faulted: HashSet<SessionId> = marked(db, kind::FAULTED)?.into_iter().collect();
            let parked: HashSet<SessionId> = marked(db, kind::PARKED)?.into_iter().collect();
            ids.retain(|id| !faulted.contains(id) && !parked.contains(id));
            Ok(ids)
        })
    }

    /// Timers that are due at `until`, the earliest first, but for those of some sessions.
    pub fn timers_due(
        &self,
        until: UnixMillis,
        limit: usize,
        except: &HashSet<SessionId>,
    ) -> Result<Vec<(SessionId, Timer)>, StoreError> {
        let mut due = Vec::new();
        self.each_timer(|id, timer| {
            let go_on = timer.due <= until && due.len() < limit;
            if go_on && !except.contains(&id) {
                due.push((id, timer));
            }
            go_on
        })?;
        Ok(due)
    }

    /// When the earliest timer of all is due.
    pub fn next_timer(&self) -> Result<Option<UnixMillis>, StoreError> {
        let mut next = None;
        self.each_timer(|_, timer| {
            next = Some(timer.due);
            false
        })?;
        Ok(next)
    }

    /// How many sessions there are. Reads the faulted ones' ids and nothing else.
    pub fn counts(&self) -> Result<SessionCounts, StoreError> {
        let faulted = self.faulted()?.len() as u64;
        let parked = self.core().read(|db| marked(db, kind::PARKED))?.len() as u64;
        let closed = self.core().closed.load(Ordering::Relaxed);
        let created = self.core().created.load(Ordering::Relaxed);
        Ok(SessionCounts {
            open: created.saturating_sub(closed),
            faulted,
            parked,
            closed,
        })
    }

    /// All timers, the earliest first, until `each` returns false.
    fn each_timer(&self, mut each: impl FnMut(SessionId, Timer) -> bool) -> Result<(), StoreError> {
        let (first, bound) = keys::all_of_kind(kind::TIMER);
        self.core().read(|db| {
            db.scan(Keyspace::Index, &first, &bound, |key, value| {
                let (_, id) = keys::timer_of(key)
                    .ok_or_else(|| codec::corrupt("a timer", "its key holds no id"))?;
                Ok(each(id, codec::decode("a timer", value)?))
            })
        })
    }
}

/// The ids under the markers of a kind, in order.
fn marked(db: &Db, kind: u8) -> Result<Vec<SessionId>, StoreError> {
    let (first, bound) = keys::all_of_kind(kind);
    let mut ids = Vec::new();
    db.scan(Keyspace::Index, &first, &bound, |key, _| {
        let id = keys::marked(key);
        ids.push(id.ok_or_else(|| codec::corrupt("a marker", "its key holds no id"))?);
        Ok(true)
    })?;
    Ok(ids)
}

/// Whether a session has no work.
pub(super) fn is_idle(db: &Db, id: &SessionId) -> Result<bool, StoreError> {
    let kept = kept(db, id)?;
    Ok(kept.is_none_or(|kept| kept.progress.open.is_none() && kept.queued == 0))
}
