//! The time by which the supervisor judges its workers.

use std::time::{Duration, Instant};

use super::machine::Millis;

/// How late a wait may end, on a busy machine, and still count.
const LATE: Duration = Duration::from_millis(500);

/// The time since the start, without the waits in which this process did not run: it was stopped, or its
/// container was frozen, and its workers with it. What they have not done meanwhile is no sign that they hang.
#[derive(Debug)]
pub(super) struct OwnTime {
    started: Instant,
    not_counted: Duration,
}

impl OwnTime {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            not_counted: Duration::ZERO,
        }
    }

    pub(super) fn now(&self) -> Millis {
        let passed = self.started.elapsed().saturating_sub(self.not_counted);
        Millis::try_from(passed.as_millis()).unwrap_or(Millis::MAX)
    }

    /// Returns how long it is until `at`.
    pub(super) fn until(&self, at: Millis) -> Duration {
        let passed = self.started.elapsed().saturating_sub(self.not_counted);
        Duration::from_millis(at).saturating_sub(passed)
    }

    /// Takes note of a wait that was to take `planned` at most. Returns what of it does not count: all, since
    /// workers that were stopped too may take a moment longer.
    pub(super) fn waited(&mut self, planned: Option<Duration>, took: Duration) -> Duration {
        match planned {
            Some(planned) if took > planned + LATE => {
                self.not_counted += took;
                took
            }
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_which_nothing_ran_does_not_count() {
        let second = Duration::from_secs(1);
        let mut time = OwnTime {
            started: Instant::now() - 100 * second,
            not_counted: Duration::ZERO,
        };
        assert!((100_000..101_000).contains(&time.now()));
        assert_eq!(time.waited(Some(second), second + LATE), Duration::ZERO);
        assert_eq!(time.waited(None, 60 * second), Duration::ZERO);
        assert!((100_000..101_000).contains(&time.now()));
        assert_eq!(time.waited(Some(second), 60 * second), 60 * second);
        assert!((40_000..41_000).contains(&time.now()));
        assert!(time.until(50_000) > 9 * second);
    }
}
