//! The handle that everybody shares, and what stands behind it.

use std::{
    collections::HashSet,
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use crate::domain::{SessionId, WriterSigns};

use super::{
    StoreError, StoreOptions,
    db::Db,
    queue::{Queue, WriterJob},
};

/// The store. Clones are the same store; it closes with [`Store::close`], or when the last of
/// them is dropped.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Handles>,
}

/// What all handles share. Dropping it closes the store.
pub(super) struct Handles {
    pub core: Arc<Core>,
    pub writer: Mutex<Option<JoinHandle<()>>>,
    /// The lock on the folder. Released when the writer, and with it the database, is gone.
    pub lock: Mutex<Option<File>>,
}

/// What handles and writer share.
pub(super) struct Core {
    /// RocksDB's folder.
    pub path: PathBuf,
    pub options: StoreOptions,
    /// Only the writer changes it, and holds it for reading while it writes.
    pub state: RwLock<StoreState>,
    pub queue: Queue,
    /// Sessions of which an append failed, until they are loaded again.
    pub failed: Mutex<HashSet<SessionId>>,
    pub created: AtomicU64,
    pub closed: AtomicU64,
    /// Bytes written since the last flush: at least what the WAL holds.
    pub unflushed: AtomicUsize,
    pub stats: Counters,
    /// What the watchdog sees of the writer.
    pub health: Mutex<WriterHealth>,
    /// Writes that are to fail after having reached the disk, or before.
    #[cfg(test)]
    pub sabotage: Mutex<Vec<Sabotage>>,
}

/// How a test has a write fail.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// Nothing of it reaches the disk.
    Before,
    /// All of it does.
    After,
}

/// What the store is good for at the moment.
pub(super) enum StoreState {
    /// Everything.
    Open(Db),
    /// Nothing, until a write succeeds in opening it again: why.
    Down(String),
    /// Nothing any more.
    Closed,
}

/// What the writer shows of itself; see [`WriterSigns`].
#[derive(Default)]
pub(super) struct WriterHealth {
    /// Since when it has been at what it does now.
    pub at_work: Option<Instant>,
    /// When it last came to an end with something.
    pub ended: Option<Instant>,
    /// Why it took no write when it last was to.
    pub failing: Option<String>,
    /// It has panicked.
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

/// What the writer has done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Appends that are synced.
    pub appends: u64,
    /// Synced writes that they took; the fewer, the more they shared.
    pub writes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Writes that failed.
    pub failures: u64,
}

impl Store {
    /// What the writer has done.
    pub fn stats(&self) -> Stats {
        let counters = &self.core().stats;
        Stats {
            appends: counters.appends.load(Ordering::Relaxed),
            writes: counters.writes.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
        }
    }

    /// Why the store took no write when it last was to; none if it did, or takes them again.
    pub fn failing(&self) -> Option<String> {
        self.core().health().failing.clone()
    }

    /// How the writer is, now.
    pub fn writer_signs(&self) -> WriterSigns {
        let waits = self.core().queue.due_since();
        let health = self.core().health();
        let since = match (health.at_work, waits) {
            (Some(work), Some(waits)) => Some(work.min(waits)),
            (work, waits) => work.or(waits),
        };
        // A long queue is none that stands still.
        let since = since.map(|since| health.ended.map_or(since, |ended| since.max(ended)));
        WriterSigns {
            stalled_for: since.map(|since| since.elapsed()),
            failing: health.failing.clone(),
            gone: health.gone,
        }
    }

    /// Moves what the write-ahead log holds into tables, so that closing and the next opening
    /// are quick. Writes go on meanwhile. Waits for the disk.
    pub fn flush(&self) -> Result<(), StoreError> {
        let flushed = self.core().flush()?;
        // The next write meets what is wrong as well, and sees to it.
        flushed.map_err(|error| StoreError::write(&error))
    }

    pub(super) fn core(&self) -> &Core {
        &self.inner.core
    }
}

impl Core {
    /// Reads from the database.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Db) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            StoreState::Open(db) => read(db),
            StoreState::Down(reason) => Err(StoreError::Down {
                reason: reason.clone(),
            }),
            StoreState::Closed => Err(StoreError::Closed),
        }
    }

    /// Moves what the WAL holds into tables; what is written meanwhile may stay there.
    pub(super) fn flush(&self) -> Result<Result<(), rocksdb::Error>, StoreError> {
        let before = self.unflushed.load(Ordering::Relaxed);
        let flushed = self.read(|db| Ok(db.flush()))?;
        if flushed.is_ok() {
            // Somebody else may have flushed as well.
            let less = |now: usize| Some(now.saturating_sub(before));
            let _ = self
                .unflushed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Ok(flushed)
    }

    /// Hands a job to the writer.
    pub(super) fn push(&self, job: WriterJob) -> Result<(), StoreError> {
        self.queue.push(job)
    }

    /// Nothing that panics runs under this lock.
    pub(super) fn health(&self) -> MutexGuard<'_, WriterHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing that panics runs under this lock.
    pub(super) fn failed(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
