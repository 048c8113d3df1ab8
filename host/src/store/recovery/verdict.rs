//! Decides, from what the files hold, whether a start would lose writes that were synced.
//!
//! RocksDB numbers every operation. What is in tables goes up to a number that the MANIFEST has; the
//! logs continue from there. Each group of writes is one batch.
//!
//! ```text
//!   tables      |=========|
//!   logs                  |==|==|==|==|   |==|==|         one batch each
//!   damage                              ##
//!   RocksDB     |=====================|                   replays this much
//!   written                                 |==|==|       behind damage: written again here
//!   missing                           |---|
//!   synced                                      ^         the last acknowledged operation
//! ```

use std::fmt;
use std::ops::RangeInclusive;

use super::lost::LostSessions;
use super::wal::LoggedBatch;

/// Operations that were synced, by their numbers, and that no file holds.
pub(super) type MissingNumbers = Vec<RangeInclusive<u64>>;

/// What a start would recover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The number up to which RocksDB would recover.
    pub(super) recovered: u64,
    /// The highest number that is known to have been synced.
    pub(super) synced: u64,
    pub(super) missing: MissingNumbers,
}

/// A part of a log that can be read without a break.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogRun<'a> {
    pub(super) batches: &'a [LoggedBatch],
    /// Whether RocksDB reads on from the run before it without having met anything unreadable.
    pub(super) follows: bool,
}

/// Writes that were acknowledged and that the files of the store do not hold any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingWrites {
    /// How many operations are missing at least; 0 if some may be.
    pub operations: u64,
    /// The damaged or missing files, with the place of the damage where it is known.
    pub places: Vec<String>,
    pub sessions: LostSessions,
}

impl fmt::Display for MissingWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (places, sessions) = (self.places.join("; "), &self.sessions);
        match self.operations {
            0 => write!(f, "perhaps operations that had been acknowledged"),
            1 => write!(f, "at least one operation that had been acknowledged"),
            many => write!(f, "at least {many} operations that had been acknowledged"),
        }?;
        write!(f, ", of {sessions}: {places}")
    }
}

impl Verdict {
    /// Decides. `tables` is the highest number in tables, `runs` are all readable parts of the logs in
    /// order, and `synced` is the last acknowledged number, if that is known.
    pub(super) fn of(tables: u64, runs: &[LogRun<'_>], synced: Option<u64>) -> Self {
        let mut recovered = tables;
        // RocksDB stops at what it cannot read, and goes on where the numbers continue.
        let mut stopped = false;
        // The number up to which all operations are in some file.
        let mut held = tables;
        let mut missing = MissingNumbers::new();
        for run in runs {
            stopped |= !run.follows;
            for batch in run.batches {
                if batch.before() > held {
                    missing.push(held + 1..=batch.before());
                }
                held = held.max(batch.last());
                stopped &= batch.before() != recovered;
                if !stopped {
                    recovered = recovered.max(batch.last());
                }
            }
        }
        let synced = synced.unwrap_or(0).max(held);
        if synced > held {
            missing.push(held + 1..=synced);
        }
        Self {
            recovered,
            synced,
            missing,
        }
    }

    pub(super) fn operations(&self) -> u64 {
        let lengths = self
            .missing
            .iter()
            .map(|range| range.end() - range.start() + 1);
        lengths.sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batches(numbers: &[(u64, u64)]) -> Vec<LoggedBatch> {
        let of = |&(first, count)| LoggedBatch {
            first,
            count,
            bytes: Vec::new(),
        };
        numbers.iter().map(of).collect()
    }

    fn run(batches: &[LoggedBatch], follows: bool) -> LogRun<'_> {
        LogRun { batches, follows }
    }

    #[test]
    fn logs_that_continue_the_tables_are_whole() {
        let one = batches(&[(9, 2), (11, 0), (11, 5)]);
        let two = batches(&[(16, 1)]);
        let verdict = Verdict::of(10, &[run(&one, true), run(&two, false)], Some(16));
        assert_eq!((verdict.recovered, verdict.synced), (16, 16));
        assert!(verdict.missing.is_empty());
    }

    #[test]
    fn what_is_cut_off_is_missing() {
        let one = batches(&[(11, 5)]);
        let verdict = Verdict::of(10, &[run(&one, true)], Some(20));
        assert_eq!(verdict.missing, [16..=20]);
        assert_eq!(verdict.operations(), 5);
        // Without a record of what was synced, the end of the log is the end.
        assert!(Verdict::of(10, &[run(&one, true)], None).missing.is_empty());
    }

    #[test]
    fn a_batch_behind_damage_proves_that_the_damaged_one_was_synced() {
        let (one, two) = (batches(&[(11, 5)]), batches(&[(18, 2)]));
        let verdict = Verdict::of(10, &[run(&one, true), run(&two, false)], None);
        assert_eq!(verdict.missing, [16..=17]);
        assert_eq!((verdict.recovered, verdict.synced), (15, 19));
    }

    #[test]
    fn a_missing_log_is_a_gap() {
        let two = batches(&[(18, 2)]);
        let verdict = Verdict::of(10, &[run(&two, true)], Some(19));
        assert_eq!(verdict.missing, [11..=17]);
    }

    #[test]
    fn damage_to_what_is_in_tables_costs_nothing_but_rocksdb_stops_there() {
        let (one, two) = (batches(&[(1, 3)]), batches(&[(7, 4), (11, 2)]));
        let verdict = Verdict::of(10, &[run(&one, true), run(&two, false)], Some(12));
        assert!(verdict.missing.is_empty());
        // The second batch continues the tables, so RocksDB goes on with it.
        assert_eq!(verdict.recovered, 12);
        let three = batches(&[(7, 5), (12, 1)]);
        let verdict = Verdict::of(10, &[run(&one, true), run(&three, false)], Some(12));
        assert!(verdict.missing.is_empty());
        assert_eq!(verdict.recovered, 10, "the rest is written again");
    }

    proptest! {
        /// Of a history of batches, of which some are in tables and some are lost, exactly the lost
        /// ones up to the last that is known are missing.
        #[test]
        fn exactly_what_was_lost_is_missing(
            counts in prop::collection::vec((1_u64..6, any::<bool>()), 1..40),
            in_tables in 0_usize..40,
            is_known in any::<bool>(),
        ) {
            let (mut next, mut tables) = (1, 0);
            let (mut lost, mut last_held) = (Vec::new(), 0);
            let mut runs: Vec<(Vec<LoggedBatch>, bool)> = vec![(Vec::new(), true)];
            for (at, (count, is_lost)) in counts.iter().enumerate() {
                let last = next + count - 1;
                if at < in_tables {
                    tables = last;
                }
                if *is_lost {
                    lost.push((next, last));
                    runs.push((Vec::new(), false));
                } else {
                    last_held = last;
                    let run = runs.last_mut().expect("there is a first run");
                    run.0.extend(batches(&[(next, *count)]));
                }
                next = last + 1;
            }
            let synced = next - 1;
            let runs: Vec<LogRun<'_>> = runs.iter().map(|(b, follows)| run(b, *follows)).collect();
            let verdict = Verdict::of(tables, &runs, is_known.then_some(synced));
            let until = if is_known { synced } else { last_held.max(tables) };
            let mut expected: Vec<u64> = Vec::new();
            for (first, last) in lost {
                expected.extend((first..=last).filter(|n| *n > tables && *n <= until));
            }
            let missing: Vec<u64> = verdict.missing.iter().cloned().flatten().collect();
            prop_assert_eq!(missing, expected);
            prop_assert!(verdict.recovered >= tables && verdict.recovered <= synced);
        }
    }
}
