//! Room on the disk: while less is free than is held back, nothing new is accepted, so that what
//! was accepted before can end, and a restart be written down. Somebody looks from time to time;
//! a message costs no look.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::domain::{DiskSigns, Refusal};

/// What the last look has found. Until the first one there is room.
#[derive(Default)]
pub(super) struct Space {
    is_low: AtomicBool,
    seen: AtomicBool,
    free_bytes: AtomicU64,
    reserve_bytes: AtomicU64,
}

impl Space {
    /// Takes a look in.
    pub(super) fn update(&self, free_bytes: u64, reserve_bytes: u64) {
        let was_low = self.is_low.load(Ordering::Relaxed);
        let is_low = DiskSigns::is_low(was_low, free_bytes, reserve_bytes);
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
        self.reserve_bytes.store(reserve_bytes, Ordering::Relaxed);
        self.is_low.store(is_low, Ordering::Relaxed);
        self.seen.store(true, Ordering::Relaxed);
    }

    /// Whether something new may be accepted.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self.is_low.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Refusal::DiskNearlyFull {
                free_bytes: self.free_bytes.load(Ordering::Relaxed),
                reserve_bytes: self.reserve_bytes.load(Ordering::Relaxed),
            }),
        }
    }

    /// What was seen last.
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
