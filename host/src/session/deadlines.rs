//! The deadlines of timers and approvals that this worker has set, by the boot clock: "in an hour" is
//! an hour later, however the wall clock is set meanwhile.
//!
//! On disk a timer has only its time by the wall clock, as it was set then. That time counts while the
//! clock has the setting that it had, so that no timer fires a moment before its own time because two
//! clocks are never read at one instant; and where no deadline is known: for timers of earlier workers,
//! and beyond [`DEADLINES_MAX`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{ClockReading, SessionId, Timer, UnixMillis};

/// The most deadlines that are kept, each of some 32 bytes.
const DEADLINES_MAX: usize = 1 << 20;
/// Settings of the wall clock that differ by less count as one.
const SAME_MS: i64 = 1_000;
/// How long a deadline is kept after it has passed: a session may be unable to take its timer.
const KEPT_AFTER: Duration = Duration::from_secs(3600);
/// How many deadlines are set between two searches for those that are of no use any more.
const SWEEP_EVERY: usize = 1 << 16;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Deadlines(Mutex<DeadlineTable>);

#[derive(Default)]
struct DeadlineTable {
    /// By the hash of a timer's session, name and due time. (Of two timers with the same hash, which
    /// is not expected to happen, the later one decides.)
    known: HashMap<u64, TimerDeadline>,
    hasher: RandomState,
    /// The settings of the wall clock by which timers were set, with the number of their deadlines.
    settings: Vec<(i64, usize)>,
    /// How many were set since the last sweep.
    set: usize,
}

#[derive(Clone, Copy)]
struct TimerDeadline {
    boot_ms: i64,
    /// The timer's time by the wall clock, as it is stored.
    due: UnixMillis,
    /// The index of its setting.
    setting: usize,
}

impl Deadlines {
    /// Keeps the deadline of a timer that is due at `due`, by the setting of the clock that `read`
    /// shows.
    pub(super) fn set(&self, id: &SessionId, name: &str, due: UnixMillis, read: ClockReading) {
        let mut table = self.table();
        table.sweep(read);
        if table.known.len() >= DEADLINES_MAX {
            return;
        }
        let deadline = TimerDeadline {
            boot_ms: wall_ms(due).saturating_sub(read.setting_ms()),
            due,
            setting: table.count_setting(read.setting_ms()),
        };
        let key = table.key(id, name, due);
        if let Some(before) = table.known.insert(key, deadline) {
            table.settings[before.setting].1 -= 1;
        }
    }

    /// Forgets the deadline of a timer that has fired or was cancelled.
    pub(super) fn forget(&self, id: &SessionId, name: &str, due: UnixMillis) {
        let mut table = self.table();
        let key = table.key(id, name, due);
        if let Some(deadline) = table.known.remove(&key) {
            table.settings[deadline.setting].1 -= 1;
        }
    }

    /// Returns the present time by the setting of the clock by which a timer was set.
    pub(super) fn time_of(
        &self,
        id: &SessionId,
        name: &str,
        due: UnixMillis,
        now: ClockReading,
    ) -> UnixMillis {
        let table = self.table();
        match table.known.get(&table.key(id, name, due)) {
            Some(deadline) if !table.has_setting(now, deadline.setting) => {
                let over_ms = now.boot_ms.saturating_sub(deadline.boot_ms);
                let time_ms = wall_ms(due).saturating_add(over_ms);
                UnixMillis(u64::try_from(time_ms).unwrap_or(0))
            }
            _ => now.wall,
        }
    }

    /// Returns how long it is until a timer is due; zero if it is.
    pub(super) fn left(&self, id: &SessionId, timer: &Timer, now: ClockReading) -> Duration {
        let time = self.time_of(id, &timer.name, timer.due, now);
        Duration::from_millis(timer.due.since(time))
    }

    /// Returns the latest stored time that a timer may have that is due now. It lies in the future
    /// after the clock was set back.
    pub(super) fn latest_due(&self, now: ClockReading) -> UnixMillis {
        let table = self.table();
        let settings = table.settings.iter().filter(|(_, count)| *count > 0);
        let latest = settings.map(|(setting_ms, _)| *setting_ms).max();
        let ahead_ms = latest.map_or(0, |latest| latest.saturating_sub(now.setting_ms()));
        match ahead_ms > SAME_MS {
            true => now
                .wall
                .later(Duration::from_millis((ahead_ms + SAME_MS).unsigned_abs())),
            false => now.wall,
        }
    }

    fn table(&self) -> MutexGuard<'_, DeadlineTable> {
        // Poisoning is harmless: nothing that panics runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeadlineTable {
    fn key(&self, id: &SessionId, name: &str, due: UnixMillis) -> u64 {
        self.hasher.hash_one((id, name, due))
    }

    /// Whether the wall clock shows the setting at this index.
    fn has_setting(&self, now: ClockReading, setting: usize) -> bool {
        is_same(self.settings[setting].0, now.setting_ms())
    }

    /// Counts one more deadline of a setting. Returns the setting's index.
    fn count_setting(&mut self, setting_ms: i64) -> usize {
        let mut settings = self.settings.iter();
        let known = settings.position(|(known, _)| is_same(*known, setting_ms));
        // The place of a setting that no deadline has any more is used again.
        let place = known.or_else(|| self.settings.iter().position(|(_, count)| *count == 0));
        match place {
            Some(place) => {
                if known.is_none() {
                    self.settings[place].0 = setting_ms;
                }
                self.settings[place].1 += 1;
                place
            }
            None => {
                self.settings.push((setting_ms, 1));
                self.settings.len() - 1
            }
        }
    }

    /// Drops now and then the deadlines that passed long ago, by both clocks. They are left by
    /// sessions whose timers could not be stored.
    fn sweep(&mut self, now: ClockReading) {
        self.set += 1;
        if self.set < SWEEP_EVERY {
            return;
        }
        self.set = 0;
        let settings = &mut self.settings;
        self.known.retain(|_, deadline| {
            let kept_ms = i64::try_from(KEPT_AFTER.as_millis()).unwrap_or(i64::MAX);
            let stays = deadline.boot_ms.saturating_add(kept_ms) > now.boot_ms
                || deadline.due.later(KEPT_AFTER) > now.wall;
            if !stays {
                settings[deadline.setting].1 -= 1;
            }
            stays
        });
    }
}

fn is_same(one_ms: i64, other_ms: i64) -> bool {
    one_ms.saturating_sub(other_ms).saturating_abs() <= SAME_MS
}

fn wall_ms(time: UnixMillis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn id(text: &str) -> SessionId {
        SessionId::new(text).expect("it is a plain name")
    }

    /// The reading `real_ms` after a start, with the wall clock set forward by `ahead_ms`.
    fn after(real_ms: i64, ahead_ms: i64) -> ClockReading {
        ClockReading {
            wall: UnixMillis((1_800_000_000_000 + real_ms + ahead_ms) as u64),
            boot_ms: 1_000_000 + real_ms,
        }
    }

    fn left(deadlines: &Deadlines, name: &str, due: UnixMillis, now: ClockReading) -> Duration {
        let timer = Timer {
            name: name.to_owned(),
            due,
            text: String::new(),
        };
        deadlines.left(&id("s"), &timer, now)
    }

    fn ms(ms: i64) -> Duration {
        Duration::from_millis(ms as u64)
    }

    #[test]
    fn a_timer_keeps_its_distance_however_the_clock_is_set() {
        let deadlines = Deadlines::default();
        let s = id("s");
        let due = after(0, 0).wall.later(ms(2 * HOUR_MS));
        deadlines.set(&s, "tick", due, after(0, 0));
        for ahead in [0, 5 * HOUR_MS, -5 * HOUR_MS] {
            let left_at = |real_ms| left(&deadlines, "tick", due, after(real_ms, ahead));
            assert_eq!(left_at(HOUR_MS), ms(HOUR_MS));
            assert_eq!(left_at(2 * HOUR_MS), Duration::ZERO);
            let now = after(2 * HOUR_MS, ahead);
            assert!(deadlines.latest_due(now) >= due, "{ahead}");
        }
        // It was never set in this worker.
        let other = |ahead| left(&deadlines, "other", due, after(HOUR_MS, ahead));
        assert_eq!(other(0), ms(HOUR_MS));
        assert_eq!(other(5 * HOUR_MS), Duration::ZERO);
        assert_eq!(other(-5 * HOUR_MS), ms(6 * HOUR_MS));
    }

    #[test]
    fn no_timer_is_early_because_the_clocks_were_read_apart() {
        let deadlines = Deadlines::default();
        let s = id("s");
        let due = after(0, 0).wall.later(ms(50));
        for apart_ms in [-1, 1, 300] {
            let read = after(0, 0);
            let boot_ms = read.boot_ms - apart_ms;
            deadlines.set(&s, "tick", due, ClockReading { boot_ms, ..read });
            let left_at = |real_ms| left(&deadlines, "tick", due, after(real_ms, 0));
            assert_eq!(left_at(49), ms(1), "{apart_ms}");
            assert_eq!(left_at(50), Duration::ZERO, "{apart_ms}");
        }
    }

    #[test]
    fn a_timer_that_is_set_after_a_step_has_the_new_setting() {
        let deadlines = Deadlines::default();
        let s = id("s");
        let old = after(0, 0).wall.later(ms(HOUR_MS));
        deadlines.set(&s, "old", old, after(0, 0));
        let back = -3 * HOUR_MS;
        let new = after(1000, back).wall.later(ms(HOUR_MS));
        deadlines.set(&s, "new", new, after(1000, back));
        let now = after(HOUR_MS, back);
        assert_eq!(left(&deadlines, "old", old, now), Duration::ZERO);
        assert_eq!(left(&deadlines, "new", new, now), ms(1000));
        assert!(deadlines.latest_due(now) > now.wall);
        deadlines.forget(&s, "old", old);
        assert_eq!(deadlines.latest_due(now), now.wall);
    }

    #[test]
    fn what_is_forgotten_and_what_passed_long_ago_takes_no_memory() {
        let deadlines = Deadlines::default();
        let s = id("s");
        let start = after(0, 0);
        for n in 0..SWEEP_EVERY - 1 {
            deadlines.set(&s, "a", start.wall.later(ms(n as i64)), start);
        }
        deadlines.set(&s, "later", start.wall.later(ms(3 * HOUR_MS)), start);
        assert_eq!(deadlines.table().known.len(), SWEEP_EVERY);
        for n in 0..100 {
            deadlines.forget(&s, "a", start.wall.later(ms(n)));
        }
        assert_eq!(deadlines.table().known.len(), SWEEP_EVERY - 100);
        let late = after(2 * HOUR_MS, 0);
        deadlines.table().set = SWEEP_EVERY;
        deadlines.set(&s, "new", late.wall, late);
        assert_eq!(deadlines.table().known.len(), 2);
        assert_eq!(deadlines.table().settings.len(), 1);
    }

    proptest! {
        /// Over any steps of the clock, each timer is due after exactly its distance, and a search up
        /// to the latest stored time finds all that are due.
        #[test]
        fn each_timer_keeps_its_distance(
            moves in proptest::collection::vec((0_i64..10, -50_i64..50, 1_i64..40), 1..60),
        ) {
            let deadlines = Deadlines::default();
            let s = id("s");
            let (mut real_ms, mut set) = (0, Vec::new());
            for (n, (passed, ahead, distance)) in moves.into_iter().enumerate() {
                real_ms += passed * HOUR_MS;
                let now = after(real_ms, ahead * HOUR_MS);
                let due = now.wall.later(ms(distance * HOUR_MS));
                deadlines.set(&s, &n.to_string(), due, now);
                set.push((n, due, real_ms + distance * HOUR_MS));
                for (n, due, due_ms) in &set {
                    let left = left(&deadlines, &n.to_string(), *due, now);
                    prop_assert_eq!(left, ms((due_ms - real_ms).max(0)));
                    prop_assert!(!left.is_zero() || *due <= deadlines.latest_due(now));
                }
                // As the loop does.
                set.retain(|(n, due, due_ms)| {
                    let fires = *due_ms <= real_ms;
                    if fires {
                        deadlines.forget(&s, &n.to_string(), *due);
                    }
                    !fires
                });
                prop_assert_eq!(deadlines.table().known.len(), set.len());
            }
        }
    }
}
