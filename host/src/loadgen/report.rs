//! What came of a run.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::sessions::LoadSessions;
use super::stats::{Example, LoadCounts, Stretch, Tally};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// How often what happened.
    pub counts: LoadCounts,
    /// In microseconds: from a turn's first request to its answer, whatever lay between.
    pub latencies: Histogram<u64>,
    /// The longest that a client waited for an answer, and was not disturbed.
    pub undisturbed_pause: Duration,
    /// What was done to the server while it ran.
    pub disturbances: Vec<Disturbance>,
    /// Some faults in words.
    pub examples: Vec<Example>,
    /// What each session is known to have done.
    pub sessions: LoadSessions,
}

/// Something that was done to the server, and what clients saw of it until the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// What was done.
    pub what: String,
    /// When, since the run began.
    pub at: Duration,
    /// The longest that a client waited for an answer.
    pub pause: Duration,
    /// The longest time in which no client got an answer.
    pub silence: Duration,
    /// Requests that were cut off.
    pub reset: u64,
}

impl Report {
    pub(super) fn new(
        tally: Tally,
        history: Vec<(String, Duration)>,
        counted_from: Duration,
        sessions: LoadSessions,
    ) -> Self {
        let mut stretches = tally.stretches.into_iter();
        let first = stretches.next().unwrap_or_default();
        let stretches = stretches.chain(std::iter::repeat(Stretch::default()));
        let disturbances = history.into_iter().zip(stretches);
        Self {
            elapsed: tally.last.saturating_sub(counted_from),
            counts: tally.counts,
            latencies: tally.latencies,
            undisturbed_pause: first.pause,
            disturbances: disturbances
                .map(|((what, at), seen)| Disturbance {
                    what,
                    at,
                    pause: seen.pause,
                    silence: seen.silence,
                    reset: seen.reset,
                })
                .collect(),
            examples: tally.examples,
            sessions,
        }
    }

    /// Messages acknowledged as durable in a second.
    pub fn acknowledged_per_second(&self) -> f64 {
        self.per_second(self.counts.acknowledged)
    }

    /// Turns told to have ended well in a second.
    pub fn completed_per_second(&self) -> f64 {
        self.per_second(self.counts.completed)
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 {
            count as f64 / seconds
        } else {
            0.0
        }
    }

    /// The latency which that share of the turns did not exceed: 0.5 for the median.
    pub fn latency(&self, share: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(share))
    }

    /// The longest latency.
    pub fn latency_max(&self) -> Duration {
        Duration::from_micros(self.latencies.max())
    }

    /// The longest that a client waited for an answer, disturbed or not.
    pub fn longest_pause(&self) -> Duration {
        let disturbed = self
            .disturbances
            .iter()
            .map(|disturbance| disturbance.pause);
        disturbed.fold(self.undisturbed_pause, Duration::max)
    }
}
