//! Connections that have not sent a complete request yet. When there is no room, the one that has been so
//! for the longest makes room for who comes: else whoever opens connections and says nothing keeps out
//! probes and clients.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The silent connections of a server, the oldest first.
#[derive(Default)]
pub(super) struct Silent {
    next: AtomicU64,
    connections: Mutex<BTreeMap<u64, SilentConnection>>,
}

struct SilentConnection {
    since: Instant,
    end: CancellationToken,
}

/// A connection that is silent until it has spoken.
pub(super) struct Newcomer {
    among: Arc<Silent>,
    number: u64,
    end: CancellationToken,
    /// So that only the first request takes the lock.
    has_spoken: AtomicBool,
}

impl Silent {
    /// Adds a connection, which also ends with all others: once `cut` is cancelled.
    pub(super) fn enter(self: &Arc<Self>, cut: &CancellationToken) -> Newcomer {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let end = cut.child_token();
        let connection = SilentConnection {
            since: Instant::now(),
            end: end.clone(),
        };
        self.lock().insert(number, connection);
        Newcomer {
            among: self.clone(),
            number,
            end,
            has_spoken: AtomicBool::new(false),
        }
    }

    /// Ends the connection that has been silent for the longest, if that is `least`. Returns whether there
    /// was one.
    pub(super) fn end_oldest(&self, least: Duration) -> bool {
        let mut connections = self.lock();
        let Some(oldest) = connections.first_entry() else {
            return false;
        };
        if oldest.get().since.elapsed() < least {
            return false;
        }
        oldest.remove().end.cancel();
        true
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, SilentConnection>> {
        // Ignores poisoning: each change is one insertion or removal.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newcomer {
    /// Notes that the connection has sent a complete request head. It is not ended any more.
    pub(super) fn has_spoken(&self) {
        if !self.has_spoken.swap(true, Ordering::Relaxed) {
            self.among.lock().remove(&self.number);
        }
    }

    /// Returns what is cancelled when the connection is to end.
    pub(super) fn end(&self) -> CancellationToken {
        self.end.clone()
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.has_spoken();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_unless_it_has_spoken() {
        let silent = Arc::new(Silent::default());
        let cut = CancellationToken::new();
        let [first, second, third] = [(); 3].map(|()| silent.enter(&cut));
        first.has_spoken();
        assert!(!silent.end_oldest(Duration::from_secs(3600)));
        assert!(silent.end_oldest(Duration::ZERO));
        assert!(!first.end.is_cancelled() && second.end.is_cancelled());
        drop(third);
        assert!(!silent.end_oldest(Duration::ZERO));
        cut.cancel();
        assert!(first.end.is_cancelled());
    }
}
