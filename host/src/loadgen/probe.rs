//! What goes on while it runs: seen and steered from outside.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::stats::{LoadCounts, Tally};

/// Tallies among which connections are spread. A power of two.
const TALLIES: usize = 8;

/// A run as seen from outside. Clones see the same run; it serves for one.
#[derive(Clone, Debug, Default)]
pub struct LoadProbe(Arc<ProbeState>);

#[derive(Debug)]
struct ProbeState {
    began: Instant,
    stopped: AtomicBool,
    /// How many there were; the number of the stretch that goes on.
    disturbances: AtomicUsize,
    /// What was done, and when.
    history: Mutex<Vec<(String, Duration)>>,
    /// When any connection got an answer last, in nanoseconds since it began.
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

/// Nothing panics while it holds one of these locks, and counts are whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoadProbe {
    /// Of a run that has yet to begin.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the run: no turn is begun any more, and none is sent again.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// Something is about to be done to the server: a restart, a kill. What clients wait for from
    /// now on belongs to it, until the next.
    pub fn disturb(&self, what: impl Into<String>) {
        let mut history = lock(&self.0.history);
        history.push((what.into(), self.elapsed()));
        self.0.disturbances.store(history.len(), Ordering::Release);
    }

    /// How often what has happened so far.
    pub fn counts(&self) -> LoadCounts {
        let mut counts = LoadCounts::default();
        for tally in &self.0.tallies {
            counts.add(&lock(tally).counts);
        }
        counts
    }

    /// The load begins now; from when on its turns count.
    pub(super) fn begin(&self, warm_up: Duration) -> Duration {
        let now = self.elapsed();
        // Without an answer so far, the first one ends no silence.
        self.answered(now);
        now + warm_up
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// The stretch that goes on.
    pub(super) fn stretch(&self) -> usize {
        self.0.disturbances.load(Ordering::Acquire)
    }

    /// The stretch in which that moment lay.
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

    /// An answer came now: how long there was none, for any connection.
    pub(super) fn answered(&self, now: Duration) -> Duration {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let before = self.0.last_answer.fetch_max(now, Ordering::Relaxed);
        Duration::from_nanos(now.saturating_sub(before))
    }

    /// All tallies as one.
    pub(super) fn total(&self) -> Tally {
        let mut total = Tally::new();
        for tally in &self.0.tallies {
            total.add(&lock(tally));
        }
        total
    }
}
