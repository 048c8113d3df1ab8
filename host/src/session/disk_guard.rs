//! The disk guard: while less disk space is free than the reserve, nothing new is accepted, so that
//! accepted work can finish and a restart can be recorded. The free space is measured from time to
//! time, not for each message. While the disk completes no write, requests that need one are not
//! left waiting either.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::domain::{DiskSigns, Refusal};

/// The last measurement of the disk. Before the first one, everything is accepted.
#[derive(Default)]
pub(super) struct Space {
    is_low: AtomicBool,
    seen: AtomicBool,
    free_bytes: AtomicU64,
    reserve_bytes: AtomicU64,
    /// Whether the store's writer has had work for long and completed nothing.
    stalled: watch::Sender<bool>,
}

impl Space {
    /// Stores a measurement. The values are not updated atomically together, which is harmless:
    /// only `is_low` decides, the others are for reports.
    pub(super) fn update(&self, free_bytes: u64, reserve_bytes: u64) {
        let was_low = self.is_low.load(Ordering::Relaxed);
        let is_low = DiskSigns::is_low(was_low, free_bytes, reserve_bytes);
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
        self.reserve_bytes.store(reserve_bytes, Ordering::Relaxed);
        self.is_low.store(is_low, Ordering::Relaxed);
        self.seen.store(true, Ordering::Relaxed);
    }

    /// Returns a refusal if nothing new may be accepted.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self.is_low.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Refusal::DiskNearlyFull {
                free_bytes: self.free_bytes.load(Ordering::Relaxed),
                reserve_bytes: self.reserve_bytes.load(Ordering::Relaxed),
            }),
        }
    }

    /// Stores whether the store's writer has stalled.
    pub(super) fn writer_seen(&self, stalled: bool) {
        let changes = |known: &mut bool| std::mem::replace(known, stalled) != stalled;
        self.stalled.send_if_modified(changes);
    }

    /// Returns whether the store's writer has stalled.
    pub(super) fn is_stalled(&self) -> bool {
        *self.stalled.borrow()
    }

    /// Waits until the store's writer has stalled.
    pub(super) async fn until_stalled(&self) {
        let mut stalled = self.stalled.subscribe();
        // An error is impossible: the sender lives as long as `self`.
        let _ = stalled.wait_for(|stalled| *stalled).await;
    }

    /// Returns the last measurement, if there was one.
    pub(super) fn signs(&self) -> Option<DiskSigns> {
        self.seen.load(Ordering::Relaxed).then(|| DiskSigns {
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            reserve_bytes: self.reserve_bytes.load(Ordering::Relaxed),
            is_low: self.is_low.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_refused_until_more_is_free() {
        let space = Space::default();
        assert!(space.signs().is_none() && space.check().is_ok());
        space.update(99, 100);
        let refused = Refusal::DiskNearlyFull {
            free_bytes: 99,
            reserve_bytes: 100,
        };
        assert_eq!(space.check(), Err(refused));
        space.update(105, 100);
        assert!(space.check().is_err(), "it would be refused again at once");
        space.update(120, 100);
        assert_eq!(space.check(), Ok(()));
        space.update(120, 1000);
        assert!(space.check().is_err(), "the limit is another one now");
    }
}
