//! The result of a run.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::sessions::LoadSessions;
use super::stats::{Example, LoadCounts, Stretch, Tally};

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    pub counts: LoadCounts,
    /// In microseconds: from a turn's first request to its answer, retries included.
    pub latencies: Histogram<u64>,
    /// The longest wait for an answer before the first disturbance.
    pub undisturbed_pause: Duration,
    /// The disturbances of the server during the run.
    pub disturbances: Vec<Disturbance>,
    /// Descriptions of some of the faults.
    pub examples: Vec<Example>,
    /// The known state of each session.
    pub sessions: LoadSessions,
}

/// A disturbance of the server, and its effect on clients until the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    pub what: String,
    /// When it began, measured from the creation of the probe.
    pub at: Duration,
    /// The longest wait of a client for an answer.
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

    /// Returns the messages acknowledged as durable per second.
    pub fn acknowledged_per_second(&self) -> f64 {
        self.per_second(self.counts.acknowledged)
    }

    /// Returns the turns reported as completed per second.
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

    /// Returns the latency that this share of the turns did not exceed: 0.5 for the median.
    pub fn latency(&self, share: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(share))
    }

    pub fn latency_max(&self) -> Duration {
        Duration::from_micros(self.latencies.max())
    }

    /// Returns the longest wait of a client for an answer, disturbed or not.
    pub fn longest_pause(&self) -> Duration {
        let disturbed = self
            .disturbances
            .iter()
            .map(|disturbance| disturbance.pause);
        disturbed.fold(self.undisturbed_pause, Duration::max)
    }
}
