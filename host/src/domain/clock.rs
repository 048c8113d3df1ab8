//! The machine's two clocks. The wall clock can be set; the boot clock only runs, also while the
//! machine is suspended. Their difference is the *setting* of the wall clock: while it stays, both
//! agree about every distance; a *step* is its change.
//!
//! ```text
//!   wall  ----A----:            :----B----      stored times are of the wall clock
//!                   '--step---->'
//!   boot  --------------------------------
//! ```
//!
//! What was stored before a step must not be judged by the setting after it: an idempotency key is
//! not a day old because the clock was set forward by a day. [`ClockHistory`] remembers the settings
//! that were in force lately, and [`ClockHistory::cautious`] gives the time by the one that was
//! furthest behind. It is a little state with no clock of its own; [`MachineClock`] shares one, and
//! reads the machine's clocks for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// Smaller changes of the setting are none: the two clocks cannot be read at the same instant.
const SAME_MS: u64 = 5_000;
/// The maximum number of earlier settings that are remembered.
const EARLIER_MAX: usize = 64;
/// How long a setting is remembered after its end. No window that is asked for is longer.
const REMEMBERED_MS: i64 = 10 * 366 * 24 * 3600 * 1000;
/// How often both clocks are read until they are read close enough together.
const READ_ATTEMPTS: usize = 4;

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    pub wall: UnixMillis,
    /// Milliseconds since the machine was booted, suspended times included. Negative for a moment
    /// before that.
    pub boot_ms: i64,
}

impl ClockReading {
    /// Reads the machine's clocks.
    pub fn now() -> Self {
        let mut reading = Self::read();
        for _ in 1..READ_ATTEMPTS {
            // The thread may lose its CPU between the two readings.
            if boot_ms().saturating_sub(reading.boot_ms) <= 1 {
                break;
            }
            reading = Self::read();
        }
        reading
    }

    fn read() -> Self {
        Self {
            boot_ms: boot_ms(),
            wall: UnixMillis::now(),
        }
    }

    /// Returns the setting of the wall clock: what the boot clock lacks to it.
    pub fn setting_ms(self) -> i64 {
        signed(self.wall).saturating_sub(self.boot_ms)
    }
}

fn boot_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let whole = now.tv_sec.saturating_mul(1000);
    whole.saturating_add(now.tv_nsec / 1_000_000)
}

fn signed(time: UnixMillis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn unsigned(ms: i64) -> UnixMillis {
    UnixMillis(u64::try_from(ms).unwrap_or(0))
}

/// A setting that is not in force any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EarlierSetting {
    setting_ms: i64,
    /// When its end was noticed, by the boot clock.
    until_boot_ms: i64,
}

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// By how much the clock was set forward, or back if negative.
    pub by_ms: i64,
    /// The time that it showed when this was noticed.
    pub to: UnixMillis,
    /// How long ago that was.
    pub ago: Duration,
}

/// The present setting of the wall clock, and earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockHistory {
    setting_ms: i64,
    /// The oldest first.
    earlier: Vec<EarlierSetting>,
}

impl ClockHistory {
    pub fn new(now: ClockReading) -> Self {
        Self {
            setting_ms: now.setting_ms(),
            earlier: Vec::new(),
        }
    }

    /// Takes a reading into account. Returns by how much the clock was set forward since the last
    /// one (or back, if negative), if it was.
    pub fn observe(&mut self, now: ClockReading) -> Option<i64> {
        let by_ms = now.setting_ms().saturating_sub(self.setting_ms);
        if by_ms.unsigned_abs() <= SAME_MS {
            return None;
        }
        self.earlier.push(EarlierSetting {
            setting_ms: self.setting_ms,
            until_boot_ms: now.boot_ms,
        });
        self.setting_ms = now.setting_ms();
        let forgotten = now.boot_ms.saturating_sub(REMEMBERED_MS);
        self.earlier.retain(|one| one.until_boot_ms > forgotten);
        if self.earlier.len() > EARLIER_MAX {
            // As one: nothing is judged older by that.
            let oldest = self.earlier.remove(0);
            if let Some(next) = self.earlier.first_mut() {
                next.setting_ms = next.setting_ms.min(oldest.setting_ms);
            }
        }
        Some(by_ms)
    }

    /// Continues a history that was kept in an earlier boot of the machine, whose boot clock was
    /// another one. How long the machine was off, and whether its clock was set meanwhile, only the
    /// wall clock can tell.
    #[must_use]
    pub fn after_boot(mut self, now: ClockReading) -> Self {
        let moved = now.setting_ms().saturating_sub(self.setting_ms);
        self.setting_ms = now.setting_ms();
        for one in &mut self.earlier {
            one.setting_ms = one.setting_ms.saturating_add(moved);
            one.until_boot_ms = one.until_boot_ms.saturating_sub(moved);
        }
        self
    }

    /// Returns the time by the setting that was furthest behind of those that were in force within
    /// the last `window`. So nothing that was stored within that window is older by it than it
    /// really is (by [`SAME_MS`] at most), however the clock was set since; what was stored before
    /// may be judged younger.
    pub fn cautious(&self, now: ClockReading, window: Duration) -> UnixMillis {
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        let since = now.boot_ms.saturating_sub(window_ms);
        let recent = self.earlier.iter().filter(|one| one.until_boot_ms >= since);
        // The reading may be the first one after a step.
        let present = now.setting_ms().min(self.setting_ms);
        let behind = recent.map(|one| one.setting_ms).fold(present, i64::min);
        unsigned(now.boot_ms.saturating_add(behind))
    }

    /// Returns the steps of at least `least` that were noticed within the last `window`, the oldest
    /// first.
    pub fn steps(&self, now: ClockReading, window: Duration, least: Duration) -> Vec<ClockStep> {
        let settings = self.earlier.iter().map(|one| one.setting_ms);
        let next = settings.skip(1).chain([self.setting_ms]);
        let steps = self.earlier.iter().zip(next).map(|(one, next)| {
            let ago_ms = now.boot_ms.saturating_sub(one.until_boot_ms);
            ClockStep {
                by_ms: next.saturating_sub(one.setting_ms),
                to: unsigned(one.until_boot_ms.saturating_add(next)),
                ago: Duration::from_millis(u64::try_from(ago_ms).unwrap_or(0)),
            }
        });
        steps
            .filter(|step| step.ago < window)
            .filter(|step| u128::from(step.by_ms.unsigned_abs()) >= least.as_millis())
            .collect()
    }
}

/// The machine's clock with its history, which all clones share.
#[derive(Clone, Debug)]
pub struct MachineClock(Arc<Mutex<ClockHistory>>);

impl MachineClock {
    pub fn new(history: ClockHistory) -> Self {
        Self(Arc::new(Mutex::new(history)))
    }

    /// Reads the clock and notes whether it was set. Returns the history if it has changed.
    pub fn observe(&self) -> Option<ClockHistory> {
        let mut history = self.lock();
        history.observe(ClockReading::now())?;
        Some(history.clone())
    }

    /// Returns the time by which nothing that was stored within the last `window` is older than it
    /// really is; see [`ClockHistory::cautious`].
    pub fn cautious(&self, window: Duration) -> UnixMillis {
        self.lock().cautious(ClockReading::now(), window)
    }

    /// Returns the moment that was `window` ago, or an earlier one if the clock was set forward
    /// since: what was stored after it may have been stored within the window.
    pub fn window_start(&self, window: Duration) -> UnixMillis {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        UnixMillis(self.cautious(window).0.saturating_sub(window_ms))
    }

    /// Returns the steps of at least `least` within the last `window`.
    pub fn steps(&self, window: Duration, least: Duration) -> Vec<ClockStep> {
        self.lock().steps(ClockReading::now(), window, least)
    }

    /// Returns the history so far.
    pub fn history(&self) -> ClockHistory {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ClockHistory> {
        // Poisoning is harmless: nothing that panics runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MachineClock {
    fn default() -> Self {
        Self::new(ClockHistory::new(ClockReading::now()))
    }
}
