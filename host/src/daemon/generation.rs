//! Determines a worker's generation and the cause of its start. Pure; derived from the last restart
//! record and the start cause that the supervisor reports.
//!
//! | the last record | this worker was started | its generation |
//! |---|---|---|
//! | none | | generation 1 |
//! | any | as the standby of a planned restart | that restart's generation |
//! | `stopped` | fresh | the stop's generation: the stop and this start are one restart |
//! | any other | fresh, on a restored or salvaged store | the next one; the cause is an operator |
//! | any other | fresh on another one, or after a worker died | the next one; the cause is a crash |

use std::collections::BTreeMap;

use crate::domain::{
    Cause, Digest, DrainReport, Generation, MemoryKills, Phases, RelaunchReport, RestartRecord,
    RestartStatus, UnixMillis,
};
use crate::supervisor::{KILLED_BY_UNKNOWN, KILLED_FOR_MEMORY, StartCause};

/// How many workers must have died of a SIGKILL of which nobody knows who sent it for that to be
/// reported, and within which time: from that number on the supervisor pauses.
const UNKNOWN_KILLS_MIN: usize = 4;
/// How many workers that somebody else killed are told, if they lived for less than [`KILLS_APART_MS`] on
/// average.
const KILLS_MIN: usize = 10;
const KILLS_APART_MS: u64 = 10 * 1000;
/// How the death of a worker that was killed is told.
const KILLED: &str = "died of SIGKILL";
const UNKNOWN_KILLS_WITHIN_MS: u64 = 10 * 60 * 1000;

/// A worker's generation, and how it came to be started.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WorkerLife {
    /// The record of the restart that started this worker, which the worker completes.
    pub(super) record: RestartRecord,
    /// An earlier restart that was in progress and never finished, with its final status.
    pub(super) abandoned: Option<RestartRecord>,
    /// Whether the previous worker died by its own fault, rather than being killed from outside.
    pub(super) died_by_own_doing: bool,
    /// Whether the life before it ended without a stop.
    pub(super) follows_no_stop: bool,
}

/// Determines a worker's generation. `planned` is the restart that it is the standby of, if any; `restored`
/// says whether the store was restored or salvaged since a worker last opened it.
pub(super) fn life(
    last: Option<RestartRecord>,
    planned: Option<RestartRecord>,
    cause: &StartCause,
    restored: bool,
    version: &str,
    now: UnixMillis,
) -> WorkerLife {
    let died_by_own_doing = matches!(
        cause,
        StartCause::Crash {
            own_doing: true,
            ..
        } | StartCause::Rollback { .. }
    );
    if let Some(mut record) = planned {
        if let StartCause::Crash { detail, .. } = cause {
            record.reason = Some(format!(
                "the worker before this one {detail} while it drained"
            ));
        }
        upgrade(&mut record, last.as_ref(), version);
        return WorkerLife {
            record,
            abandoned: None,
            died_by_own_doing,
            follows_no_stop: false,
        };
    }
    let Some(last) = last else {
        let record = record(
            Generation(1),
            Cause::Operator,
            "the first start",
            version,
            now,
        );
        return WorkerLife {
            record,
            abandoned: None,
            died_by_own_doing: false,
            follows_no_stop: false,
        };
    };
    if last.status == RestartStatus::Stopped {
        let mut record = RestartRecord {
            status: RestartStatus::Running,
            ..last.clone()
        };
        upgrade(&mut record, Some(&last), version);
        return WorkerLife {
            record,
            abandoned: None,
            died_by_own_doing,
            follows_no_stop: false,
        };
    }
    let is_restore = restored && *cause == StartCause::First;
    let trigger = match cause {
        StartCause::Crash { detail, .. } => format!("the worker {detail}"),
        StartCause::Rollback { detail } => format!("rolled back: the worker {detail}"),
        StartCause::First if is_restore => {
            "the daemon was started on a store that was restored or salvaged".to_owned()
        }
        StartCause::First | StartCause::Planned => {
            "the daemon was started after an end without a stop (a crash, or the power failed)"
                .to_owned()
        }
    };
    // A copy of a running daemon's store has no stop in it, and nothing has crashed.
    let (why, what) = match is_restore {
        true => (Cause::Operator, "the store was copied"),
        false => (Cause::Crash, "a crash came"),
    };
    let new = record(last.generation.next(), why, &trigger, version, now);
    let end = match last.status {
        RestartStatus::Running | RestartStatus::Probation
            if matches!(cause, StartCause::Rollback { .. }) =>
        {
            Some((RestartStatus::RolledBack, trigger))
        }
        RestartStatus::Running => Some((RestartStatus::Refused, format!("{what} before its end"))),
        RestartStatus::Probation => Some((
            RestartStatus::Completed,
            format!("{what} within its probation"),
        )),
        _ => None,
    };
    let abandoned = end.map(|(status, reason)| RestartRecord {
        status,
        reason: Some(reason),
        ..last
    });
    WorkerLife {
        record: new,
        abandoned,
        died_by_own_doing,
        follows_no_stop: true,
    }
}

/// Returns when workers were last killed for want of memory, or may have been, according to the
/// record of this start and the recent ones.
pub(super) fn memory_kills<'a>(
    records: impl IntoIterator<Item = &'a RestartRecord>,
) -> MemoryKills<UnixMillis> {
    let (mut by_kernel, mut by_unknown, mut by_others) = (None, Vec::new(), Vec::new());
    for record in records {
        if record.trigger.contains(KILLED_FOR_MEMORY) {
            by_kernel = by_kernel.max(Some(record.at));
        } else if record.trigger.contains(KILLED_BY_UNKNOWN) {
            by_unknown.push(record.at);
        } else if record.trigger.contains(KILLED) {
            by_others.push(record.at);
        }
    }
    // Of these, the kernel's account says that it was not the kernel.
    by_others.sort_unstable();
    let latest = by_others.last_chunk::<KILLS_MIN>();
    let by_others = latest.and_then(|[first, .., last]| {
        (last.since(*first) <= KILLS_MIN as u64 * KILLS_APART_MS).then_some(*last)
    });
    let last = by_unknown.iter().copied().max();
    // One may be a human's.
    let by_unknown = last.filter(|last| {
        let near = |at: &&UnixMillis| last.since(**at) <= UNKNOWN_KILLS_WITHIN_MS;
        by_unknown.iter().filter(near).count() >= UNKNOWN_KILLS_MIN
    });
    MemoryKills {
        by_kernel,
        by_unknown,
        // One finding tells of both.
        by_others: by_others.filter(|_| by_unknown.is_none()),
    }
}

/// Returns the configurations that were rolled back and have not passed probation since, with the
/// reason. `recent` are restart records, the latest first.
pub(super) fn rejected_configs(recent: &[RestartRecord]) -> BTreeMap<Digest, String> {
    let mut rejected_configs = BTreeMap::new();
    for record in recent.iter().rev() {
        match (record.tried, record.status) {
            (Some(tried), RestartStatus::RolledBack) => {
                let reason = record.reason.clone().unwrap_or_default();
                rejected_configs.insert(
                    tried,
                    format!("generation {}, {reason}", record.generation.0),
                );
            }
            (Some(tried), RestartStatus::Completed) => {
                rejected_configs.remove(&tried);
            }
            _ => {}
        }
    }
    rejected_configs
}

/// Creates the record of a restart that begins at `at`.
pub(super) fn record(
    generation: Generation,
    cause: Cause,
    trigger: &str,
    version: &str,
    at: UnixMillis,
) -> RestartRecord {
    RestartRecord {
        generation,
        cause,
        trigger: trigger.to_owned(),
        status: RestartStatus::Running,
        at,
        config_from: None,
        config_to: None,
        tried: None,
        version: version.to_owned(),
        active: 0,
        drain: DrainReport::default(),
        phases: Phases::default(),
        trial: Vec::new(),
        relaunch: RelaunchReport::default(),
        reason: None,
        handover_at: None,
    }
}

/// Marks the restart as an upgrade if an operator requested it and it started another version.
fn upgrade(record: &mut RestartRecord, last: Option<&RestartRecord>, version: &str) {
    let before = last.map_or(record.version.as_str(), |last| last.version.as_str());
    if record.cause == Cause::Operator && before != version {
        record.cause = Cause::Upgrade;
    }
    record.version = version.to_owned();
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(5_000);

    fn last(generation: u64, status: RestartStatus) -> RestartRecord {
        let at = UnixMillis(1_000);
        RestartRecord {
            status,
            ..record(Generation(generation), Cause::Config, "t", "1.0", at)
        }
    }

    fn crash(own_doing: bool) -> StartCause {
        StartCause::Crash {
            own_doing,
            detail: "SIGSEGV".into(),
        }
    }

    #[test]
    fn the_first_start_is_generation_one() {
        let life = life(None, None, &StartCause::First, false, "1.0", NOW);
        assert_eq!(life.record.generation, Generation(1));
    }

    #[test]
    fn kills_by_the_kernel_are_told_and_those_from_nobody_knows_where_once_there_are_several() {
        let record = |minute: u64, detail: &str| RestartRecord {
            at: UnixMillis(minute * 60_000),
            trigger: format!("the worker {detail} before it served"),
            ..last(4, RestartStatus::Completed)
        };
        let kernel = [record(3, KILLED_FOR_MEMORY), record(2, KILLED_FOR_MEMORY)];
        let kills = memory_kills(&kernel);
        assert_eq!(
            (kills.by_kernel, kills.by_unknown),
            (Some(UnixMillis(180_000)), None)
        );
        let unknown = |minutes: [u64; 4]| minutes.map(|at| record(at, KILLED_BY_UNKNOWN));
        let several = memory_kills(&unknown([14, 13, 12, 11]));
        assert_eq!(several.by_unknown, Some(UnixMillis(14 * 60_000)));
        let scattered = memory_kills(&unknown([14, 13, 12, 1]));
        assert_eq!(scattered.by_unknown, None);
        let at = |second: u64| RestartRecord {
            at: UnixMillis(second * 1000),
            ..record(0, KILLED)
        };
        let told = |kills: Vec<RestartRecord>| memory_kills(&kills).by_others.is_some();
        assert!(told((0..10).map(at).collect()));
        assert!(!told((0..9).map(at).collect()));
        assert!(!told((0..10).map(|n| at(n * 60)).collect()));
        // Of the latest ones, whatever was before.
        assert!(told((0..10).map(|n| at(n + 9000)).chain([at(1)]).collect()));
    }

    #[test]
    fn a_stop_and_the_next_start_are_one_restart() {
        let stopped = RestartRecord {
            cause: Cause::Operator,
            ..last(4, RestartStatus::Stopped)
        };
        let same = life(
            Some(stopped.clone()),
            None,
            &StartCause::First,
            false,
            "1.0",
            NOW,
        );
        assert_eq!(
            (same.record.generation, same.record.cause),
            (Generation(4), Cause::Operator)
        );
        assert_eq!(
            same.record.at,
            UnixMillis(1_000),
            "told from the stop, not from the start"
        );
        let newer = life(Some(stopped), None, &StartCause::First, false, "1.1", NOW);
        assert_eq!(newer.record.cause, Cause::Upgrade);
    }

    #[test]
    fn an_end_without_a_stop_is_a_crash() {
        for cause in [StartCause::First, crash(false), crash(true)] {
            let life = life(
                Some(last(4, RestartStatus::Completed)),
                None,
                &cause,
                false,
                "1.0",
                NOW,
            );
            assert_eq!(
                (life.record.generation, life.record.cause),
                (Generation(5), Cause::Crash)
            );
            assert_eq!(life.died_by_own_doing, cause == crash(true));
        }
    }

    #[test]
    fn the_start_of_a_restored_store_is_no_crash() {
        let probation = Some(last(4, RestartStatus::Probation));
        let first = life(
            probation.clone(),
            None,
            &StartCause::First,
            true,
            "1.0",
            NOW,
        );
        assert_eq!(
            (first.record.generation, first.record.cause),
            (Generation(5), Cause::Operator)
        );
        assert!(first.follows_no_stop);
        let before = first.abandoned.and_then(|before| before.reason);
        assert_eq!(
            before.as_deref(),
            Some("the store was copied within its probation")
        );
        // The worker that opens it dies, and another one has the same order to carry out.
        let again = life(probation, None, &crash(true), true, "1.0", NOW);
        assert_eq!(again.record.cause, Cause::Crash);
    }

    #[test]
    fn a_restart_that_a_crash_cut_off_is_told_as_refused() {
        let life = life(
            Some(last(4, RestartStatus::Running)),
            None,
            &crash(false),
            false,
            "1.0",
            NOW,
        );
        assert_eq!(life.record.generation, Generation(5));
        let abandoned = life.abandoned.map(|r| (r.generation, r.status));
        assert_eq!(abandoned, Some((Generation(4), RestartStatus::Refused)));
    }

    #[test]
    fn a_restart_that_did_not_prove_itself_is_told_as_rolled_back_and_not_tried_again() {
        let (bad, good) = (Digest::of(b"bad"), Digest::of(b"good"));
        let rollback = StartCause::Rollback {
            detail: "died of SIGABRT".into(),
        };
        for status in [RestartStatus::Running, RestartStatus::Probation] {
            let tried = RestartRecord {
                tried: Some(bad),
                ..last(4, status)
            };
            let life = life(Some(tried), None, &rollback, false, "1.0", NOW);
            assert!(life.died_by_own_doing);
            assert_eq!(
                life.record.trigger,
                "rolled back: the worker died of SIGABRT"
            );
            let abandoned = life.abandoned.expect("the restart before");
            assert_eq!(abandoned.status, RestartStatus::RolledBack);
            let completed = |generation, tried| RestartRecord {
                tried: Some(tried),
                ..last(generation, RestartStatus::Completed)
            };
            let only =
                |recent: &[RestartRecord]| rejected_configs(recent).into_keys().collect::<Vec<_>>();
            let recent = [completed(5, good), abandoned.clone(), completed(3, bad)];
            assert_eq!(only(&recent), [bad]);
            let recent = [completed(5, bad), abandoned];
            assert_eq!(only(&recent), []);
        }
    }

    #[test]
    fn a_standby_takes_its_restart_over_even_from_a_dead_worker() {
        let planned = last(4, RestartStatus::Running);
        let life = life(
            Some(planned.clone()),
            Some(planned),
            &crash(true),
            false,
            "1.0",
            NOW,
        );
        assert_eq!(
            (life.record.generation, life.record.cause),
            (Generation(4), Cause::Config)
        );
        assert!(life.died_by_own_doing && life.abandoned.is_none());
    }
}
