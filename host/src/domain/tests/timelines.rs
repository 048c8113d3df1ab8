//! Cuts of a session's history: nothing begins by itself, nothing is used twice, and nobody is left
//! in the dark.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::journal::{done, ok, planned, tool};
use super::rules::{Act, act, drive, go_on};
use super::*;

fn name(bits: u64) -> TimelineName {
    TimelineName::draw(bits)
}

fn position(text: &str) -> EventId {
    EventId::parse(text).expect("it is one")
}

impl Driven {
    pub(super) fn cut(&mut self, bits: u64) {
        let cause = CutCause::Restore;
        let at = UnixMillis(self.now);
        let detail = "the backup is of yesterday";
        for record in self.session.cut(name(bits), cause, detail, at) {
            self.add(record);
        }
    }

    fn resume(&mut self) {
        let record = self.session.resume(UnixMillis(self.now));
        self.add(record.expect("it waits for it"));
    }

    fn view(&self) -> SessionView {
        self.session.view(&SessionId::new("s").expect("it is one"))
    }

    /// Returns everything of the events after a cursor that clients know by a name of its own.
    fn names_after(&self, cursor: u64) -> BTreeSet<String> {
        let events = self.events().into_iter();
        let mut names = BTreeSet::new();
        for event in events.filter(|event| event.cursor > cursor) {
            names.insert(format!("event {}", event.id()));
            match event.body {
                EventBody::Message { message, .. } => names.insert(format!("message {message}")),
                EventBody::Approval { approval, .. } => {
                    names.insert(format!("approval {approval}"))
                }
                _ => false,
            };
        }
        names
    }
}

#[test]
fn a_cut_ends_the_open_turn_and_parks_the_session_until_it_is_resumed() {
    let mut driven = Driven::new();
    driven.answer_one();
    driven.open();
    driven.add(planned(2, 1, "a", vec![tool(false)]));
    driven.add(done(2, 1, 0, ok("A")));
    driven.add(planned(2, 2, "b", vec![tool(false)]));
    driven.receive().expect("room");
    let before = driven.session.cursor();
    driven.cut(7);

    let view = driven.view();
    assert_eq!(view.state, SessionState::Parked);
    let reason = view.reason.expect("it does not run");
    assert_eq!(
        (reason.code.as_str(), reason.action.as_str()),
        (HISTORY_CUT, "abide resume s")
    );
    assert!(
        reason.text.contains("backup is of yesterday"),
        "{}",
        reason.text
    );
    assert_eq!(
        (view.timeline.as_ref(), view.queued, view.dead),
        (Some(&name(7)), 1, 1)
    );
    assert!(!driven.session.has_work() && driven.begin().is_none());
    assert_eq!(driven.session.worker_died(UnixMillis(driven.now)), None);

    // The cut is the first event of the new timeline, and all that it does is on it.
    let events: Vec<Event> = driven.events().split_off(before as usize);
    assert_eq!(
        events
            .iter()
            .map(|event| event.body.kind())
            .collect::<Vec<_>>(),
        ["timeline", "turn"]
    );
    assert!(events.iter().all(|event| event.timeline == Some(name(7))));
    let EventBody::Timeline {
        previous, cause, ..
    } = &events[0].body
    else {
        panic!("{:?}", events[0]);
    };
    let expected = PreviousTimeline {
        timeline: None,
        last: before,
    };
    assert_eq!((previous, *cause), (&expected, CutCause::Restore));

    // It accepts messages, under ids of its own, and receives timers.
    driven
        .receive()
        .expect("a parked session accepts and holds");
    let last = driven.session.queue.back().expect("it waits");
    assert_eq!(last.id, MessageId::on(Some(&name(7)), before + 3));
    assert!(driven.begin().is_none());

    driven.resume();
    assert_eq!(driven.session.state(), SessionState::Queued);
    let begun = driven.begin().expect("it goes on");
    let notice = begun.notice.expect("its guest is told first");
    assert_eq!(
        (notice.notice_cause(), notice.recovery_cause()),
        (NoticeCause::HistoryCut, Some(Cause::Operator))
    );
    assert_eq!(notice.id(), format!("{}.n1", name(7)));
    let text = notice.text();
    for part in [
        "[system] The history of this session was cut: it was restored from a backup",
        "the backup is of yesterday.",
        "Turn 2 was open, and was ended",
        "find out before making a call again",
        "\n- t b\n",
        "\n- t a -> A",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("restarted"), "{text}");
    driven.fail();
    assert!(driven.session.has_work(), "a further message waits");
    let notice = driven.answer_one().expect("a failed turn gives it back");
    assert_eq!(notice.notice_cause(), NoticeCause::HistoryCut);
    assert_eq!(driven.answer_one(), None, "it has been told");
    let refused = driven.session.resume(UnixMillis(driven.now));
    assert_eq!(refused, Err(Refusal::NotFaulted));
}

#[test]
fn a_restart_and_a_cut_are_told_together_however_long_ago_the_last_turn_was() {
    let mut driven = Driven::new();
    driven.answer_one();
    driven.now += 2 * WINDOW_MS;
    driven.cut(1);
    driven.resume();
    assert!(driven.answer_one().is_some(), "the window is for restarts");

    driven.restart(Cause::Config);
    driven.cut(2);
    driven.cut(3);
    driven.resume();
    let notice = driven.answer_one().expect("it is owed");
    assert_eq!(notice.notice_cause(), NoticeCause::HistoryCut);
    assert_eq!(
        notice.recovery_cause(),
        Some(Cause::Operator),
        "guests know no other"
    );
    let text = notice.text();
    assert!(text.contains("the last of 2 cuts"), "{text}");
    assert!(
        text.contains("\nThe daemon restarted due to a configuration change."),
        "{text}"
    );
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn what_a_lost_turn_did_is_not_done_again_without_force() {
    let mut driven = Driven::new();
    driven.open();
    driven.cut(7);
    let Some((_, Record::Ended(ended))) = driven.log.last() else {
        panic!("the turn was open");
    };
    let TurnEnd::Failed(reason) = ended.end.clone() else {
        panic!("{:?}", ended.end);
    };
    assert_eq!(reason.code, FailureCode::HistoryCut);
    let letter = DeadLetter {
        message: Message {
            id: ended.message.clone(),
            from: Role::User,
            name: None,
            text: "hello".into(),
            at: UnixMillis(1),
            due: None,
        },
        reason,
        turn: Some(ended.turn),
        effects: ended.effects,
        at: ended.at,
    };
    assert_eq!(letter.effects, 0, "the log knows of none");
    let at = UnixMillis(driven.now);
    let retry = |force| {
        driven
            .session
            .retry(letter.clone(), force, &driven.limits, at)
    };
    assert_eq!(retry(false), Err(Refusal::MayHaveActed));
    assert!(retry(true).is_ok());
}

#[test]
fn a_fault_is_ended_before_the_wait_is() {
    let mut driven = Driven::new();
    let fault = |code| Fault {
        code,
        text: "no".into(),
        component: Some(component()),
    };
    driven.receive().expect("room");
    let at = UnixMillis(driven.now);
    let record = driven.session.fault(fault(FaultCode::Restore), at);
    driven.add(record.expect("it is new"));
    driven.cut(7);
    assert_eq!(driven.session.state(), SessionState::Faulted);
    // What a new component resumes by itself still waits for an operator.
    driven.resume();
    assert_eq!(driven.session.state(), SessionState::Parked);
    assert!(driven.begin().is_none());
    driven.resume();
    driven.begin().expect("it goes on");

    // A fault of the turn that the cut ends is over with it.
    let record = driven.session.fault(fault(FaultCode::KillsWorker), at);
    driven.add(record.expect("it is new"));
    driven.cut(8);
    assert_eq!(driven.session.state(), SessionState::Parked);
}

#[test]
fn approvals_of_before_the_cut_are_void() {
    let session = SessionId::new("a:b.c/d").expect("it is one");
    let ask = |timeline: Option<&TimelineName>, turn| {
        let call = ToolCall {
            name: "t__pay".into(),
            arguments: "{}".into(),
        };
        Asked {
            id: ApprovalId::new(&session, timeline, turn, 1, 0),
            turn,
            step: 1,
            part: 0,
            call: StepCallName::of(&StepRequest::ToolCall(call.clone())),
            tool: call.name,
            arguments: call.arguments,
            at: UnixMillis(2),
            expires_at: UnixMillis(1 << 40),
        }
    };
    let yes = Answer {
        approve: true,
        by: None,
        reason: None,
    };
    let mut driven = Driven::new();
    driven.open();
    let old = ask(None, 1);
    driven.add(Record::Asked(old.clone()));
    driven.cut(7);
    let at = UnixMillis(driven.now);
    let lost = ask(None, 2).id;
    for id in [&old.id, &lost, &ask(Some(&name(8)), 2).id] {
        let refused = driven.session.answer(id, &yes, at, at);
        assert!(
            matches!(refused, Err(Refusal::ApprovalVoid { .. })),
            "{refused:?}"
        );
    }
    driven.resume();
    driven.open();
    let new = ask(Some(&name(7)), 2);
    assert_eq!(new.id.as_str(), format!("a:b.c/d:{}.2.1.0", name(7)));
    assert_eq!(ApprovalId::parse(new.id.as_str()), Some(new.id.clone()));
    assert_eq!(new.id.session(), Some(session.clone()));
    driven.add(Record::Asked(new.clone()));
    // The same place on the lost timeline asked about another call.
    let refused = driven.session.answer(&lost, &yes, at, at);
    assert!(
        matches!(refused, Err(Refusal::ApprovalVoid { .. })),
        "{refused:?}"
    );
    let unknown = driven
        .session
        .answer(&ask(Some(&name(7)), 3).id, &yes, at, at);
    assert!(
        matches!(unknown, Err(Refusal::UnknownApproval(_))),
        "{unknown:?}"
    );
    assert!(matches!(
        driven.session.answer(&new.id, &yes, at, at),
        Ok(Ok(_))
    ));
}

#[test]
fn positions_are_good_as_far_as_their_history_counts() {
    let mut timeline = SessionTimeline::default();
    let locate = |timeline: &SessionTimeline, at: &str| timeline.locate(&position(at), 20);
    assert_eq!(locate(&timeline, "20"), Ok(20));
    let ahead = |last, timeline: Option<&TimelineName>| {
        let timeline = timeline.cloned();
        Err(CursorAhead { last, timeline })
    };
    assert_eq!(locate(&timeline, "21"), ahead(20, None));
    let (a, b, other) = (name(1), name(2), name(3));
    assert_eq!(locate(&timeline, &format!("{a}.1")), ahead(0, None));
    timeline.begin(a.clone(), 5);
    timeline.begin(b.clone(), 9);
    let now = Some(&b);
    for (at, expected) in [
        ("0".to_owned(), Ok(0)),
        ("5".to_owned(), Ok(5)),
        ("6".to_owned(), ahead(5, now)),
        (format!("{a}.2"), Ok(2)),
        (format!("{a}.9"), Ok(9)),
        (format!("{a}.10"), ahead(9, now)),
        (format!("{b}.1"), Ok(1)),
        (format!("{b}.20"), Ok(20)),
        (format!("{b}.21"), ahead(20, now)),
        (format!("{other}.10"), ahead(9, now)),
        (format!("{other}.0"), Ok(0)),
    ] {
        assert_eq!(locate(&timeline, &at), expected, "{at}");
    }
    let of = |cursor| timeline.of(cursor).cloned();
    let names = [5, 6, 9, 10, 20].map(of);
    assert_eq!(
        names,
        [None, Some(a.clone()), Some(a), Some(b.clone()), Some(b)]
    );
}

#[test]
fn a_session_remembers_its_last_timelines() {
    let mut driven = Driven::new();
    for n in 0..40 {
        driven.cut(n);
    }
    let timeline = &driven.session.progress.timeline;
    let end = driven.session.cursor();
    assert_eq!((end, timeline.name()), (40, Some(&name(39))));
    // A cut's own event is the last of its timeline before the next cut.
    let of = |n: u64| EventId {
        timeline: Some(name(n)),
        cursor: n + 1,
    };
    assert_eq!(timeline.locate(&of(8), end), Ok(9));
    assert_eq!(timeline.locate(&of(7), end), Ok(8));
    let forgotten = timeline.locate(&of(6), end);
    assert_eq!(forgotten.map_err(|ahead| ahead.last), Err(39));
}

/// Bytes on disk are forever.
#[test]
fn a_session_that_was_never_cut_is_stored_as_before() {
    let driven = Driven::new();
    let bytes = rmp_serde::to_vec_named(&driven.session.progress).expect("it encodes");
    let holds = |key: &str| bytes.windows(key.len()).any(|part| part == key.as_bytes());
    assert!(holds("dead_letters") && !holds("timeline") && !holds("cut"));
}

#[test]
fn a_closed_session_is_not_cut() {
    let mut driven = Driven::new();
    let records = driven.session.close(UnixMillis(9)).expect("it is open");
    records.into_iter().for_each(|record| driven.add(record));
    let cut = driven
        .session
        .cut(name(1), CutCause::Salvage, "", UnixMillis(10));
    assert_eq!(cut, []);
}

proptest! {
    #[test]
    fn names_are_read_as_they_are_written(bits: u64, cursor: u64) {
        let drawn = name(bits);
        prop_assert_eq!(TimelineName::parse(drawn.as_str()), Some(drawn.clone()));
        for timeline in [None, Some(drawn)] {
            let message = MessageId::on(timeline.as_ref(), cursor);
            prop_assert_eq!(message.cursor(), Some(cursor));
            let id = EventId { timeline, cursor };
            prop_assert_eq!(EventId::parse(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn no_garbage_is_a_position(text in "[a-z0-9.+m-]{0,20}") {
        if let Some(id) = EventId::parse(&text) {
            let number = text.rsplit('.').next().unwrap_or_default();
            prop_assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{}", text);
            prop_assert_eq!(number.parse(), Ok(id.cursor));
            prop_assert_eq!(id.timeline.is_some(), text.contains('.'));
        }
    }

    /// Two histories that go on from one point after two cuts, and the one that was lost, have
    /// no id in common. In none of them is a cursor left out.
    #[test]
    fn no_id_is_used_for_two_things(
        before in prop::collection::vec(act(), 0..60),
        after in prop::array::uniform3(prop::collection::vec(act(), 0..60)),
        bits: [u64; 2],
    ) {
        prop_assume!(name(bits[0]) != name(bits[1]));
        let common = drive(&before);
        let from = common.session.cursor();
        let [lost, first, second] = after;
        let cuts = [None, Some(bits[0]), Some(bits[1])];
        let histories = [lost, first, second].into_iter().zip(cuts).map(|(acts, bits)| {
            let mut driven = common.clone();
            if let Some(bits) = bits {
                driven.cut(bits);
            }
            go_on(driven, &acts)
        });
        let histories: Vec<Driven> = histories.collect();
        for driven in &histories {
            let cursors = driven.events().into_iter().map(|event| event.cursor);
            prop_assert!(cursors.eq(1..=driven.session.cursor()));
        }
        let names: Vec<BTreeSet<String>> =
            histories.iter().map(|driven| driven.names_after(from)).collect();
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            let both: Vec<_> = names[one].intersection(&names[other]).collect();
            prop_assert!(both.is_empty(), "{:?}", both);
        }
    }

    /// After a cut nothing begins before the session is resumed, whatever else happens. Then the
    /// first turn is told of it.
    #[test]
    fn nothing_begins_by_itself(
        before in prop::collection::vec(act(), 0..60),
        meanwhile in prop::collection::vec(act(), 0..60),
    ) {
        let mut driven = drive(&before);
        prop_assume!(driven.session.progress.closed.is_none());
        driven.cut(1);
        let cut = driven.log.len();
        let meanwhile: Vec<Act> =
            meanwhile.into_iter().filter(|act| !matches!(act, Act::Resume | Act::Close)).collect();
        let mut driven = go_on(driven, &meanwhile);
        let begun = driven.log[cut..].iter().any(|(_, record)| matches!(record, Record::Begun(_)));
        prop_assert!(!begun && !driven.session.has_work());
        prop_assert!(driven.session.progress.open.is_none());
        while driven.session.resume(UnixMillis(driven.now)).is_ok() {
            driven.resume();
        }
        // The inbox may be full.
        let _ = driven.receive();
        let begun = driven.begin().expect("it goes on");
        let notice = begun.notice.expect("it is owed");
        prop_assert_eq!(notice.notice_cause(), NoticeCause::HistoryCut);
        prop_assert!(notice.text().starts_with("[system] The history of this session was cut"));
    }
}
