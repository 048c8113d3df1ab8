//! Closing the store: write what has been appended, close RocksDB, release the lock.

use std::{sync::PoisonError, thread};

use super::{Store, folder_lock::release, handle::Handles};

impl Store {
    /// Writes what has been appended and closes the store. Once this returns, another process may
    /// open the folder, and calls of other clones of the handle fail with
    /// [`StoreError::Closed`](super::StoreError::Closed). Waits for the disk.
    pub fn close(self) {
        self.inner.close();
    }
}

impl Handles {
    fn close(&self) {
        self.core.queue.close();
        // Held until the end, so that a concurrent second `close` does not return before the first.
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // If the last handle is dropped on the writer's own thread, it must not join itself.
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
