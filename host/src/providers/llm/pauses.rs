//! When a provider is asked again that gave no answer.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::fault::Remedy;

/// The pause after the first failure; it doubles with each further one, and up to as much again is
/// added at random, so that those who failed together do not come back together.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause, without what is added.
const LONGEST: Duration = Duration::from_secs(8);
/// The longest pause that a provider may ask for. A turn waits meanwhile: where it is longer, its
/// user should know.
const ASKED_MAX: Duration = Duration::from_secs(60);
/// OpenAI's servers also say it more precisely.
const RETRY_AFTER_MS: &str = "retry-after-ms";

/// The pauses of one provider in one call.
pub(super) struct Pauses(ExponentialBackoff);

impl Pauses {
    /// There are as many as `retries`.
    pub(super) fn new(retries: u32) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST)
            .with_max_delay(LONGEST)
            .with_factor(2.0)
            .with_jitter()
            .with_max_times(retries as usize);
        Self(pauses.build())
    }

    /// How long to wait before it is asked again; none if that would not help, or not within
    /// `left`.
    pub(super) fn next(&mut self, remedy: Remedy, left: Duration) -> Option<Duration> {
        let Remedy::Again { after } = remedy else {
            return None;
        };
        let after = after.unwrap_or_default();
        let pause = self.0.next()?.max(after);
        (after <= ASKED_MAX && pause < left).then_some(pause)
    }
}

/// How long a server asks to be left alone: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    if let Some(millis) = text(RETRY_AFTER_MS).and_then(|text| text.parse::<f64>().ok()) {
        return seconds(millis / 1000.0);
    }
    let text = text(RETRY_AFTER.as_str())?;
    match text.parse::<f64>() {
        Ok(number) => seconds(number),
        // One that has passed asks for nothing.
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
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
        let mut pauses = Pauses::new(7);
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
        assert_eq!(Pauses::new(0).next(AGAIN, LONG), None);
    }

    #[test]
    fn a_provider_may_ask_for_more_within_reason() {
        let pause = |remedy, left| Pauses::new(3).next(remedy, left);
        assert_eq!(pause(after(20), LONG), Some(Duration::from_secs(20)));
        assert_eq!(pause(after(61), LONG), None);
        // No time would be left for the answer.
        assert_eq!(pause(after(20), Duration::from_secs(20)), None);
        assert_eq!(pause(Remedy::Elsewhere, LONG), None);
        assert_eq!(pause(Remedy::Nothing, LONG), None);
    }

    #[test]
    fn the_header_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 25 Nov 2026 12:00:00 GMT").expect("a date");
        let read = |value: &str| {
            let value = value.parse().expect("a header's value");
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
        };
        let cases = [
            ("7", Some(Duration::from_secs(7))),
            ("0", Some(Duration::ZERO)),
            ("1.5", Some(Duration::from_millis(1500))),
            ("-3", None),
            ("NaN", None),
            ("1e300", None),
            ("soon", None),
            (
                "Wed, 25 Nov 2026 12:00:30 GMT",
                Some(Duration::from_secs(30)),
            ),
            ("Wed, 25 Nov 2026 11:00:00 GMT", Some(Duration::ZERO)),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value), expected, "{value}");
        }
        let mut both = HeaderMap::new();
        both.insert(RETRY_AFTER, "7".parse().expect("a value"));
        both.insert(RETRY_AFTER_MS, "250".parse().expect("a value"));
        assert_eq!(retry_after(&both, now), Some(Duration::from_millis(250)));
    }
}
