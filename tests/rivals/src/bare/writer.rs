//! The one thread that writes: all that waits in one synced batch, then everybody is told.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rocksdb::{DB, WriteBatch, WriteOptions};
use tokio::sync::oneshot;

/// A turn's changes: the number of the family, the key, and what it is set to.
pub(super) type Ops = Vec<(usize, Vec<u8>, Option<Vec<u8>>)>;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<(Ops, oneshot::Sender<()>)>>,
    news: Condvar,
}

impl Queue {
    /// Hands a turn over; the receiver hears when it is synced.
    pub(super) fn push(&self, ops: Ops) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((ops, done));
        drop(waiting);
        self.news.notify_one();
        told
    }

    fn take(&self) -> Vec<(Ops, oneshot::Sender<()>)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.news.wait_while(waiting, |waiting| waiting.is_empty());
        std::mem::take(&mut *waiting.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts the thread; `families` are told by their numbers in [`Ops`].
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
                // Nobody is told; whoever measures sees it.
                eprintln!("the write failed: {error}");
                continue;
            }
            for (_, done) in group {
                // An error means that the client has gone.
                let _ = done.send(());
            }
        }
    });
}
