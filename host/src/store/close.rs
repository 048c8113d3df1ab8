//! Closing: what has been appended is written, RocksDB ends, the lock is released.

use std::{fs::File, sync::PoisonError, thread};

use super::{Store, handle::Handles};

impl Store {
    /// Writes what has been appended and closes. When this returns, another process may open the
    /// folder; what is asked of other clones of the handle fails with
    /// [`StoreError::Closed`](super::StoreError::Closed). Waits for the disk.
    pub fn close(self) {
        self.inner.close();
    }
}

impl Handles {
    fn close(&self) {
        self.core.queue.close();
        // Held until the end, so that a second closer returns no earlier than the first.
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer
            && writer.thread().id() != thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!(
                "the store's writer panicked; what it had not synced was not acknowledged"
            );
        }
        if let Some(file) = lock.take() {
            release(&file);
        }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.close();
    }
}

/// Releases the lock even where a child that is about to exec still has the descriptor.
pub(super) fn release(lock: &File) {
    if let Err(error) = rustix::fs::flock(lock, rustix::fs::FlockOperation::Unlock) {
        tracing::warn!("cannot release the lock on the data folder: {error}");
    }
}
