//! The wall clock may be set at any time and by any amount; what was stored is not older for that.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const HOUR_MS: i64 = 3_600_000;
const DAY: Duration = Duration::from_secs(24 * 3600);
const START: ClockReading = ClockReading {
    wall: UnixMillis(1_800_000_000_000),
    boot_ms: 1_000_000,
};

/// The reading `real_ms` after the start, with the wall clock set forward by `ahead_ms`.
fn after(real_ms: i64, ahead_ms: i64) -> ClockReading {
    ClockReading {
        wall: UnixMillis((START.wall.0 as i64 + real_ms + ahead_ms) as u64),
        boot_ms: START.boot_ms + real_ms,
    }
}

#[test]
fn a_clock_that_is_not_set_is_believed() {
    let mut history = ClockHistory::new(START);
    for (real_ms, wavers_ms) in [(1000, 0), (2000, 900), (HOUR_MS, -4000), (HOUR_MS, 5000)] {
        assert_eq!(history.observe(after(real_ms, wavers_ms)), None);
    }
    let now = after(2 * HOUR_MS, 0);
    assert_eq!(history.cautious(now, DAY), now.wall);
    assert_eq!(history.steps(now, DAY, Duration::ZERO), []);
}

#[test]
fn a_step_forward_makes_nothing_older_for_as_long_as_the_window() {
    let mut history = ClockHistory::new(START);
    let ahead = 25 * HOUR_MS;
    // Not noticed yet.
    assert_eq!(
        history.cautious(after(1000, ahead), DAY),
        after(1000, 0).wall
    );
    assert_eq!(history.observe(after(1000, ahead)), Some(ahead));
    for real_ms in [1000, HOUR_MS, 24 * HOUR_MS] {
        let now = after(real_ms, ahead);
        assert_eq!(history.cautious(now, DAY), after(real_ms, 0).wall);
    }
    let later = after(24 * HOUR_MS + 1001, ahead);
    assert_eq!(history.cautious(later, DAY), later.wall);
    let step = history.steps(after(61_000, ahead), DAY, Duration::from_secs(60));
    let expected = ClockStep {
        by_ms: ahead,
        to: after(1000, ahead).wall,
        ago: Duration::from_secs(60),
    };
    assert_eq!(step, [expected]);
    assert_eq!(history.steps(later, DAY, Duration::ZERO), []);
}

#[test]
fn a_step_back_is_told_and_the_new_setting_is_the_one_furthest_behind() {
    let mut history = ClockHistory::new(START);
    assert_eq!(
        history.observe(after(1000, -5 * HOUR_MS)),
        Some(-5 * HOUR_MS)
    );
    let now = after(2000, -5 * HOUR_MS);
    assert_eq!(history.cautious(now, DAY), now.wall);
    assert_eq!(history.steps(now, DAY, Duration::ZERO).len(), 1);
}

#[test]
fn a_history_goes_on_after_a_boot() {
    let mut history = ClockHistory::new(START);
    history.observe(after(1000, 25 * HOUR_MS));
    // An hour later, three seconds after the machine has come up.
    let up = ClockReading {
        wall: after(HOUR_MS, 25 * HOUR_MS).wall,
        boot_ms: 3000,
    };
    let mut history = history.after_boot(up);
    assert_eq!(history.observe(up), None);
    assert_eq!(history.cautious(up, DAY), after(HOUR_MS, 0).wall);
    let steps = history.steps(up, DAY, Duration::ZERO);
    assert_eq!(steps[0].by_ms, 25 * HOUR_MS);
    assert_eq!(steps[0].to, after(1000, 25 * HOUR_MS).wall);
}

proptest! {
    /// Whatever was stored at a moment that was observed is no older, within the window, than it
    /// really is, over any number of steps and boots; and it does not stay young for ever.
    #[test]
    fn nothing_is_older_than_it_really_is(
        hours in proptest::collection::vec((0_i64..30, -200_i64..200, any::<bool>()), 1..100),
        window_hours in 1_u64..100,
    ) {
        let window = Duration::from_secs(window_hours * 3600);
        let mut history = ClockHistory::new(START);
        let (mut real_ms, mut booted_ms, mut stored) = (0, 0, Vec::new());
        for (passed, ahead, boots) in hours {
            real_ms += passed * HOUR_MS;
            let reading = |booted_ms: i64, real_ms: i64, ahead: i64| ClockReading {
                boot_ms: START.boot_ms + real_ms - booted_ms,
                ..after(real_ms, ahead * HOUR_MS)
            };
            let now = reading(booted_ms, real_ms, ahead);
            history.observe(now);
            stored.push((real_ms, now.wall));
            let judged = history.cautious(now, window);
            for (then_ms, wall) in &stored {
                let really_ms = (real_ms - then_ms) as u64;
                if really_ms <= window.as_millis() as u64 {
                    prop_assert!(judged.since(*wall) <= really_ms);
                }
            }
            let settled = reading(booted_ms, real_ms + 101 * HOUR_MS, ahead);
            prop_assert_eq!(history.cautious(settled, window), settled.wall);
            // A history that was written and read is the same.
            let text = serde_json::to_string(&history).expect("numbers");
            prop_assert_eq!(&serde_json::from_str::<ClockHistory>(&text).expect("numbers"), &history);
            if boots {
                booted_ms = real_ms;
                history = history.after_boot(reading(booted_ms, real_ms, ahead));
            }
        }
    }
}
