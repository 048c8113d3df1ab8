//! Sessions that go back to an earlier state, and copies of sessions.

use super::journal::{done, ok, planned, tool};
use super::*;

/// A session whose restore points are kept, all of them.
struct Kept {
    driven: Driven,
    points: Vec<Point>,
}

impl Kept {
    fn new() -> Self {
        let driven = Driven::new();
        let first = driven.session.point(0, 100, Owed::default(), UnixMillis(0));
        Self {
            driven,
            points: vec![first],
        }
    }

    /// Performs a turn that sets these timers, and orders something if it is to.
    fn turn(&mut self, timers: Vec<TimerOp>, orders: bool) -> Option<Notice> {
        let driven = &mut self.driven;
        driven.now += 1;
        driven.receive().expect("it has room");
        let begun = driven.begin().expect("a message waits");
        if orders {
            let call = format!("{{\"n\":{}}}", begun.turn);
            driven.add(planned(begun.turn, 1, &call, vec![tool(false)]));
            driven.add(done(begun.turn, 1, 0, ok("ordered")));
        }
        let since = driven.session.told_by_commit();
        driven.complete();
        if let Some((_, Record::Ended(ended))) = driven.log.last_mut()
            && let TurnEnd::Completed { timers: ops, .. } = &mut ended.end
        {
            *ops = timers;
        }
        self.refold();
        let point = self
            .driven
            .session
            .point(begun.turn, 100, since, UnixMillis(self.driven.now));
        self.points.push(point);
        begun.notice
    }

    /// Folds the log again, as its last record was changed.
    fn refold(&mut self) {
        let log = std::mem::take(&mut self.driven.log);
        let mut log = log.into_iter();
        let (at, first) = log.next().expect("it was created");
        self.driven.session = Session::create(&first).expect("the first record");
        self.driven.log.push((at, first));
        for (_, record) in log {
            self.driven.add(record);
        }
    }

    fn rewind(&mut self, point: usize) -> Result<RewoundTo, Refusal> {
        self.driven.now += 1;
        let records = self.driven.session.rewind(&Rewinding {
            point: &self.points[point],
            later: &self.points[point + 1..],
            fired: &[],
            configured: self.driven.component,
            by: Some("ann".into()),
            at: UnixMillis(self.driven.now),
        })?;
        let rewound = RewoundTo::by(&records);
        for record in records {
            self.driven.add(record);
        }
        let turn = self.points[point].turn;
        let now = UnixMillis(self.driven.now);
        let taken = self.driven.session.point(turn, 100, Owed::default(), now);
        self.points.push(taken);
        Ok(rewound)
    }
}

fn timer(name: &str, due: u64) -> Timer {
    Timer {
        name: name.into(),
        due: UnixMillis(due),
        text: String::new(),
    }
}

fn names(timers: &[Timer]) -> Vec<&str> {
    timers.iter().map(|timer| timer.name.as_str()).collect()
}

#[test]
fn a_rewind_is_told_with_what_the_undone_turns_did() {
    let mut kept = Kept::new();
    for orders in [true, false, true, true] {
        kept.turn(Vec::new(), orders);
    }
    let before = kept.driven.session.clone();
    let rewound = kept.rewind(2).expect("it is another state");
    assert_eq!((rewound.turn, rewound.turns_with_effects), (2, 2));
    let after = &kept.driven.session.progress;
    // What counts only grows.
    assert_eq!(after.turns, before.progress.turns);
    assert_eq!(after.last_turn, 4);
    assert_eq!(after.next.cursor, before.progress.next.cursor + 1);
    let events = kept.driven.events();
    assert!(matches!(
        events.last().map(|event| &event.body),
        Some(EventBody::Rewound { to_turn: 2, by: Some(by), .. }) if by == "ann"
    ));
    let notice = kept.turn(Vec::new(), false).expect("it is told");
    assert_eq!(notice.notice_cause(), NoticeCause::Rewound);
    assert_eq!(notice.recovery_cause(), Some(Cause::Operator));
    let text = notice.text();
    for part in [
        "as it was after turn 2",
        "{\"n\":3} -> ordered",
        "{\"n\":4} -> ordered",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("{\"n\":1}"), "{text}");
    assert_eq!(kept.turn(Vec::new(), false), None, "it was told");
    // What was told is forgotten again with the turn that heard it.
    kept.rewind(2).expect("it is another state");
    let text = kept.turn(Vec::new(), false).expect("it is told").text();
    assert!(text.contains("{\"n\":4} -> ordered"), "{text}");
}

#[test]
fn a_rewind_that_is_undone_tells_of_nothing_that_stands() {
    let mut kept = Kept::new();
    kept.turn(Vec::new(), true);
    kept.turn(Vec::new(), true);
    kept.rewind(1).expect("another state");
    let again = kept.rewind(2).expect("another state");
    assert_eq!(again.turns_with_effects, 0);
    let text = kept.turn(Vec::new(), false).expect("it is told").text();
    assert!(
        text.contains("after turn 2") && !text.contains("ordered"),
        "{text}"
    );
    assert!(
        !text.contains("after turn 1"),
        "the first rewind is void: {text}"
    );
}

#[test]
fn what_a_state_was_owed_comes_back_with_it() {
    let mut kept = Kept::new();
    for orders in [false, true, true] {
        kept.turn(Vec::new(), orders);
    }
    kept.rewind(1).expect("another state");
    kept.rewind(3).expect("another state");
    // To the first rewind's own state, which had heard of nothing.
    kept.rewind(4).expect("another state");
    let text = kept.turn(Vec::new(), false).expect("it is told").text();
    for part in ["{\"n\":2} -> ordered", "{\"n\":3} -> ordered"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(text.matches("ordered").count(), 2, "{text}");
    // A cut that was told to a turn is told again when that is undone.
    let at = UnixMillis(kept.driven.now);
    let cut = kept
        .driven
        .session
        .cut(TimelineName::draw(1), CutCause::Salvage, "damage", at);
    cut.into_iter().for_each(|record| kept.driven.add(record));
    let resumed = kept.driven.session.resume(at).expect("it waits");
    kept.driven.add(resumed);
    let of_cut = kept.turn(Vec::new(), false).expect("it is told");
    assert_eq!(of_cut.notice_cause(), NoticeCause::HistoryCut);
    kept.rewind(1).expect("another state");
    let again = kept.turn(Vec::new(), false).expect("it is told");
    assert_eq!(again.notice_cause(), NoticeCause::HistoryCut);
    assert!(again.text().contains("as it was after turn 1"));
}

#[test]
fn timers_are_those_of_the_point_but_for_those_that_have_fired() {
    let mut kept = Kept::new();
    let set = |name, due| TimerOp::Set(timer(name, due));
    let cancel = |name: &str| TimerOp::Cancel { name: name.into() };
    kept.turn(
        vec![set("stays", 900), set("fires", 5), set("cancelled", 800)],
        false,
    );
    kept.turn(vec![set("later", 700), cancel("cancelled")], false);
    kept.driven.now = 10;
    let fired = kept
        .driven
        .session
        .fire_timer(&timer("fires", 5), UnixMillis(10));
    kept.driven.add(fired.expect("it is set"));
    let rewound = kept.rewind(1).expect("another state");
    assert_eq!(names(&rewound.dropped_timers), ["later"]);
    assert_eq!(names(&rewound.returned_timers), ["cancelled"]);
    assert_eq!(names(&rewound.fired_timers), ["fires"]);
    let mut set_now = names(&kept.driven.session.progress.timers);
    set_now.sort_unstable();
    assert_eq!(set_now, ["cancelled", "stays"]);
    // Its message waits all the same: it was accepted.
    assert_eq!(kept.driven.session.queue.len(), 1);
}

#[test]
fn an_open_turn_ends_as_by_a_cancel_and_the_inbox_stays() {
    let mut kept = Kept::new();
    kept.turn(Vec::new(), false);
    kept.driven.receive().expect("room");
    kept.driven.receive().expect("room");
    let open = kept.driven.begin().expect("a message waits");
    kept.driven
        .add(planned(open.turn, 1, "{\"n\":2}", vec![tool(false)]));
    let rewound = kept.rewind(1).expect("a turn is open");
    assert_eq!(
        (rewound.cancelled, rewound.turns_with_effects),
        (Some(2), 1)
    );
    assert_eq!(kept.driven.session.progress.dead_letters, 1);
    assert_eq!(kept.driven.session.queue.len(), 1);
    let begun = kept.driven.begin().expect("a message waits");
    let text = begun.notice.expect("it is told").text();
    assert!(
        text.contains("Nobody knows") && text.contains("{\"n\":2}"),
        "{text}"
    );
    kept.driven.complete();
    let mut idle = Kept::new();
    idle.turn(Vec::new(), false);
    assert_eq!(idle.rewind(1), Err(Refusal::NothingToUndo));
}

#[test]
fn a_state_of_another_component_stays_on_it_and_a_fault_ends() {
    let mut kept = Kept::new();
    kept.turn(Vec::new(), false);
    let old = kept.driven.component;
    kept.driven.component = Digest::of(b"new");
    kept.turn(Vec::new(), false);
    let fault = Fault {
        code: FaultCode::Restore,
        text: "it traps".into(),
        component: Some(old),
    };
    let faulted = kept.driven.session.fault(fault, UnixMillis(9));
    kept.driven.add(faulted.expect("it has none"));
    kept.rewind(1).expect("another state");
    assert_eq!(kept.driven.session.state(), SessionState::Idle);
    kept.driven.receive().expect("room");
    assert_eq!(kept.driven.begin().expect("a message waits").component, old);
    kept.driven.complete();
    // Forth again: the plugin's own component has no need of a pin.
    kept.rewind(2).expect("another state");
    assert_eq!(kept.driven.session.progress.pin, None);
}

#[test]
fn a_copy_begins_with_the_state_and_leaves_behind_what_waits() {
    let mut kept = Kept::new();
    kept.turn(vec![TimerOp::Set(timer("tick", 900))], false);
    kept.turn(Vec::new(), true);
    kept.driven.receive().expect("room");
    let point = kept.points[1].clone();
    let (left, owed) = kept.driven.session.not_copied(&point, &kept.points[2..]);
    assert_eq!(
        (left.messages.len(), names(&left.timers)),
        (1, vec!["tick"])
    );
    let history = kept.driven.log.iter();
    let history = history.filter(|(at, _)| *at <= point.at);
    let history = history.map(|(at, _)| (*at, Vec::new())).collect();
    let copy = SessionCopy {
        session: SessionId::new("a").expect("an id"),
        identity: kept.driven.session.identity.clone(),
        point,
        timeline: SessionTimeline::default(),
        snapshot: Vec::new(),
        history,
        owed,
        left,
    };
    for how in [Replacement::Forked, Replacement::Imported] {
        let timeline = (how == Replacement::Imported).then(|| TimelineName::draw(7));
        let (session, records) = copy.begin(&NewCopy {
            how,
            generation: Generation(3),
            timeline: timeline.clone(),
            configured: component(),
            by: None,
            at: UnixMillis(50),
        });
        assert_eq!(records.len(), 1);
        assert_eq!(session.cursor(), copy.point.cursor + 1);
        assert_eq!(session.progress.turns, 1);
        assert_eq!(session.state(), SessionState::Idle);
        assert!(session.progress.timers.is_empty());
        assert_eq!(session.progress.timeline.name(), timeline.as_ref());
        assert_eq!(session.progress.snapshot.at, records[0].0);
        let owed = session.owed_notice(Generation(3), &[], WINDOW_MS);
        let text = owed.expect("it is told").text();
        for part in ["session a was after turn 1", "tick", "{\"n\":2} -> ordered"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        // A fold over history and records gives the same.
        let mut folded = Session::create(&kept.driven.log[0].1).expect("the first record");
        for (at, record) in &kept.driven.log[1..] {
            if *at <= copy.point.at {
                folded.apply(record);
            }
        }
        for (_, record) in &records {
            folded.apply(record);
        }
        assert_eq!(folded, session);
    }
}
