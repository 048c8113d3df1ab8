//! What is counted while it runs: in a few places, so that connections do not wait for each other.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::sessions::Order;

/// The longest time that is told apart from longer ones: an hour, in microseconds.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// Digits that are kept of a time.
const DIGITS: u8 = 3;
/// What went wrong is shown so often, in words.
const EXAMPLES_MAX: usize = 8;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were told to be durable, in the time that counts.
    pub acknowledged: u64,
    /// Turns that were told to have ended well, in the time that counts.
    pub completed: u64,
    /// Connections that were not made.
    pub refused: u64,
    /// Requests whose connection ended before their answer did.
    pub reset: u64,
    /// Requests without an answer for as long as the load has patience.
    pub slow: u64,
    /// Answers that ask to come back later (429, or 503 with Retry-After), which was done.
    pub throttled: u64,
    /// Other answers without success, and turns that failed.
    pub errors: u64,
    /// Turns that never got an answer.
    pub unanswered: u64,
    /// Turns that had been told, and that a later answer does not count.
    pub lost: u64,
    /// Turns that nobody asked for, and that a later answer counts.
    pub doubled: u64,
    /// Answers that say what cannot be.
    pub wrong: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.completed += other.completed;
        self.refused += other.refused;
        self.reset += other.reset;
        self.slow += other.slow;
        self.throttled += other.throttled;
        self.errors += other.errors;
        self.unanswered += other.unanswered;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.wrong += other.wrong;
    }
}

/// What happened between two disturbances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The longest that a client waited for an answer.
    pub(super) pause: Duration,
    /// The longest time in which no client got an answer.
    pub(super) silence: Duration,
    /// Requests that were cut off.
    pub(super) reset: u64,
}

/// What some of the connections have seen.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// In microseconds, from a turn's first request to its answer.
    pub(super) latencies: Histogram<u64>,
    /// The first is before any disturbance, each other begins with one.
    pub(super) stretches: Vec<Stretch>,
    /// When the last answer that counts came, since the run began.
    pub(super) last: Duration,
    pub(super) examples: Vec<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            counts: Counts::default(),
            latencies: Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS)
                .expect("the bounds are constant and in order"),
            stretches: Vec::new(),
            last: Duration::ZERO,
            examples: Vec::new(),
        }
    }

    pub(super) fn latency(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros);
    }

    pub(super) fn stretch(&mut self, number: usize) -> &mut Stretch {
        if self.stretches.len() <= number {
            self.stretches.resize(number + 1, Stretch::default());
        }
        &mut self.stretches[number]
    }

    /// Notes a wait that began in one stretch and ended in another (or the same). It belongs to
    /// the disturbances that came while it lasted, else to where it lies.
    pub(super) fn pause(&mut self, from: usize, to: usize, pause: Duration) {
        for number in (from + 1).min(to)..=to {
            let stretch = self.stretch(number);
            stretch.pause = stretch.pause.max(pause);
        }
    }

    /// Notes how a turn's number follows the one before.
    pub(super) fn order(&mut self, session: usize, turn: u64, order: Order) {
        let told = match order {
            Order::Next => return,
            Order::Lost(turns) => {
                self.counts.lost += turns;
                format!("{turns} that were told are there no more")
            }
            Order::Doubled(turns) => {
                self.counts.doubled += turns;
                format!("{turns} before it were not asked for")
            }
        };
        self.example(|| format!("session {session}: turn {turn}: {told}"));
    }

    /// Notes an answer without success.
    pub(super) fn error(&mut self, session: usize, status: u16, body: &str) {
        self.counts.errors += 1;
        self.example(|| format!("session {session}: {status}: {body}"));
    }

    pub(super) fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.latencies
            .add(&other.latencies)
            .expect("both have the same bounds");
        for (number, theirs) in other.stretches.iter().enumerate() {
            let ours = self.stretch(number);
            ours.pause = ours.pause.max(theirs.pause);
            ours.silence = ours.silence.max(theirs.silence);
            ours.reset += theirs.reset;
        }
        self.last = self.last.max(other.last);
        for text in &other.examples {
            self.example(|| text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pause_belongs_to_the_disturbances_within_it() {
        let mut tally = Tally::new();
        tally.pause(0, 0, 2 * MS);
        tally.pause(0, 1, 30 * MS);
        tally.pause(1, 1, 4 * MS);
        tally.pause(1, 3, 50 * MS);
        let pauses: Vec<_> = tally
            .stretches
            .iter()
            .map(|s| s.pause / 1_000_000)
            .collect();
        let nanos = |ms: u32| Duration::from_nanos(ms.into());
        assert_eq!(pauses, [2, 30, 50, 50].map(nanos));
    }

    #[test]
    fn tallies_add_up() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        one.order(1, 3, Order::Lost(2));
        other.order(2, 9, Order::Doubled(3));
        one.latency(MS);
        other.latency(3 * MS);
        other.pause(0, 1, MS);
        other.stretch(1).reset += 1;
        for n in 0..EXAMPLES_MAX {
            one.example(|| format!("one {n}"));
            other.example(|| format!("other {n}"));
        }
        one.add(&other);
        assert_eq!((one.counts.lost, one.counts.doubled), (2, 3));
        assert_eq!(one.latencies.len(), 2);
        assert_eq!((one.stretches[1].reset, one.stretches[1].pause), (1, MS));
        assert_eq!(one.examples.len(), EXAMPLES_MAX);
    }
}
