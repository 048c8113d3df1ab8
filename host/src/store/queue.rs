//! The queue between those who append and the one thread that writes.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    time::{Duration, Instant},
};

use crate::domain::SessionId;

use super::{StoreError, db::Op};

/// How long a lazy append may wait for somebody else's sync before it gets one of its own.
pub(super) const LAZY_DELAY: Duration = Duration::from_millis(5);
/// Appends that one write takes together.
const GROUP_MAX: usize = 1024;
/// Bytes that one write takes together (one append may have more).
const GROUP_BYTES: usize = 8 << 20;
/// Bytes that may wait; beyond, appends are refused.
const QUEUE_BYTES: usize = 256 << 20;

/// What the writer is asked to do.
pub(super) enum WriterJob {
    /// Write this.
    Write(Write),
    /// Forget what is not needed to know what is active.
    Prune {
        /// Sessions that may be marked as having work, and have none.
        candidates: Vec<SessionId>,
        /// A commit before this moment is long ago.
        older_than: crate::domain::UnixMillis,
        /// Told the end.
        done: SyncSender<Result<(), StoreError>>,
    },
    /// The session's owner loads it: its further appends stand on what is written.
    Forgive {
        /// The session.
        id: SessionId,
        /// Told when what was appended before has failed.
        done: SyncSender<()>,
    },
}

/// One atomic batch.
pub(super) struct Write {
    /// Whose it is; none for restart records.
    pub session: Option<SessionId>,
    /// The changes.
    pub ops: Vec<Op>,
    /// Sessions that it creates.
    pub created: u64,
    /// Sessions that it closes.
    pub closed: u64,
    /// When it must be synced at the latest.
    pub due: Instant,
    /// Told the end.
    pub done: WriteWaiter,
}

/// Who waits for a write.
pub(super) enum WriteWaiter {
    /// A task.
    Task(tokio::sync::oneshot::Sender<Result<(), StoreError>>),
    /// A thread.
    Thread(SyncSender<Result<(), StoreError>>),
}

impl WriteWaiter {
    /// Tells them. They may have gone.
    pub(super) fn resolve(self, result: Result<(), StoreError>) {
        match self {
            Self::Task(sender) => drop(sender.send(result)),
            Self::Thread(sender) => drop(sender.send(result)),
        }
    }
}

impl Write {
    fn bytes(&self) -> usize {
        self.ops.iter().map(Op::bytes).sum()
    }
}

/// What the writer does next.
pub(super) enum WriterTask {
    /// These writes, as one.
    Group(Vec<Write>, usize),
    /// A job of another kind.
    Job(WriterJob),
    /// Nothing came for as long as it was willing to wait.
    Idle,
    /// No more will come.
    End,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    news: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<(WriterJob, usize)>,
    bytes: usize,
    closed: bool,
    /// The writer sleeps. (To wake somebody who does not is a system call all the same.)
    sleeps: bool,
}

impl Queue {
    /// Hands a job over; where that is refused, it is dropped.
    pub(super) fn push(&self, job: WriterJob) -> Result<(), StoreError> {
        let bytes = match &job {
            WriterJob::Write(write) => write.bytes(),
            WriterJob::Prune { .. } | WriterJob::Forgive { .. } => 0,
        };
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        if bytes > 0 && state.bytes + bytes > QUEUE_BYTES.max(bytes) {
            let bytes = state.bytes;
            return Err(StoreError::Overloaded { bytes });
        }
        state.bytes += bytes;
        state.jobs.push_back((job, bytes));
        let sleeps = state.sleeps;
        drop(state);
        if sleeps {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Refuses whatever comes from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Refuses whatever comes, and drops what waits: those who wait for it learn that no one will
    /// do it.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let jobs = mem::take(&mut state.jobs);
        drop(state);
        drop(jobs);
    }

    /// What to do next; waits for it, at most `patience`.
    pub(super) fn next(&self, patience: Duration) -> WriterTask {
        let give_up = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let wait = match state.due(now) {
                Some(due) if due <= now || state.closed => return state.take(),
                Some(due) => due - now,
                None if state.closed => return WriterTask::End,
                None if now >= give_up => return WriterTask::Idle,
                None => give_up - now,
            };
            state.sleeps = true;
            let waited = self.news.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.sleeps = false;
        }
    }

    /// Since when the job that waits longest could have been done.
    pub(super) fn due_since(&self) -> Option<Instant> {
        let now = Instant::now();
        self.lock().due(now).filter(|due| *due <= now)
    }

    /// Nothing that panics runs under the lock, so what it guards is whole.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    /// When the first of the jobs must be done; one without a moment of its own must be now.
    fn due(&self, now: Instant) -> Option<Instant> {
        let dues = self.jobs.iter().map(|(job, _)| match job {
            WriterJob::Write(write) => write.due,
            WriterJob::Prune { .. } | WriterJob::Forgive { .. } => now,
        });
        dues.min()
    }

    /// The first job, and all writes behind it that fit into a group.
    fn take(&mut self) -> WriterTask {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some((job, size)) = self.jobs.pop_front() {
            match job {
                WriterJob::Write(write)
                    if group.is_empty()
                        || (group.len() < GROUP_MAX && bytes + size <= GROUP_BYTES) =>
                {
                    self.bytes -= size;
                    bytes += size;
                    group.push(write);
                }
                job if group.is_empty() => return WriterTask::Job(job),
                job => {
                    self.jobs.push_front((job, size));
                    break;
                }
            }
        }
        WriterTask::Group(group, bytes)
    }
}
