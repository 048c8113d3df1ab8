//! The queue between the callers that append and the writer thread.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    time::{Duration, Instant},
};

use crate::domain::SessionId;

use super::{StoreError, db::Op};

/// How long a lazy append waits for the sync of another one before it gets its own.
pub(super) const LAZY_DELAY: Duration = Duration::from_millis(5);
/// The maximum number of appends in one write.
const GROUP_MAX: usize = 1024;
/// The maximum number of bytes in one write (a single append may be larger).
const GROUP_BYTES: usize = 8 << 20;
/// The maximum number of queued bytes; beyond it, appends are refused (backpressure).
const QUEUE_BYTES: usize = 256 << 20;

/// A job for the writer thread.
pub(super) enum WriterJob {
    Write(Write),
    /// Deletes old commit markers, and markers of work from sessions that have none.
    Prune {
        /// Sessions that were seen with a marker of work but without work.
        candidates: Vec<SessionId>,
        /// Commit markers from before this moment are deleted.
        older_than: crate::domain::UnixMillis,
        /// Receives the outcome.
        done: SyncSender<Result<(), StoreError>>,
    },
    /// Accepts appends to a session again whose append had failed: its owner loads it, so its
    /// further appends build on what is really stored.
    Forgive {
        id: SessionId,
        /// Notified once all appends queued before this job have failed.
        done: SyncSender<()>,
    },
}

/// One atomic batch.
pub(super) struct Write {
    /// The session that the batch belongs to; none for restart records.
    pub session: Option<SessionId>,
    pub ops: Vec<Op>,
    /// The number of sessions that the batch creates.
    pub created: u64,
    /// The number of sessions that the batch closes.
    pub closed: u64,
    /// When the batch must be written at the latest.
    pub due: Instant,
    /// Receives the outcome.
    pub done: WriteWaiter,
}

/// The caller that waits for a write: an async task or a blocked thread.
pub(super) enum WriteWaiter {
    Task(tokio::sync::oneshot::Sender<Result<(), StoreError>>),
    Thread(SyncSender<Result<(), StoreError>>),
}

impl WriteWaiter {
    /// Sends the outcome. The waiter may be gone, which is not an error.
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

/// The next task of the writer thread.
pub(super) enum WriterTask {
    /// Writes to execute as one, and their size in bytes.
    Group(Vec<Write>, usize),
    /// A job of another kind.
    Job(WriterJob),
    /// No job came in time.
    Idle,
    /// The queue is closed and empty.
    End,
}

/// The queue of the writer thread.
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
    /// Whether the writer sleeps. (Notifying it when it does not is a system call all the same.)
    sleeps: bool,
}

impl Queue {
    /// Queues a job. A job that is refused is dropped.
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

    /// Refuses all further jobs. Those already queued are still executed.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Refuses all further jobs and drops the queued ones, which wakes their waiters: their senders
    /// are gone. The jobs are dropped outside the lock.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let jobs = mem::take(&mut state.jobs);
        drop(state);
        drop(jobs);
    }

    /// Returns the next task. Waits for it at most `patience`.
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

    /// Returns when the earliest overdue job was due; none if no job is due yet.
    pub(super) fn due_since(&self) -> Option<Instant> {
        let now = Instant::now();
        self.lock().due(now).filter(|due| *due <= now)
    }

    /// Ignores poisoning: no code that can panic runs under the lock, so the state is consistent.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    /// Returns when the most urgent job is due. Jobs other than writes are due now.
    fn due(&self, now: Instant) -> Option<Instant> {
        let dues = self.jobs.iter().map(|(job, _)| match job {
            WriterJob::Write(write) => write.due,
            WriterJob::Prune { .. } | WriterJob::Forgive { .. } => now,
        });
        dues.min()
    }

    /// Takes the first job or, if it is a write, all consecutive writes that fit into one group.
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
