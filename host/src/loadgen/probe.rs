//! Observes a run while it is in progress, and stops it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::stats::{LoadCounts, Tally};

/// The number of tallies that connections are spread over. A power of two.
const TALLIES: usize = 8;

/// A handle on a run. Clones refer to the same run; a probe serves for one run only.
#[derive(Clone, Debug, Default)]
pub struct LoadProbe(Arc<ProbeState>);

#[derive(Debug)]
struct ProbeState {
    began: Instant,
    stopped: AtomicBool,
    /// The number of disturbances so far, which is the index of the current stretch.
    disturbances: AtomicUsize,
    /// Each disturbance, and when it began.
    history: Mutex<Vec<(String, Duration)>>,
    /// When any connection last got an answer, in nanoseconds since `began`.
    last_answer: AtomicU64,
    tallies: [Mutex<Tally>; TALLIES],
}

impl Default for ProbeState {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            stopped: AtomicBool::new(false),
            disturbances: AtomicUsize::new(0),
            history: Mutex::default(),
            last_answer: AtomicU64::new(0),
            tallies: std::array::from_fn(|_| Mutex::new(Tally::new())),
        }
    }
}

/// Ignores poisoning: nothing panics while it holds one of these locks, and counts are consistent
/// at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoadProbe {
    /// Creates a probe for a run that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run: no turn is begun any more, and none is retried.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// Records that the server is about to be disturbed: by a restart, a kill. From now until the
    /// next disturbance, waiting of clients is attributed to this one.
    pub fn disturb(&self, what: impl Into<String>) {
        let mut history = lock(&self.0.history);
        history.push((what.into(), self.elapsed()));
        // Stored under the lock, so that the count never exceeds the history nor goes back.
        self.0.disturbances.store(history.len(), Ordering::Release);
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> LoadCounts {
        let mut counts = LoadCounts::default();
        for tally in &self.0.tallies {
            counts.add(&lock(tally).counts);
        }
        counts
    }

    /// Records that the load begins. Returns the time from which its turns count.
    pub(super) fn begin(&self, warm_up: Duration) -> Duration {
        let now = self.elapsed();
        // Start measuring silences now: the first answer must not end a silence from before the
        // load.
        self.answered(now);
        now + warm_up
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Returns the index of the current stretch.
    pub(super) fn stretch(&self) -> usize {
        self.0.disturbances.load(Ordering::Acquire)
    }

    /// Returns the index of the stretch that contains that moment.
    pub(super) fn stretch_at(&self, moment: Duration) -> usize {
        let history = lock(&self.0.history);
        history.partition_point(|(_, at)| *at <= moment)
    }

    pub(super) fn history(&self) -> Vec<(String, Duration)> {
        lock(&self.0.history).clone()
    }

    pub(super) fn tally(&self, connection: usize) -> MutexGuard<'_, Tally> {
        lock(&self.0.tallies[connection % TALLIES])
    }

    /// Records that an answer arrived now. Returns how long before that no connection got an
    /// answer.
    pub(super) fn answered(&self, now: Duration) -> Duration {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        // `fetch_max`, since connections may record their answers out of order.
        let before = self.0.last_answer.fetch_max(now, Ordering::Relaxed);
        Duration::from_nanos(now.saturating_sub(before))
    }

    /// Returns the sum of all tallies.
    pub(super) fn total(&self) -> Tally {
        let mut total = Tally::new();
        for tally in &self.0.tallies {
            total.add(&lock(tally));
        }
        total
    }
}
