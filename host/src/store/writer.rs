//! The only thread that writes. It combines all queued batches, of however many sessions, into one
//! synced write, and then resolves all of their waiters: the disk's sync is the whole cost, so it
//! is shared.
//!
//! A failed write may still have left bytes on the disk. So RocksDB is reopened before the waiters
//! are resolved (which is also the only way to make it accept writes again): what a session's owner
//! loads afterwards is what the disk really holds. Until the owner loads it, further appends to the
//! session fail, since the records that they build on may not exist.

mod files;

use std::{
    collections::BTreeSet,
    mem,
    sync::{PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::domain::{SessionId, UnixMillis};
use crate::{allocator, failpoint};

use super::{
    StoreError, codec,
    counts::{StoredCounts, stored_counts},
    damage::is_damage_at_open,
    db::{Db, Keyspace, Op},
    error::is_disk_full,
    handle::{Core, StoreState},
    kept::is_idle,
    keys,
    mark::SyncedMark,
    queue::{Write, WriterJob, WriterTask},
    reserve::Reserve,
    synced::SyncedFile,
    trail::{SessionChecksum, TracedGroup, Trail},
    trail_file::TrailFile,
};

/// After this long without a write, a WAL over [`IDLE_FLUSH_BYTES`] is flushed into tables.
const IDLE: Duration = Duration::from_secs(3);
/// See [`IDLE`].
const IDLE_FLUSH_BYTES: usize = 1 << 20;
/// On closing, a WAL over this size is flushed into tables, since replaying it would take longer.
/// (A planned restart has flushed the store just before.)
const CLOSE_FLUSH_BYTES: usize = 8 << 20;
/// The pause between two attempts to reopen the database.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// The files beside the database in which each group is noted before it is acknowledged.
pub(super) struct Marks {
    pub(super) synced: SyncedFile,
    pub(super) trail: TrailFile,
}

/// The state of the writer thread.
struct WriterLoop<'a> {
    core: &'a Core,
    /// When reopening last failed; none while the database is open.
    last_try: Option<Instant>,
    /// Must be held for a write to be accepted.
    reserve: Reserve,
    synced: SyncedFile,
    trail: Trail,
    trail_file: TrailFile,
    /// RocksDB's number of the last operation that was acknowledged.
    acknowledged: u64,
    /// Whether the MANIFEST was removed and could not be put back so far, which was logged.
    manifest_resists: bool,
}

/// Drops all queued jobs when the writer ends, by a panic too, so that no caller waits forever.
struct Abandon<'a>(&'a Core);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.health().gone = thread::panicking();
        self.0.queue.abandon();
    }
}

/// Runs the writer until the queue is closed and empty, then closes the database.
pub(super) fn run(core: &Core, reserve: Reserve, marks: Marks, acknowledged: u64) {
    let _abandon = Abandon(core);
    let mut writer = WriterLoop {
        core,
        last_try: None,
        reserve,
        synced: marks.synced,
        trail: Trail::default(),
        trail_file: marks.trail,
        acknowledged,
        manifest_resists: false,
    };
    // Whether the work that waits for an idle moment was done since the last group of writes.
    let mut is_tidied = false;
    loop {
        let patience = match writer.is_failing() {
            true => REOPEN_PAUSE,
            false => IDLE,
        };
        let next = core.queue.next(patience);
        core.health().at_work = Some(Instant::now());
        match next {
            WriterTask::Group(group, bytes) => {
                is_tidied = false;
                writer.group(group, bytes);
                if writer.synced.lacks_manifest() && !writer.manifest_resists {
                    writer.rescue_manifest();
                }
            }
            WriterTask::Job(job) => writer.job(job),
            // The cause was logged when the write failed.
            WriterTask::Idle if writer.is_failing() => writer.probe(),
            WriterTask::Idle if writer.has_lost_its_folder() => {}
            WriterTask::Idle if writer.unflushed() > 0 && writer.rescue_log() => {}
            WriterTask::Idle if writer.has_lost_its_manifest() => writer.rescue_manifest(),
            WriterTask::Idle if writer.unflushed() > IDLE_FLUSH_BYTES => writer.flush_quietly(),
            WriterTask::Idle if !mem::replace(&mut is_tidied, true) => {
                writer.sync_marks();
                allocator::purge_now();
            }
            WriterTask::Idle => {}
            WriterTask::End => break,
        }
        let mut health = core.health();
        health.at_work = None;
        health.ended = Some(Instant::now());
    }
    if !writer.has_lost_its_folder() {
        writer.rescue_log();
        if writer.has_lost_its_manifest() {
            writer.rescue_manifest();
        }
        if writer.unflushed() > CLOSE_FLUSH_BYTES {
            writer.flush_quietly();
        }
    }
    if let StoreState::Open(db) = writer.replace(StoreState::Closed) {
        db.stop_background_work();
        let mark = SyncedMark::closed_at(db.last_sequence());
        drop(db);
        let marked = writer.synced.write(mark);
        if let Err(error) = marked.and_then(|()| writer.synced.sync()) {
            tracing::warn!("that the store was closed cannot be noted: {error}");
        }
    }
}

impl WriterLoop<'_> {
    /// Writes a group and resolves the waiter of each of its writes.
    fn group(&mut self, group: Vec<Write>, bytes: usize) {
        let (refused, group): (Vec<_>, Vec<_>) = {
            let failed = self.core.failed();
            group.into_iter().partition(|write| {
                let id = write.session.as_ref();
                id.is_some_and(|id| failed.contains(id))
            })
        };
        for write in refused {
            if let Some(id) = write.session {
                write.done.resolve(Err(StoreError::Reload(id)));
            }
        }
        if group.is_empty() {
            // All of these sessions must be loaded first, and a store that is down refuses loads:
            // reopen it here, since there is no write that would.
            let revived = self.revive();
            self.record_health(&revived);
            return;
        }
        let result = self.write(&group, bytes);
        self.record_health(&result);
        if result.is_err() {
            // Before the waiters are resolved: from then on, further appends must be refused.
            let ids = group.iter().filter_map(|write| write.session.as_ref());
            self.core.failed().extend(ids.cloned());
        }
        let stats = &self.core.stats;
        match &result {
            Ok(()) => {
                stats
                    .appends
                    .fetch_add(group.len() as u64, Ordering::Relaxed);
                stats.writes.fetch_add(1, Ordering::Relaxed);
                stats.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => {
                stats.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(appends = group.len(), "a write failed: {error}");
            }
        }
        for write in group {
            write.done.resolve(result.clone());
        }
    }

    fn write(&mut self, group: &[Write], bytes: usize) -> Result<(), StoreError> {
        self.revive()?;
        self.reserve.hold_to_write()?;
        let created: u64 = group.iter().map(|write| write.created).sum();
        let closed: u64 = group.iter().map(|write| write.closed).sum();
        let counts = match created + closed {
            0 => None,
            _ => Some(StoredCounts {
                created: self.core.created.load(Ordering::Relaxed) + created,
                closed: self.core.closed.load(Ordering::Relaxed) + closed,
            }),
        };
        let counts_op = match &counts {
            Some(counts) => {
                let bytes = codec::encode("the count of sessions", counts)?;
                Some(Op::Put(Keyspace::Meta, keys::COUNTS.to_vec(), bytes))
            }
            None => None,
        };
        let ops = group.iter().flat_map(|write| &write.ops).chain(&counts_op);
        #[cfg(test)]
        if let Some(error) = self.sabotaged(ops.clone()) {
            self.reopen();
            return Err(error);
        }
        failpoint::point("store.write.before");
        let sessions = group.iter().filter_map(|write| write.session.as_ref());
        self.commit(sessions.map(SessionChecksum::of).collect(), ops)?;
        failpoint::point("store.write.after");
        self.core.unflushed.fetch_add(bytes, Ordering::Relaxed);
        if let Some(counts) = counts {
            self.core.created.store(counts.created, Ordering::Relaxed);
            self.core.closed.store(counts.closed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes `ops`, which are about `sessions`, atomically, and notes it in the file `SYNCED` once they
    /// are synced: then they may be acknowledged. Handles a failure.
    fn commit<'o>(
        &mut self,
        sessions: BTreeSet<SessionChecksum>,
        ops: impl IntoIterator<Item = &'o Op> + Clone,
    ) -> Result<(), StoreError> {
        let sequence = match self.write_once(ops.clone())? {
            Ok(sequence) => sequence,
            // A merge has met a damaged table. Open again without merges, the store takes the same
            // operations, whether they were written or not.
            Err(error) if self.core.note_damage(error.as_ref()) => {
                self.reopen();
                let again = self.write_once(ops.clone())?;
                again.map_err(|error| self.failed(&error))?
            }
            Err(error) => return Err(self.failed(&error)),
        };
        let (count, bytes) = ops
            .into_iter()
            .fold((0, 0), |(count, bytes), op| (count + 1, bytes + op.bytes()));
        let group = TracedGroup {
            first: sequence + 1 - count,
            sessions,
        };
        // Before the mark, so that a loss up to the mark is covered.
        self.trail_file.note(&group, sequence);
        self.trail.add(group, bytes);
        let mark = SyncedMark::at(sequence);
        // If this fails, the operations are there and yet not acknowledged, which their owner finds
        // out when it loads the session again.
        let mut marked = self.synced.write_acknowledged(mark);
        if marked.is_err() && self.rescue_log() {
            marked = self.synced.write_acknowledged(mark);
        }
        marked.map_err(|error| StoreError::write_failed(error.to_string()))?;
        self.acknowledged = sequence;
        Ok(())
    }

    /// Writes `ops` atomically, and returns RocksDB's number of the last operation once they are synced.
    fn write_once<'o>(
        &self,
        ops: impl IntoIterator<Item = &'o Op>,
    ) -> Result<Result<u64, rocksdb::Error>, StoreError> {
        self.core
            .read(|db| Ok(db.write(&self.trail, ops).map(|()| db.last_sequence())))
    }

    /// Records whether the store accepts writes.
    fn record_health(&self, result: &Result<(), StoreError>) {
        match result {
            Ok(()) => self.core.health().failing = None,
            // A value that cannot be serialized is not the disk's fault.
            Err(StoreError::Encode { .. }) => {}
            Err(error) => self.core.health().failing = Some(error.to_string()),
        }
    }

    fn is_failing(&self) -> bool {
        self.last_try.is_some() || self.core.health().failing.is_some()
    }

    /// Tests whether a store whose last write failed accepts writes again. There may be no append
    /// that would find out.
    fn probe(&mut self) {
        let written = self.revive().and_then(|()| self.write_counts());
        if written.is_ok() {
            tracing::info!("the store takes writes again");
        }
        self.record_health(&written);
    }

    /// Writes the present counts, synced.
    fn write_counts(&mut self) -> Result<(), StoreError> {
        self.reserve.hold_to_write()?;
        let counts = StoredCounts {
            created: self.core.created.load(Ordering::Relaxed),
            closed: self.core.closed.load(Ordering::Relaxed),
        };
        let bytes = codec::encode("the count of sessions", &counts)?;
        let op = Op::Put(Keyspace::Meta, keys::COUNTS.to_vec(), bytes);
        self.commit(BTreeSet::new(), [&op])
    }

    fn job(&mut self, job: WriterJob) {
        match job {
            WriterJob::Prune {
                candidates,
                older_than,
                done,
            } => {
                let pruned = self.prune(&candidates, older_than);
                self.record_health(&pruned);
                let _ = done.send(pruned);
            }
            WriterJob::Forgive { id, done } => {
                self.core.failed().remove(&id);
                let _ = done.send(());
            }
            WriterJob::Write(write) => {
                let bytes = write.ops.iter().map(Op::bytes).sum();
                self.group(vec![write], bytes);
            }
        }
    }

    /// Only this thread writes, so a session found idle here stays idle until the batch is written.
    fn prune(&mut self, ids: &[SessionId], older_than: UnixMillis) -> Result<(), StoreError> {
        self.revive()?;
        let (first, _) = keys::all_of_kind(keys::kind::RECENT);
        let bound = keys::recent_bound(keys::span(older_than));
        let mut ops = vec![Op::DeleteRange(Keyspace::Index, first, bound)];
        self.core.read(|db| {
            for id in ids {
                if is_idle(db, id)? {
                    let key = keys::marker(keys::kind::ACTIVE, id);
                    ops.push(Op::Delete(Keyspace::Index, key));
                }
            }
            Ok(())
        })?;
        // That it was done is nothing that a session would miss.
        self.commit(BTreeSet::new(), &ops)
    }

    fn unflushed(&self) -> usize {
        self.core.unflushed.load(Ordering::Relaxed)
    }

    fn flush_quietly(&mut self) {
        let flushed = match self.core.flush() {
            Ok(Ok(())) => return,
            Ok(Err(error)) => self.failed(&error),
            Err(down) => down,
        };
        tracing::warn!("cannot flush the store: {flushed}");
        self.record_health(&Err(flushed));
        // Reset, so that the warning is logged once per idle spell and not every few seconds.
        self.core.unflushed.store(0, Ordering::Relaxed);
    }

    /// Makes sure that the store can be written: fails if its folder is gone, and reopens a store
    /// that is down, at most once per [`REOPEN_PAUSE`]. Must be called before each write.
    fn revive(&mut self) -> Result<(), StoreError> {
        self.core.anchor.check()?;
        let Err(error) = self.core.read(|_| Ok(())) else {
            return Ok(());
        };
        if self.last_try.is_some_and(|at| at.elapsed() < REOPEN_PAUSE) {
            return Err(error);
        }
        self.reopen();
        self.core.read(|_| Ok(()))
    }

    /// Handles a failed write: frees the reserve if the disk is full, and reopens the database.
    fn failed(&mut self, error: &rocksdb::Error) -> StoreError {
        let error = StoreError::write(error);
        if matches!(error, StoreError::DiskFull { .. }) {
            self.reserve.give();
        }
        self.reopen();
        error
    }

    /// Reopens the database and flushes what its WAL held, so that everything that can be read from
    /// here on is durable, whatever the failed write left behind. It stays down if it has lost what
    /// was acknowledged. Once a damaged table was met, it is opened so that merges do not meet it.
    ///
    /// Readers wait meanwhile: a client is not refused for that.
    fn reopen(&mut self) {
        self.trail.clear();
        let state = self.core.state.write();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        // Closed first: the folder is locked.
        *state = StoreState::Down("it is being opened again".to_owned());
        let (path, options) = (&self.core.path, &self.core.options);
        let opened = match self.core.damage.get() {
            None => Db::open(path, false, options),
            Some(_) => Db::open_damaged(path, options),
        };
        let opened = opened
            .map_err(|error| error.to_string())
            .and_then(
                |db| match self.acknowledged.checked_sub(db.last_sequence()) {
                    None | Some(0) => db.flush().map(|()| db).map_err(|error| error.to_string()),
                    Some(lost) => Err(format!(
                        "{lost} writes that had been acknowledged are not there any more; stop the \
                     daemon, check the disk and restore a backup"
                    )),
                },
            )
            .and_then(|db| match stored_counts(&db) {
                Ok(counts) => Ok((db, counts)),
                Err(error) => {
                    let reason = error.to_string();
                    self.core.note_damage(&reason);
                    Err(reason)
                }
            });
        match opened {
            Ok((db, counts)) => {
                self.core.created.store(counts.created, Ordering::Relaxed);
                self.core.closed.store(counts.closed, Ordering::Relaxed);
                self.last_try = None;
                self.core.unflushed.store(0, Ordering::Relaxed);
                *state = StoreState::Open(db);
            }
            Err(reason) => {
                // The next try opens it without meeting the damage.
                if is_damage_at_open(&reason, path) {
                    self.core.note_table(&reason);
                }
                if is_disk_full(&reason) {
                    self.reserve.give();
                }
                tracing::error!("cannot open the store again: {reason}");
                self.last_try = Some(Instant::now());
                *state = StoreState::Down(reason);
            }
        }
    }

    /// Replaces the state, once all readers of the present one have finished, and returns the old
    /// one.
    fn replace(&self, state: StoreState) -> StoreState {
        let mut now = self
            .core
            .state
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut now, state)
    }

    /// Returns the failure that a test has ordered for this write.
    #[cfg(test)]
    fn sabotaged<'a>(&self, ops: impl Iterator<Item = &'a Op>) -> Option<StoreError> {
        use super::handle::Sabotage;
        let mut wanted = self
            .core
            .sabotage
            .lock()
            .expect("no test panics while it holds it");
        let sabotage = wanted.pop()?;
        if sabotage == Sabotage::After {
            let written = self.core.read(|db| Ok(db.write(&self.trail, ops)));
            written
                .expect("the test's store is open")
                .expect("the test's disk has room");
        }
        Some(StoreError::Write {
            reason: "a test wants it".to_owned(),
        })
    }
}
