//! The writer thread: it writes everything that is queued in one synced batch, then notifies all
//! waiters.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rocksdb::{DB, WriteBatch, WriteOptions};
use tokio::sync::oneshot;

/// A turn's changes: the index of the column family, the key, and its new value (`None` deletes the
/// key).
pub(super) type Ops = Vec<(usize, Vec<u8>, Option<Vec<u8>>)>;

/// The turns that wait to be written.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<(Ops, oneshot::Sender<()>)>>,
    news: Condvar,
}

impl Queue {
    /// Queues a turn; the receiver resolves once the turn is synced.
    pub(super) fn push(&self, ops: Ops) -> oneshot::Receiver<()> {
        let (done, synced) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((ops, done));
        // Unlock before waking the writer, which needs the lock.
        drop(waiting);
        self.news.notify_one();
        synced
    }

    fn take(&self) -> Vec<(Ops, oneshot::Sender<()>)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.news.wait_while(waiting, |waiting| waiting.is_empty());
        std::mem::take(&mut *waiting.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts the thread; [`Ops`] refer to `families` by index.
pub(super) fn start(db: Arc<DB>, families: Vec<String>, queue: Arc<Queue>) {
    thread::spawn(move || {
        let handles: Vec<_> = families
            .iter()
            .map(|name| db.cf_handle(name).expect("all families were opened"))
            .collect();
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        loop {
            let group = queue.take();
            let mut batch = WriteBatch::default();
            for (family, key, value) in group.iter().flat_map(|(ops, _)| ops) {
                match value {
                    Some(value) => batch.put_cf(handles[*family], key, value),
                    None => batch.delete_cf(handles[*family], key),
                }
            }
            if let Err(error) = db.write_opt(batch, &synced) {
                // The waiters get no reply, so the measurement reports failed turns.
                eprintln!("the write failed: {error}");
                continue;
            }
            // The batch is synced: only now may its turns be answered.
            for (_, done) in group {
                // An error means that the client has disconnected.
                let _ = done.send(());
            }
        }
    });
}
