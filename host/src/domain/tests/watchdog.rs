//! The watchdog's rules: what they find, and what they do not.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

use std::time::Duration;

fn id(text: &str) -> SessionId {
    SessionId::new(text).expect("it is a plain name")
}

fn seen() -> Observation {
    Observation {
        now: UnixMillis(1_000_000),
        open_for: Some(600 * SECOND),
        roomy: true,
        longest_turn: 60 * SECOND,
        folder: "data".into(),
        ..Observation::default()
    }
}

fn session(change: impl FnOnce(&mut SessionSigns)) -> Observation {
    let mut signs = SessionSigns {
        id: id("s"),
        busy_for: None,
        waits_for: None,
        obstacle: None,
        turn: None,
    };
    change(&mut signs);
    Observation {
        sessions: vec![signs],
        ..seen()
    }
}

fn turn(begun: Duration, runs: Option<Timed>, step: Option<(u32, Timed)>) -> Observation {
    session(|signs| {
        signs.turn = Some(TurnSigns {
            turn: 3,
            begun_for: begun,
            memory: None,
            runs,
            step,
        });
    })
}

fn timed(taken: Duration, limit: Duration) -> Timed {
    Timed { taken, limit }
}

fn kinds(seen: &Observation) -> Vec<FindingKind> {
    judge(seen).iter().map(|finding| finding.kind).collect()
}

#[test]
fn nothing_is_found_where_all_is_well() {
    assert_eq!(judge(&seen()), []);
    let busy = turn(
        50 * SECOND,
        Some(timed(50 * SECOND, 60 * SECOND)),
        Some((1, timed(20 * SECOND, 30 * SECOND))),
    );
    assert_eq!(judge(&busy), []);
    // A turn at its limit, but within the margin.
    let ending = turn(
        69 * SECOND,
        Some(timed(60 * SECOND + TURN_MARGIN, 60 * SECOND)),
        Some((1, timed(30 * SECOND + STEP_MARGIN, 30 * SECOND))),
    );
    assert_eq!(judge(&ending), []);
}

#[test]
fn a_turn_and_a_step_past_their_time_are_told_with_the_remedy() {
    let late = turn(
        80 * SECOND,
        Some(timed(71 * SECOND, 60 * SECOND)),
        Some((2, timed(61 * SECOND, 30 * SECOND))),
    );
    let found = judge(&late);
    assert_eq!(
        kinds(&late),
        [FindingKind::TurnOverdue, FindingKind::StepOverdue]
    );
    assert_eq!(found[0].subject, "s");
    assert_eq!(found[0].since, UnixMillis(1_000_000 - 71_000));
    assert!(found[0].reason.contains("turn 3") && found[0].reason.contains("1m"));
    assert_eq!(found[0].remedy, "abide sessions cancel s");
    assert!(found[1].reason.contains("step 2 of turn 3"));
}

#[test]
fn a_session_with_work_that_does_not_run_is_stuck_unless_it_has_a_reason() {
    let waits = |lasts: Duration| session(|signs| signs.waits_for = Some(lasts));
    assert_eq!(judge(&waits(STUCK_AFTER)), []);
    let stuck = waits(STUCK_AFTER + SECOND);
    assert_eq!(kinds(&stuck), [FindingKind::SessionStuck]);
    // A drain prevents turns from beginning; afterwards the wait of older work counts only from the
    // drain's end.
    for open_for in [None, Some(SECOND)] {
        let drained = Observation {
            open_for,
            ..stuck.clone()
        };
        assert_eq!(judge(&drained), []);
    }
    // The store's own finding explains it.
    let writer = WriterSigns {
        failing: Some("the disk is full".into()),
        ..WriterSigns::default()
    };
    let failing = Observation { writer, ..stuck };
    assert_eq!(kinds(&failing), [FindingKind::StoreFailing]);
    let findings = judge(&session(|signs| {
        signs.waits_for = Some(60 * SECOND);
        signs.obstacle = Some("its log is damaged".into());
    }));
    assert!(findings[0].reason.ends_with("its log is damaged"));
}

#[test]
fn a_turn_may_wait_for_room_only_where_there_is_none() {
    let waits = turn(60 * SECOND, None, None);
    assert_eq!(kinds(&waits), [FindingKind::SessionStuck]);
    let full = Observation {
        roomy: false,
        ..waits
    };
    assert_eq!(judge(&full), []);
}

#[test]
fn an_owner_may_be_at_one_thing_for_as_long_as_a_guest_may_take() {
    let busy = |lasts: Duration| session(|signs| signs.busy_for = Some(lasts));
    assert_eq!(judge(&busy(60 * SECOND + STUCK_AFTER)), []);
    assert_eq!(
        kinds(&busy(61 * SECOND + STUCK_AFTER)),
        [FindingKind::SessionStuck]
    );
    let ownerless = Observation {
        ownerless: vec![id("o")],
        ..seen()
    };
    assert_eq!(judge(&ownerless)[0].subject, "o");
}

#[test]
fn the_writer_and_the_disk_are_told() {
    let writer = |lasts: Duration| Observation {
        writer: WriterSigns {
            stalled_for: Some(lasts),
            ..WriterSigns::default()
        },
        ..seen()
    };
    assert_eq!(judge(&writer(WRITER_STALLED_AFTER)), []);
    assert_eq!(
        kinds(&writer(WRITER_STALLED_AFTER + SECOND)),
        [FindingKind::WriterStalled]
    );
    let late = Observation {
        writer: writer(WRITER_STALLED_AFTER + SECOND).writer,
        ..turn(80 * SECOND, Some(timed(80 * SECOND, SECOND)), None)
    };
    assert_eq!(kinds(&late), [FindingKind::WriterStalled]);
    let low = Observation {
        disk: Some(DiskSigns {
            free_bytes: 10 << 20,
            reserve_bytes: 256 << 20,
            is_low: true,
        }),
        ..seen()
    };
    let found = judge(&low);
    assert_eq!(found[0].kind, FindingKind::DiskNearlyFull);
    assert!(found[0].reason.contains("10.0 MiB") && found[0].reason.contains("256.0 MiB"));
    assert!(found[0].remedy.contains("daemon.disk_reserve"));
}

#[test]
fn a_kill_for_want_of_memory_is_told_for_an_hour() {
    let killed = |ago: Duration| Observation {
        memory_kills: MemoryKills {
            by_kernel: Some(ago),
            ..MemoryKills::default()
        },
        ..seen()
    };
    let found = judge(&killed(OUT_OF_MEMORY_SHOWN - SECOND));
    assert_eq!(found[0].kind, FindingKind::OutOfMemory);
    assert!(found[0].remedy.contains("limits.memory"), "{found:?}");
    assert_eq!(judge(&killed(OUT_OF_MEMORY_SHOWN)), []);
}

#[test]
fn kills_from_nobody_knows_where_are_told() {
    let seen = Observation {
        memory_kills: MemoryKills {
            by_unknown: Some(100 * SECOND),
            ..MemoryKills::default()
        },
        ..seen()
    };
    let found = judge(&seen);
    assert_eq!(found[0].kind, FindingKind::KilledRepeatedly);
    assert!(found[0].remedy.contains("daemon.guest_memory"), "{found:?}");
}

#[test]
fn a_turn_that_waits_long_for_memory_is_told_with_the_numbers() {
    let waits = |long, open_for| {
        let mut seen = turn(long, None, None);
        let signs = seen.sessions[0].turn.as_mut().expect("it has a turn");
        signs.memory = Some((long, 60 << 20));
        seen.guest_memory = GuestMemoryStatus {
            budget_bytes: 100 << 20,
            reserved_bytes: 90 << 20,
            waiting: 1,
        };
        Observation { open_for, ..seen }
    };
    let open_for = seen().open_for;
    let found = judge(&waits(MEMORY_AFTER + SECOND, open_for));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind, FindingKind::GuestMemoryShort);
    for size in ["60.0 MiB", "90.0 MiB", "100.0 MiB"] {
        assert!(found[0].reason.contains(size), "{found:?}");
    }
    assert_eq!(judge(&waits(MEMORY_AFTER, open_for)), []);
    // A drain has frozen it.
    assert_eq!(judge(&waits(MEMORY_AFTER + SECOND, None)), []);
}

#[test]
fn each_step_of_the_clock_is_told_with_its_size() {
    let step = |by_ms, to| ClockStep {
        by_ms,
        to: UnixMillis(to),
        ago: 5 * SECOND,
    };
    let found = judge(&Observation {
        // Both clocks are not read at the same instant, so a step is measured inexactly.
        clock_steps: vec![step(89_999_998, 90_000_000), step(-7_200_003, 1000)],
        ..seen()
    });
    assert_eq!(found.len(), 2);
    for (finding, size, subject) in [
        (
            &found[0],
            "forward by 1day 1h",
            "at 1970-01-02T01:00:00.000Z",
        ),
        (&found[1], "back by 2h", "at 1970-01-01T00:00:01.000Z"),
    ] {
        assert_eq!(finding.kind, FindingKind::ClockStepped);
        assert!(finding.reason.contains(size), "{finding:?}");
        assert!(finding.subject.ends_with(subject), "{finding:?}");
        assert!(finding.remedy.contains("NTP"), "{finding:?}");
        assert_eq!(finding.since, UnixMillis(1_000_000 - 5000));
    }
}

#[test]
fn a_damaged_table_is_told_and_so_is_what_was_lost() {
    let found = judge(&Observation {
        damage: Some("Corruption: block checksum mismatch in 000009.sst".to_owned()),
        kept_aside: vec![(
            "/data/damaged-1".to_owned(),
            "`s`: events up to 7".to_owned(),
        )],
        ..seen()
    });
    let kinds: Vec<_> = found.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::StoreDamaged, FindingKind::StoreMended]);
    assert!(found[0].reason.contains("000009.sst"), "{found:?}");
    assert_eq!(found[1].subject, "/data/damaged-1");
    assert!(found[1].reason.contains("`s`: events up to 7"), "{found:?}");
}

#[test]
fn a_disk_that_was_low_needs_some_more() {
    for (was_low, free, is_low) in [
        (false, 800, false),
        (false, 799, true),
        (true, 800, true),
        (true, 899, true),
        (true, 900, false),
    ] {
        assert_eq!(DiskSigns::is_low(was_low, free, 800), is_low, "{free}");
    }
    assert!(!DiskSigns::is_low(true, 0, 0), "nothing is held back");
}

#[test]
fn findings_appear_and_go_once_and_keep_their_moment() {
    let stuck = session(|signs| signs.waits_for = Some(40 * SECOND));
    let mut findings = Findings::default();
    let first = findings.update(judge(&stuck));
    assert_eq!((first.appeared.len(), first.gone.len()), (1, 0));
    let later = Observation {
        now: UnixMillis(1_060_000),
        ..stuck
    };
    let still = findings.update(judge(&later));
    assert_eq!(still, Changes::default());
    assert_eq!(findings.count(FindingKind::SessionStuck), 1);
    let since = findings.all().next().map(|finding| finding.since);
    assert_eq!(since, Some(first.appeared[0].since));
    let last = findings.update(Vec::new());
    assert_eq!((last.appeared.len(), last.gone.len()), (0, 1));
    assert_eq!(findings.all().count(), 0);
}

#[test]
fn less_than_was_recorded_is_told_and_more_is_not() {
    let recorded = ActiveSession {
        id: id("s"),
        turns: 3,
        seq: 12,
        cursor: 9,
        subscribers: 0,
    };
    let extent = |turns, seq, cursor| Extent { turns, seq, cursor };
    assert_eq!(recorded.shortfall(Some(extent(3, 12, 9))), None);
    assert_eq!(recorded.shortfall(Some(extent(4, 20, 15))), None);
    for less in [extent(2, 12, 9), extent(3, 11, 9), extent(3, 12, 8)] {
        let lacks = recorded.shortfall(Some(less)).expect("it is less");
        assert_eq!(
            (lacks.recorded, lacks.found),
            (extent(3, 12, 9), Some(less))
        );
    }
    let gone = recorded.shortfall(None).expect("nothing is less");
    assert_eq!(
        gone.to_string(),
        "recorded: 3 turns, 12 records, cursor 9; found: nothing"
    );
    let finding = gone.finding(UnixMillis(7));
    assert_eq!(
        (finding.kind, finding.since),
        (FindingKind::SessionLesser, UnixMillis(7))
    );
}

#[test]
fn a_record_names_all_that_lack_and_tells_the_first_in_full() {
    let mut report = RelaunchReport::default();
    for n in 0..SHORTFALLS_TOLD + 5 {
        report.lacks(Regression {
            id: id(&format!("s{n}")),
            recorded: Extent {
                turns: 1,
                seq: 1,
                cursor: 1,
            },
            found: None,
        });
    }
    assert_eq!(report.lesser.len(), SHORTFALLS_TOLD + 5);
    assert_eq!(report.shortfalls.len(), SHORTFALLS_TOLD);
}
