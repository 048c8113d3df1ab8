//! The retry schedule of a provider that gave no answer.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::classify::Remedy;

/// The pause after the first failure. It doubles with each further one, and a random jitter of up
/// to as much again is added, so that requests that failed together are not retried together.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause, without jitter.
const LONGEST: Duration = Duration::from_secs(8);
/// The longest pause while a server starts, without jitter: short, to notice soon that it is ready.
const LONGEST_STARTING: Duration = Duration::from_secs(2);
/// How long to wait for a server that starts: one that says so, or whose port refuses connections.
/// Loading a model takes about that long.
pub(super) const STARTING_MAX: Duration = Duration::from_secs(60);
/// The longest pause that a provider may ask for. The turn waits meanwhile, so for a longer pause
/// its user gets the error instead.
const ASKED_MAX: Duration = Duration::from_secs(60);

/// The pauses between the requests to one provider in one call.
pub(super) struct Pauses {
    ordinary: ExponentialBackoff,
    starting: ExponentialBackoff,
    /// How long to wait for a server that starts. `None`: a start is an ordinary failure.
    patience: Option<Duration>,
    /// The sum of the pauses for a start so far.
    waited: Duration,
}

impl Pauses {
    /// Creates a schedule of `retries` pauses and, while a server starts, as many as fit into
    /// `patience`. Without patience a start is an ordinary failure.
    pub(super) fn new(retries: u32, patience: Option<Duration>) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST)
            .with_factor(2.0)
            .with_jitter();
        let ordinary = pauses
            .with_max_delay(LONGEST)
            .with_max_times(retries as usize);
        let starting = pauses.with_max_delay(LONGEST_STARTING).without_max_times();
        Self {
            ordinary: ordinary.build(),
            starting: starting.build(),
            patience,
            waited: Duration::ZERO,
        }
    }

    /// Returns how long to wait before the next request, or `None` if another one would not help or
    /// the pause would not end within `left`.
    pub(super) fn next(&mut self, remedy: Remedy, left: Duration) -> Option<Duration> {
        let (after, pause) = match (remedy, self.patience) {
            (Remedy::Starting { after }, Some(patience)) => {
                let pause = self.starting.next()?.max(after.unwrap_or_default());
                self.waited += pause;
                (after, (self.waited <= patience).then_some(pause)?)
            }
            (Remedy::Again { after } | Remedy::Starting { after }, _) => {
                (after, self.ordinary.next()?)
            }
            (Remedy::Elsewhere | Remedy::Shorter | Remedy::Nothing, _) => return None,
        };
        let after = after.unwrap_or_default();
        let pause = pause.max(after);
        (after <= ASKED_MAX && pause < left).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Remedy = Remedy::Again { after: None };
    const LONG: Duration = Duration::from_secs(300);

    fn after(seconds: u64) -> Remedy {
        let after = Some(Duration::from_secs(seconds));
        Remedy::Again { after }
    }

    #[test]
    fn pauses_double_and_end() {
        let mut pauses = Pauses::new(7, None);
        for (at_least, at_most) in [
            (250, 500),
            (500, 1000),
            (1000, 2000),
            (2000, 4000),
            (4000, 8000),
            (8000, 16_000),
            (8000, 16_000),
        ] {
            let pause = pauses.next(AGAIN, LONG).expect("one more").as_millis();
            assert!((at_least..=at_most).contains(&pause), "{pause}");
        }
        assert_eq!(pauses.next(AGAIN, LONG), None);
        assert_eq!(Pauses::new(0, None).next(AGAIN, LONG), None);
    }

    #[test]
    fn a_provider_may_ask_for_more_within_reason() {
        let pause = |remedy, left| Pauses::new(3, None).next(remedy, left);
        assert_eq!(pause(after(20), LONG), Some(Duration::from_secs(20)));
        assert_eq!(pause(after(61), LONG), None);
        // The pause would leave no time for the answer.
        assert_eq!(pause(after(20), Duration::from_secs(20)), None);
        assert_eq!(pause(Remedy::Elsewhere, LONG), None);
        assert_eq!(pause(Remedy::Nothing, LONG), None);
    }

    #[test]
    fn a_server_that_starts_is_waited_for() {
        let starting = Remedy::Starting { after: None };
        let mut pauses = Pauses::new(2, Some(STARTING_MAX));
        let mut waited = Duration::ZERO;
        let mut count = 0;
        while let Some(pause) = pauses.next(starting, LONG) {
            assert!(pause <= 2 * LONGEST_STARTING, "{pause:?}");
            waited += pause;
            count += 1;
        }
        assert!(waited > STARTING_MAX - 2 * LONGEST_STARTING, "{waited:?}");
        assert!(waited <= STARTING_MAX && count > 10, "{waited:?} {count}");
        // Other failures still have their retries.
        assert!(pauses.next(AGAIN, LONG).is_some());
        // Without patience (there is a fallback), a start is an ordinary failure.
        let mut pauses = Pauses::new(1, None);
        assert!(pauses.next(starting, LONG).is_some());
        assert_eq!(pauses.next(starting, LONG), None);
    }
}
