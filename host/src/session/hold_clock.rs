//! The alarm of held records, one for all sessions. Most of them are written before it rings: a timer for
//! each would be set and taken back in every turn, and wake the thread that waits for the next one.
//!
//! ```text
//!   ticks    n        n+1        n+2      every PERIOD, as long as somebody waits
//!            |    ^    |          |
//!                held             due: after 1 to 2 periods; after 2 where the clock stood still
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// The time between two ticks.
const PERIOD: Duration = Duration::from_millis(4);
/// In how many ticks held records are due. Who waits for one of them is in a list of its own, so that no
/// earlier one wakes it.
const TICKS: usize = 2;

/// A moment of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(u64);

/// Rings for those that wait; stands still while nobody does.
#[derive(Clone, Default)]
pub(super) struct HoldClock(Arc<Ticks>);

#[derive(Default)]
struct Ticks {
    passed: AtomicU64,
    /// Those that wait for a tick, by its number modulo [`TICKS`].
    waiting: [Notify; TICKS],
    /// How many wait.
    count: AtomicUsize,
    runs: AtomicBool,
}

impl HoldClock {
    /// Returns when what is held from now on is due.
    pub(super) fn due(&self) -> Tick {
        Tick(self.0.passed() + TICKS as u64)
    }

    /// Waits for a tick. Cancel safe: the clock may stand still until it is waited for again.
    pub(super) async fn until(&self, Tick(due): Tick) {
        let _waits = self.waits();
        loop {
            let rings = self.0.list(due).notified();
            tokio::pin!(rings);
            rings.as_mut().enable();
            if self.0.passed() >= due {
                return;
            }
            rings.await;
        }
    }

    fn waits(&self) -> Waits<'_> {
        let ticks = &self.0;
        ticks.count.fetch_add(1, Ordering::SeqCst);
        if !ticks.runs.swap(true, Ordering::SeqCst) {
            tokio::spawn(run(ticks.clone()));
        }
        Waits(ticks)
    }
}

/// Somebody who waits.
struct Waits<'a>(&'a Ticks);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticks {
    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    fn list(&self, tick: u64) -> &Notify {
        &self.waiting[tick as usize % TICKS]
    }

    /// Stops the clock if nobody waits.
    fn stops(&self) -> bool {
        if self.count.load(Ordering::SeqCst) > 0 {
            return false;
        }
        self.runs.store(false, Ordering::SeqCst);
        // Who came in between has seen it run, unless it has started it again.
        self.count.load(Ordering::SeqCst) == 0 || self.runs.swap(true, Ordering::SeqCst)
    }
}

async fn run(ticks: Arc<Ticks>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let tick = ticks.passed.fetch_add(1, Ordering::SeqCst) + 1;
        ticks.list(tick).notify_waiters();
        if ticks.stops() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn it_rings_after_one_to_two_periods() {
        let clock = HoldClock::default();
        for _ in 0..3 {
            let (since, now) = (Instant::now(), clock.0.passed());
            clock.until(clock.due()).await;
            assert!(clock.0.passed() >= now + 2 && since.elapsed() > PERIOD);
        }
    }

    #[tokio::test]
    async fn it_stands_still_while_nobody_waits() {
        let clock = HoldClock::default();
        let due = clock.due();
        assert!(clock.until(due).now_or_never().is_none(), "it is not due");
        while clock.0.runs.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert_eq!(clock.0.passed(), 1, "the tick that was on its way");
        clock.until(due).await;
        // What has passed is not waited for.
        assert!(clock.until(due).now_or_never().is_some());
    }
}
