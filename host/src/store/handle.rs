//! The handle that all users of the store share, and the state behind it.

use std::{
    collections::HashSet,
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use crate::domain::{MachineClock, SessionId, WriterSigns};

use super::{
    StoreError,
    anchor::Anchor,
    damage::{self, is_damage_of_open},
    db::Db,
    format::StoreFormat,
    kept_aside::KeptAside,
    options::StoreOptions,
    queue::{Queue, WriterJob},
};

/// A handle to the store. Clones refer to the same store; it closes with [`Store::close`], or when
/// the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Handles>,
}

/// The state that all handles share. Dropping it closes the store.
pub(super) struct Handles {
    pub core: Arc<Core>,
    pub writer: Mutex<Option<JoinHandle<()>>>,
    /// The lock on the data folder. Released after the writer has ended and closed the database.
    pub lock: Mutex<Option<File>>,
}

/// The state that the handles and the writer thread share.
pub(super) struct Core {
    /// The RocksDB directory.
    pub path: PathBuf,
    pub anchor: Anchor,
    pub format: StoreFormat,
    pub options: StoreOptions,
    /// Only the writer thread replaces the state. A write holds the lock for reading, so that
    /// readers never wait for it; they wait while the database is opened again.
    pub state: RwLock<StoreState>,
    pub queue: Queue,
    /// Sessions with a failed append, until their owner loads them again.
    pub failed: Mutex<HashSet<SessionId>>,
    /// Sessions ever created. Like `closed`, only the writer stores it, so `Relaxed` suffices.
    pub created: AtomicU64,
    /// Sessions ever closed.
    pub closed: AtomicU64,
    /// Bytes written since the last flush: an upper bound of what the WAL holds.
    pub unflushed: AtomicUsize,
    pub stats: Counters,
    /// The writer's state as the watchdog sees it.
    pub health: Mutex<WriterHealth>,
    /// The damaged table that was met first, as RocksDB tells of it.
    pub damage: OnceLock<String>,
    /// Damaged databases that are kept aside.
    pub kept_aside: Vec<KeptAside>,
    /// Whether it was restored or salvaged since a worker last opened it.
    pub is_anew: bool,
    /// Failures that a test has ordered; each write takes one.
    #[cfg(test)]
    pub sabotage: Mutex<Vec<Sabotage>>,
}

/// The point at which a test makes a write fail.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// Before any of it reaches the disk.
    Before,
    /// After all of it has reached the disk.
    After,
}

/// Whether the store can serve reads and writes.
pub(super) enum StoreState {
    Open(Db),
    /// All calls fail, for the reason given here, until the writer has reopened the database.
    Down(String),
    /// All calls fail from now on.
    Closed,
}

/// The health that the writer reports; see [`WriterSigns`].
#[derive(Default)]
pub(super) struct WriterHealth {
    /// When the task that it executes now began.
    pub at_work: Option<Instant>,
    /// When it last finished a task.
    pub ended: Option<Instant>,
    /// Why the last write failed, if it did.
    pub failing: Option<String>,
    /// Whether it has panicked.
    pub gone: bool,
}

/// See [`Stats`].
#[derive(Default)]
pub(super) struct Counters {
    pub appends: AtomicU64,
    pub writes: AtomicU64,
    pub bytes: AtomicU64,
    pub failures: AtomicU64,
}

/// Counters of the writer since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Appends that are synced.
    pub appends: u64,
    /// Synced writes that carried those appends: the fewer, the more appends shared one sync.
    pub writes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Writes that failed.
    pub failures: u64,
}

impl Store {
    pub fn stats(&self) -> Stats {
        let counters = &self.core().stats;
        Stats {
            appends: counters.appends.load(Ordering::Relaxed),
            writes: counters.writes.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
        }
    }

    /// Returns why the last write failed; none if it succeeded, or if writes succeed again.
    pub fn failing(&self) -> Option<String> {
        self.core().health().failing.clone()
    }

    /// Returns the writer's present health, for the watchdog.
    pub fn writer_signs(&self) -> WriterSigns {
        let waits = self.core().queue.due_since();
        let health = self.core().health();
        let since = match (health.at_work, waits) {
            (Some(work), Some(waits)) => Some(work.min(waits)),
            (work, waits) => work.or(waits),
        };
        // A long queue is not a stalled one: each finished task restarts the clock.
        let since = since.map(|since| health.ended.map_or(since, |ended| since.max(ended)));
        WriterSigns {
            stalled_for: since.map(|since| since.elapsed()),
            failing: health.failing.clone(),
            gone: health.gone,
        }
    }

    /// Returns what is known of damaged tables: they are left alone until the next start writes the
    /// store anew. None if none was met.
    pub fn damage(&self) -> Option<&str> {
        self.core().damage.get().map(String::as_str)
    }

    /// Returns the damaged databases that are kept aside, as they were when the store was opened.
    pub fn kept_aside(&self) -> &[KeptAside] {
        &self.core().kept_aside
    }

    /// Returns whether the store was restored or salvaged into its folder since a worker last opened it there.
    pub fn is_anew(&self) -> bool {
        self.core().is_anew
    }

    /// Returns the clock by which the age of stored times is judged.
    pub fn clock(&self) -> &MachineClock {
        &self.core().options.clock
    }

    /// Flushes what the write-ahead log holds into tables, so that closing and the next opening
    /// are quick. Writes go on meanwhile. Waits for the disk.
    pub fn flush(&self) -> Result<(), StoreError> {
        let flushed = self.core().flush()?;
        // No recovery here: the next write fails for the same cause, and the writer handles it.
        flushed.map_err(|error| StoreError::write(&error))
    }

    /// Returns the format of the data folder: the least that a version must read to open it.
    pub fn format(&self) -> u32 {
        self.core().format.version()
    }

    /// Raises the format of the data folder to [`FORMAT`](super::FORMAT), after which versions that do
    /// not read it refuse the folder; returns whether it was older. To be called only once no such
    /// version will be gone back to. It is synced on return. Waits for the disk.
    pub fn raise_format(&self) -> Result<bool, StoreError> {
        self.core().anchor.check()?;
        self.core().format.raise()
    }

    pub(super) fn core(&self) -> &Core {
        &self.inner.core
    }
}

impl Core {
    /// Runs `read` on the database, which stays open meanwhile.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Db) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            StoreState::Open(db) => read(db).inspect_err(|error| {
                if let StoreError::Corrupt { reason, .. } | StoreError::Read { reason } = error {
                    self.note_damage(reason);
                }
            }),
            StoreState::Down(reason) => Err(StoreError::Down {
                reason: reason.clone(),
            }),
            StoreState::Closed => Err(StoreError::Closed),
        }
    }

    /// Notes an error of the open database if it tells of a damaged table: the next start then writes the
    /// store anew. Returns whether it does.
    pub(super) fn note_damage(&self, reason: &str) -> bool {
        let is_damage = is_damage_of_open(reason);
        if is_damage {
            self.note_table(reason);
        }
        is_damage
    }

    /// Notes the error of a damaged table.
    pub(super) fn note_table(&self, reason: &str) {
        if self.damage.set(reason.to_owned()).is_err() {
            return;
        }
        tracing::error!("a table of the store is damaged: {reason}");
        let folder = self.anchor.folder();
        if let Err(error) = damage::note(folder, reason) {
            tracing::error!("that cannot be noted in {}: {error}", folder.display());
        }
    }

    /// Flushes what the WAL holds into tables; what is written meanwhile may stay in the WAL.
    pub(super) fn flush(&self) -> Result<Result<(), rocksdb::Error>, StoreError> {
        let before = self.unflushed.load(Ordering::Relaxed);
        let flushed = self.read(|db| Ok(db.flush()))?;
        if flushed.is_ok() {
            // Only bytes counted before the flush are certain to be flushed. Saturating, since a
            // concurrent flush may have subtracted them already.
            let less = |now: usize| Some(now.saturating_sub(before));
            let _ = self
                .unflushed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Ok(flushed)
    }

    /// Queues a job for the writer.
    pub(super) fn push(&self, job: WriterJob) -> Result<(), StoreError> {
        self.queue.push(job)
    }

    /// Ignores poisoning: no code that can panic runs under this lock.
    pub(super) fn health(&self) -> MutexGuard<'_, WriterHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ignores poisoning: no code that can panic runs under this lock.
    pub(super) fn failed(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
