//! The counts of a run, kept in a few tallies so that connections do not contend for one lock.

use std::ops::RangeInclusive;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::sessions::NumberOrder;

/// The upper bound of the latency histogram: an hour, in microseconds.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// The significant digits of a latency in the histogram.
const DIGITS: u8 = 3;
/// The maximum number of examples of each kind of fault.
const EXAMPLES_MAX: usize = 3;
/// How much of an answer an example contains.
const TOLD_CHARS: usize = 300;

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadCounts {
    /// Messages acknowledged as durable, in the time that counts.
    pub acknowledged: u64,
    /// Turns reported as completed, in the time that counts.
    pub completed: u64,
    /// Connections that could not be made.
    pub refused: u64,
    /// Requests whose connection ended before their answer did.
    pub reset: u64,
    /// Requests without an answer within the load's timeout.
    pub slow: u64,
    /// Answers that ask to retry later (429, or 503 with Retry-After), which was done.
    pub throttled: u64,
    /// Other answers without success, and turns that failed.
    pub errors: u64,
    /// Turns that never got an answer.
    pub unanswered: u64,
    /// Turns that had been reported, but that the number in a later answer does not include.
    pub lost: u64,
    /// Turns that were not requested, but that the number in a later answer includes.
    pub doubled: u64,
    /// Answers that contradict themselves or what is known.
    pub wrong: u64,
}

impl LoadCounts {
    pub(super) fn add(&mut self, other: &Self) {
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

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// See [`LoadCounts::refused`].
    Refused,
    /// See [`LoadCounts::reset`].
    Reset,
    /// See [`LoadCounts::slow`].
    Slow,
    /// See [`LoadCounts::errors`].
    Error,
    /// See [`LoadCounts::lost`].
    Lost,
    /// See [`LoadCounts::doubled`].
    Doubled,
    /// See [`LoadCounts::wrong`].
    Wrong,
}

/// The description of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub fault: FaultKind,
    pub text: String,
}

/// What clients saw between two disturbances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The longest wait of a client for an answer.
    pub(super) pause: Duration,
    /// The longest time in which no client got an answer.
    pub(super) silence: Duration,
    /// Requests that were cut off.
    pub(super) reset: u64,
}

/// The observations of some of the connections.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) counts: LoadCounts,
    /// In microseconds, from a turn's first request to its answer.
    pub(super) latencies: Histogram<u64>,
    /// The first stretch is before any disturbance; each other one begins with one.
    pub(super) stretches: Vec<Stretch>,
    /// When the last answer that counts arrived, measured from the creation of the probe.
    pub(super) last: Duration,
    pub(super) examples: Vec<Example>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            counts: LoadCounts::default(),
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

    /// Records that a client waited, from one stretch to another (or the same).
    pub(super) fn pause(&mut self, from: usize, to: usize, pause: Duration) {
        for number in within(from, to) {
            let stretch = self.stretch(number);
            stretch.pause = stretch.pause.max(pause);
        }
    }

    /// Records that no client got an answer, from one stretch to another (or the same).
    pub(super) fn silence(&mut self, from: usize, to: usize, silence: Duration) {
        for number in within(from, to) {
            let stretch = self.stretch(number);
            stretch.silence = stretch.silence.max(silence);
        }
    }

    /// Records how a turn's number relates to that of the turn before it.
    pub(super) fn order(&mut self, session: usize, turn: u64, order: NumberOrder) {
        match order {
            NumberOrder::Next => {}
            NumberOrder::Lost(turns) => {
                self.counts.lost += turns;
                self.example(FaultKind::Lost, || {
                    format!("session {session}: turn {turn} again, and {turns} are gone")
                });
            }
            NumberOrder::Doubled(turns) => {
                self.counts.doubled += turns;
                self.example(FaultKind::Doubled, || {
                    format!(
                        "session {session}: turn {turn}, and {turns} before it nobody asked for"
                    )
                });
            }
        }
    }

    /// Records an unsuccessful answer.
    pub(super) fn error(&mut self, session: usize, status: u16, body: &[u8]) {
        self.counts.errors += 1;
        self.example(FaultKind::Error, || {
            let body = String::from_utf8_lossy(body);
            let text: String = body.chars().take(TOLD_CHARS).collect();
            format!("session {session}: {status} {text}")
        });
    }

    /// Records the description of a fault, unless there are enough of its kind.
    pub(super) fn example(&mut self, fault: FaultKind, text: impl FnOnce() -> String) {
        let alike = self.examples.iter().filter(|other| other.fault == fault);
        if alike.count() < EXAMPLES_MAX {
            let text = text();
            self.examples.push(Example { fault, text });
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
        for example in &other.examples {
            self.example(example.fault, || example.text.clone());
        }
    }
}

/// Returns the stretches that a wait belongs to, given those in which it began and ended: the
/// stretches that began during it, or else the one that contains it.
fn within(from: usize, to: usize) -> RangeInclusive<usize> {
    (from + 1).min(to)..=to
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
        one.order(1, 3, NumberOrder::Lost(2));
        other.order(2, 9, NumberOrder::Doubled(3));
        one.latency(MS);
        other.latency(3 * MS);
        other.pause(0, 1, MS);
        other.stretch(1).reset += 1;
        for n in 0..EXAMPLES_MAX {
            one.example(FaultKind::Slow, || format!("one {n}"));
            other.example(FaultKind::Slow, || format!("other {n}"));
        }
        one.add(&other);
        assert_eq!((one.counts.lost, one.counts.doubled), (2, 3));
        assert_eq!(one.latencies.len(), 2);
        assert_eq!((one.stretches[1].reset, one.stretches[1].pause), (1, MS));
        let kept = |fault| one.examples.iter().filter(|it| it.fault == fault).count();
        assert_eq!(kept(FaultKind::Slow), EXAMPLES_MAX);
        assert_eq!((kept(FaultKind::Lost), kept(FaultKind::Doubled)), (1, 1));
    }
}
