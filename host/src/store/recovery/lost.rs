//! Which sessions the writes that are lost were about. This code is pure.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use super::wal::LoggedBatch;
use crate::store::trail::SessionChecksum;
use crate::store::trail_file::{NotedGroup, sessions_of};

/// The sessions that lost writes were about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostSessions {
    /// Nothing tells: any of them may have been.
    Any,
    /// Those whose ids have these checksums, and no others.
    These(BTreeSet<SessionChecksum>),
}

impl fmt::Display for LostSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any sessions"),
            Self::These(sums) if sums.is_empty() => f.write_str("no session"),
            Self::These(sums) if sums.len() == 1 => f.write_str("one session"),
            Self::These(sums) => write!(f, "{} sessions", sums.len()),
        }
    }
}

impl LostSessions {
    /// Finds out from the trails behind the missing numbers, or from what was `noted` beside the logs.
    /// `batches` are those that are left, in order.
    pub(super) fn of(
        missing: &[RangeInclusive<u64>],
        batches: &[&LoggedBatch],
        noted: &[NotedGroup],
    ) -> Self {
        let of_each = missing
            .iter()
            .map(|lost| trailed(lost, batches).or_else(|| sessions_of(lost, noted)));
        match of_each.collect::<Option<Vec<_>>>() {
            Some(sessions) => Self::These(sessions.into_iter().flatten().collect()),
            None => Self::Any,
        }
    }
}

/// Returns the sessions of lost writes if the trail of the batch behind them covers all of these.
fn trailed(
    lost: &RangeInclusive<u64>,
    batches: &[&LoggedBatch],
) -> Option<BTreeSet<SessionChecksum>> {
    let mut behind = batches.iter();
    let batch = behind.find(|batch| batch.count > 0 && batch.before() >= *lost.end())?;
    let groups = batch.trail()?;
    let begins = groups.first()?.first;
    if batch.before() != *lost.end() || begins > *lost.start() {
        return None;
    }
    let ends = groups.iter().skip(1).map(|next| next.first - 1);
    let with_ends = groups.iter().zip(ends.chain([batch.before()]));
    let concerned = with_ends.filter(|(_, end)| end >= lost.start());
    Some(
        concerned
            .flat_map(|(group, _)| &group.sessions)
            .copied()
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use rocksdb::WriteBatch;

    use super::*;
    use crate::domain::SessionId;
    use crate::store::trail::{TracedGroup, Trail};

    fn sum(n: u64) -> SessionChecksum {
        SessionChecksum::of(&SessionId::new(format!("s{n}")).expect("it is an id"))
    }

    /// Groups of two operations each, the n-th about session n, from number 1 on.
    fn log(groups: u64) -> Vec<LoggedBatch> {
        let mut trail = Trail::default();
        let mut log = Vec::new();
        for n in 0..groups {
            let mut batch = WriteBatch::default();
            batch.put_log_data(trail.encode());
            batch.put(b"key", n.to_le_bytes());
            batch.delete(b"key");
            let first = 1 + 2 * n;
            log.push(LoggedBatch {
                first,
                count: 2,
                bytes: batch.data().to_vec(),
            });
            let sessions = [sum(n)].into();
            trail.add(TracedGroup { first, sessions }, 100);
        }
        log
    }

    /// What the file beside the log says of the first groups.
    fn noted(groups: u64) -> Vec<NotedGroup> {
        let noted = (0..groups).map(|n| NotedGroup {
            numbers: 1 + 2 * n..=2 + 2 * n,
            sessions: [sum(n)].into(),
        });
        noted.collect()
    }

    fn lost(log: &[LoggedBatch], is_left: impl Fn(u64) -> bool) -> LostSessions {
        lost_and_noted(log, is_left, &[])
    }

    fn lost_and_noted(
        log: &[LoggedBatch],
        is_left: impl Fn(u64) -> bool,
        noted: &[NotedGroup],
    ) -> LostSessions {
        let left = log.iter().enumerate();
        let left: Vec<&LoggedBatch> = left
            .filter(|(n, _)| is_left(*n as u64))
            .map(|(_, batch)| batch)
            .collect();
        let mut missing = Vec::new();
        let mut held = 0;
        for batch in &left {
            if batch.before() > held {
                missing.push(held + 1..=batch.before());
            }
            held = batch.last();
        }
        let end = log.last().map_or(0, LoggedBatch::last);
        if end > held {
            missing.push(held + 1..=end);
        }
        LostSessions::of(&missing, &left, noted)
    }

    #[test]
    fn the_sessions_of_lost_groups_are_known_by_the_group_behind() {
        let log = log(20);
        let these =
            |sessions: &[u64]| LostSessions::These(sessions.iter().map(|n| sum(*n)).collect());
        assert_eq!(lost(&log, |_| true), these(&[]));
        assert_eq!(lost(&log, |n| n != 5), these(&[5]));
        assert_eq!(lost(&log, |n| !(5..9).contains(&n)), these(&[5, 6, 7, 8]));
        assert_eq!(lost(&log, |n| n != 5 && n != 11), these(&[5, 11]));
        assert_eq!(lost(&log, |n| n > 2), these(&[0, 1, 2]));
        // Nothing behind it tells of the end.
        assert_eq!(lost(&log, |n| n < 19), LostSessions::Any);
        assert_eq!(lost(&log, |n| n != 3 && n < 19), LostSessions::Any);
    }

    #[test]
    fn the_end_of_a_log_and_a_whole_log_are_known_by_what_was_noted() {
        let log = log(20);
        let these =
            |sessions: &[u64]| LostSessions::These(sessions.iter().map(|n| sum(*n)).collect());
        let lost = |is_left: fn(u64) -> bool, groups| lost_and_noted(&log, is_left, &noted(groups));
        assert_eq!(lost(|n| n < 18, 20), these(&[18, 19]));
        assert_eq!(lost(|n| n != 3 && n < 19, 20), these(&[3, 19]));
        let all: Vec<u64> = (0..20).collect();
        assert_eq!(lost(|_| false, 20), these(&all));
        // The last group is not noted.
        assert_eq!(lost(|n| n < 18, 19), LostSessions::Any);
        assert_eq!(lost(|n| n != 3, 0), these(&[3]));
    }

    #[test]
    fn what_a_trail_does_not_cover_may_be_any_session() {
        let mut log = log(6);
        // Of a version without trails.
        log[4].bytes = WriteBatch::default().data().to_vec();
        assert_eq!(lost(&log, |n| n != 3), LostSessions::Any);
        // The first group of a later writer.
        let mut batch = WriteBatch::default();
        batch.put_log_data(Trail::default().encode());
        log[4].bytes = batch.data().to_vec();
        assert_eq!(lost(&log, |n| n != 3), LostSessions::Any);
        assert_eq!(lost(&log, |n| n != 1), LostSessions::These([sum(1)].into()));
    }
}
