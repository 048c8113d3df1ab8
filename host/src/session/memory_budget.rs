//! The memory budget of all sessions together: messages in transit and in inboxes, cached snapshots
//! and the sessions themselves. It is bounded, so that a flood is refused (with a hint when to
//! retry) while there is still room for what was accepted before.
//!
//! ```text
//!   0 ............. half ............... max
//!     normal         idle sessions leave   beyond it, messages
//!                    memory at once        are refused (429)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Refusal;

/// The budget, in bytes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Memory(Arc<Held>);

struct Held {
    held: AtomicU64,
    max: u64,
}

impl Memory {
    pub(super) fn new(max: u64) -> Self {
        let held = AtomicU64::new(0);
        Self(Arc::new(Held { held, max }))
    }

    /// Returns whether memory that need not be held should be released.
    pub(super) fn is_scarce(&self) -> bool {
        self.held() > self.0.max / 2
    }

    /// Reserves memory for a message, or for a request that may become one, while the share lives.
    /// Check and update are not one atomic step, so concurrent calls may exceed the budget a
    /// little.
    pub(super) fn room(&self, bytes: u64) -> Result<Share, Refusal> {
        let mut share = self.share();
        share.grow(bytes)?;
        Ok(share)
    }

    /// Returns an initially empty share for a holder that cannot be refused.
    pub(super) fn share(&self) -> Share {
        let memory = self.clone();
        Share { memory, bytes: 0 }
    }

    fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }
}

/// A share of the memory budget, released when it is dropped.
pub struct Share {
    memory: Memory,
    bytes: u64,
}

impl Share {
    /// Reserves as much more, or refuses it: what is held then stays as it is.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        let memory = &self.memory;
        if memory.held().saturating_add(bytes) > memory.0.max {
            metrics::counter!("abide_overloaded_total").increment(1);
            return Err(Refusal::Overloaded {
                limit: memory.0.max,
            });
        }
        self.set(self.bytes.saturating_add(bytes));
        Ok(())
    }

    pub(super) fn set(&mut self, bytes: u64) {
        let held = &self.memory.0.held;
        if bytes > self.bytes {
            held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let memory = Memory::new(100);
        let mut session = memory.share();
        session.set(50);
        assert!(!memory.is_scarce());
        let message = memory.room(50).expect("there is room");
        assert!(memory.is_scarce());
        let refused = memory.room(1).err();
        assert_eq!(refused, Some(Refusal::Overloaded { limit: 100 }));
        drop(message);
        let mut message = memory.room(20).expect("there is room");
        assert_eq!(message.grow(31), Err(Refusal::Overloaded { limit: 100 }));
        assert_eq!(message.grow(30), Ok(()));
        session.set(120);
        drop(message);
        session.set(10);
        assert!(memory.room(90).is_ok());
        drop(session);
        assert_eq!(memory.held(), 0);
    }
}
