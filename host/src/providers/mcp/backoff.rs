//! Decides when a server that failed may be started again.

use std::time::Duration;

use tokio::time::Instant;

/// The pause after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// The failure count of a server that has served this long is reset.
const SERVED_WELL: Duration = Duration::from_secs(30);

/// The recent failures of a server.
#[derive(Debug, Default)]
pub(super) struct RestartBackoff {
    falls: u32,
    pause: Option<(Instant, String)>,
}

impl RestartBackoff {
    /// Records that the server failed at `at`, after it had served for `served`; zero if it never
    /// did.
    pub(super) fn fell(&mut self, at: Instant, served: Duration, reason: String) {
        if served >= SERVED_WELL {
            self.falls = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.falls.min(16)).min(LONGEST);
        self.falls = self.falls.saturating_add(1);
        self.pause = Some((at + pause, reason));
    }

    /// Returns how long the server must still pause, and why.
    pub(super) fn rest(&self, now: Instant) -> Option<(Duration, &str)> {
        let (until, reason) = self.pause.as_ref()?;
        let rest = until.checked_duration_since(now)?;
        (!rest.is_zero()).then_some((rest, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_good_service() {
        let mut backoff = RestartBackoff::default();
        let now = Instant::now();
        assert_eq!(backoff.rest(now), None);
        let mut fall = |served| {
            backoff.fell(now, served, "it broke".to_owned());
            let (rest, reason) = backoff.rest(now).expect("rests");
            assert_eq!(reason, "it broke");
            assert_eq!(backoff.rest(now + rest), None);
            rest.as_millis()
        };
        let pauses: Vec<_> = (0..9).map(|_| fall(Duration::ZERO)).collect();
        assert_eq!(
            pauses,
            [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        assert_eq!(fall(Duration::from_secs(29)), 30_000);
        assert_eq!(fall(Duration::from_secs(30)), 250);
    }
}
