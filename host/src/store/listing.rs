//! Reading many sessions: lists, projections and counts. None of these reads a session's log.

use std::{
    collections::HashSet,
    sync::{atomic::Ordering, mpsc::sync_channel},
};

use crate::domain::{
    Approval, Digest, Identity, Patterns, SessionId, SessionProgress, SessionView, Timer,
    UnixMillis,
};

use super::{
    Store, StoreError, codec,
    counts::SessionCounts,
    db::{Db, Keyspace},
    kept::{Kept, is_idle, kept},
    keys::{self, kind},
    queue::WriterJob,
};

/// The maximum number of parked sessions that one page of approvals reads.
const PARKED_READ_MAX: usize = 10_000;

/// A session's entry in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSummary {
    pub id: SessionId,
    pub identity: Identity,
    pub progress: SessionProgress,
    /// The number of queued messages.
    pub queued: u64,
    /// The components, beside that of the present snapshot, that its restore points need.
    pub components: Vec<Digest>,
}

impl SessionSummary {
    /// Returns the session as clients see it.
    pub fn view(&self) -> SessionView {
        SessionView::of(self.id.clone(), &self.identity, &self.progress, self.queued)
    }
}

/// The number of sessions that [`Store::each_session`] reads at once.
const PAGE: usize = 256;

impl Store {
    /// Visits all sessions in the order of their ids, closed ones included. One that is created meanwhile may
    /// be left out.
    pub fn each_session(&self, mut visit: impl FnMut(&SessionSummary)) -> Result<(), StoreError> {
        let (all, mut after) = (Patterns::all(), None);
        loop {
            let page = self.list(after.as_ref(), PAGE, &all)?;
            page.iter().for_each(&mut visit);
            match page.last() {
                Some(last) => after = Some(last.id.clone()),
                None => return Ok(()),
            }
        }
    }

    /// Returns at most `limit` sessions whose ids match `ids`, in the order of their ids, starting after
    /// `after`. Closed sessions are included.
    pub fn list(
        &self,
        after: Option<&SessionId>,
        limit: usize,
        ids: &Patterns,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        // Ids begin above 0x1f, so the empty key sorts before them all; 0xff, which never occurs in
        // UTF-8, sorts after them all.
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
                if !ids.allow(id.as_str()) {
                    return Ok(true);
                }
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
                        components: kept.components,
                    }),
                    _ => return Err(codec::corrupt(what, format!("`{id}` has no identity"))),
                }
                Ok(true)
            })
        })?;
        Ok(list)
    }

    /// Returns all sessions that have an open turn or queued messages, followed by at most
    /// `others_max` others that committed a turn since `since` (to within ten minutes), the latest
    /// first. A start needs to check only these, however many sessions are stored.
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

    /// Deletes the markers of commits before `older_than`, and stale markers of work, which stores
    /// written by earlier versions contain. Waits for the disk.
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
        let (done, outcome) = sync_channel(1);
        self.core().push(WriterJob::Prune {
            candidates,
            older_than,
            done,
        })?;
        outcome.recv().unwrap_or(Err(StoreError::Closed))
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

    /// Returns the sessions that cannot run until an operator acts, in the order of their ids.
    pub fn faulted(&self) -> Result<Vec<SessionId>, StoreError> {
        self.core().read(|db| marked(db, kind::FAULTED))
    }

    /// Returns the pending approvals of at most `limit` sessions whose ids match `ids`, in the order of the
    /// sessions' ids, starting after the session `after`; and, if there may be more, the last of these
    /// sessions that was read, which is the `after` of the next page. Reads only parked sessions, at most
    /// `PARKED_READ_MAX`: those that wait for something else than an approval are passed over.
    pub fn approvals(
        &self,
        after: Option<&SessionId>,
        limit: usize,
        ids: &Patterns,
    ) -> Result<(Vec<Approval>, Option<SessionId>), StoreError> {
        let (first, bound) = keys::all_of_kind(kind::PARKED);
        // A marker's key ends with the id; with a zero byte appended, it is the smallest key after.
        let first = after.map_or(first, |after| {
            let mut key = keys::marker(kind::PARKED, after);
            key.push(0);
            key
        });
        self.core().read(|db| {
            let (mut waiting, mut last, mut more) = (Vec::new(), None, false);
            let (mut sessions, mut read) = (0, 0);
            db.scan(Keyspace::Index, &first, &bound, |key, _| {
                let id = keys::marked(key);
                let id = id.ok_or_else(|| codec::corrupt("a marker", "its key holds no id"))?;
                if !ids.allow(id.as_str()) {
                    return Ok(true);
                }
                more = sessions == limit || read == PARKED_READ_MAX;
                if more {
                    return Ok(false);
                }
                let before = waiting.len();
                if let Some(kept) = kept(db, &id)? {
                    waiting.extend(kept.progress.waiting().cloned());
                }
                sessions += usize::from(waiting.len() > before);
                read += 1;
                last = Some(id);
                Ok(true)
            })?;
            Ok((waiting, last.filter(|_| more)))
        })
    }

    /// Returns the sessions that are marked as having work and are neither faulted nor parked: as
    /// far as the markers show, their turns should run. A marker may be a stale one of an earlier
    /// version; [`Store::load`] is authoritative.
    pub fn should_run(&self) -> Result<Vec<SessionId>, StoreError> {
        self.core().read(|db| {
            let mut ids = marked(db, kind::ACTIVE)?;
            let faulted: HashSet<SessionId> = marked(db, kind::FAULTED)?.into_iter().collect();
            let parked: HashSet<SessionId> = marked(db, kind::PARKED)?.into_iter().collect();
            ids.retain(|id| !faulted.contains(id) && !parked.contains(id));
            Ok(ids)
        })
    }

    /// Returns at most `limit` timers whose stored time is not after `until` and that `is_due`
    /// accepts, by that time.
    pub fn timers_due(
        &self,
        until: UnixMillis,
        limit: usize,
        mut is_due: impl FnMut(&SessionId, &Timer) -> bool,
    ) -> Result<Vec<(SessionId, Timer)>, StoreError> {
        let mut due = Vec::new();
        self.each_timer(UnixMillis(0), |id, timer| {
            let go_on = timer.due <= until && due.len() < limit;
            if go_on && is_due(&id, &timer) {
                due.push((id, timer));
            }
            go_on
        })?;
        Ok(due)
    }

    /// Returns the earliest stored time of a timer after `time`.
    pub fn next_timer(&self, time: UnixMillis) -> Result<Option<UnixMillis>, StoreError> {
        let mut next = None;
        self.each_timer(UnixMillis(time.0.saturating_add(1)), |_, timer| {
            next = Some(timer.due);
            false
        })?;
        Ok(next)
    }

    /// Returns the numbers of sessions. Reads only the markers of the faulted and parked ones.
    pub fn counts(&self) -> Result<SessionCounts, StoreError> {
        let faulted: HashSet<SessionId> = self.faulted()?.into_iter().collect();
        let mut parked = self.core().read(|db| marked(db, kind::PARKED))?;
        // The state of a session that is both is faulted.
        parked.retain(|id| !faulted.contains(id));
        let closed = self.core().closed.load(Ordering::Relaxed);
        let created = self.core().created.load(Ordering::Relaxed);
        Ok(SessionCounts {
            open: created.saturating_sub(closed),
            faulted: faulted.len() as u64,
            parked: parked.len() as u64,
            closed,
        })
    }

    /// Calls `each` with all timers from the time `from` on, the earliest first, until it returns
    /// false.
    fn each_timer(
        &self,
        from: UnixMillis,
        mut each: impl FnMut(SessionId, Timer) -> bool,
    ) -> Result<(), StoreError> {
        let first = keys::timers_from(from);
        let (_, bound) = keys::all_of_kind(kind::TIMER);
        self.core().read(|db| {
            db.scan(Keyspace::Index, &first, &bound, |key, value| {
                let (_, id) = keys::timer_of(key)
                    .ok_or_else(|| codec::corrupt("a timer", "its key holds no id"))?;
                Ok(each(id, codec::decode("a timer", value)?))
            })
        })
    }
}

/// Returns the ids of the sessions that have a marker of a kind, in order.
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
