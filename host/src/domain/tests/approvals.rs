//! Tool calls that wait for a human.

use proptest::prelude::*;

use super::*;

const EXPIRES: u64 = 1000;

pub(super) fn asked(part: u32) -> Asked {
    let call = ToolCall {
        name: "t__pay".into(),
        arguments: "{\"to\":\"bob\"}".into(),
    };
    let session = SessionId::new("a:b/c").expect("it is one");
    Asked {
        id: ApprovalId::new(&session, None, 1, 1, part),
        turn: 1,
        step: 1,
        part,
        call: StepCallName::of(&StepRequest::ToolCall(call.clone())),
        tool: call.name,
        arguments: call.arguments,
        at: UnixMillis(2),
        expires_at: UnixMillis(EXPIRES),
    }
}

/// A session that waits for `parts` approvals.
fn parked(parts: u32) -> Driven {
    let mut driven = Driven::new();
    driven.receive().expect("it has room");
    driven.begin().expect("a message waits");
    (0..parts).for_each(|part| driven.add(Record::Asked(asked(part))));
    driven
}

fn say(approve: bool) -> Answer {
    Answer {
        approve,
        by: None,
        reason: Some("because".into()),
    }
}

#[test]
fn ids_say_whom_to_ask() {
    let id = asked(3).id;
    assert_eq!(id.as_str(), "a:b/c:1.1.3");
    assert_eq!(ApprovalId::parse(id.as_str()), Some(id.clone()));
    assert_eq!(id.session().map(|s| s.to_string()), Some("a:b/c".into()));
    for none in [
        "",
        "a",
        "a:",
        "a:1.2",
        "a:1.2.x",
        "a:1..2",
        ":1.2.3",
        "a:1.2.3.4",
    ] {
        assert_eq!(ApprovalId::parse(none), None, "{none}");
    }
}

#[test]
fn a_parked_turn_waits_and_goes_on_as_it_began() {
    let mut driven = parked(2);
    assert_eq!(driven.session.state(), SessionState::Parked);
    assert!(!driven.session.has_work() && driven.begin().is_none());
    let view = driven
        .session
        .view(&SessionId::new("s").expect("it is one"));
    let reason = view.reason.expect("it has one");
    assert!(reason.text.contains("t__pay") && reason.text.contains("bob"));
    assert!(reason.action.contains("a:b/c:1.1.0"), "{}", reason.action);
    driven.restart(Cause::Config);
    for part in 0..2 {
        assert!(driven.begin().is_none());
        let at = UnixMillis(driven.now);
        let record = driven
            .session
            .answer(&asked(part).id, &say(part == 0), at, at);
        driven.add(record.expect("it waits").expect("it is new"));
    }
    let first = driven
        .session
        .progress
        .open
        .clone()
        .expect("it is open")
        .begun;
    let begun = driven.begin().expect("all is decided");
    assert_eq!(
        (begun.attempt, begun.now, begun.seed),
        (2, first.now, first.seed)
    );
    assert_eq!(begun.resumed_in, Some(Generation(2)));
    let open = driven.session.progress.open.as_ref().expect("it is open");
    let denials: Vec<_> = open.approvals.iter().map(Approval::denial).collect();
    assert_eq!(denials[0], None);
    assert!(
        denials[1]
            .as_ref()
            .is_some_and(|why| why.ends_with("because"))
    );
}

#[test]
fn what_was_approved_is_that_call_and_no_other() {
    let driven = parked(1);
    let open = driven.session.progress.open.as_ref().expect("it is open");
    assert_eq!(open.approvals[0].fits(&asked(0).call), Ok(()));
    let other = StepCallName::of(&StepRequest::ToolsList);
    let failure = open.approvals[0].fits(&other).expect_err("it is another");
    assert_eq!(failure.code, FailureCode::Divergence);
}

#[test]
fn a_cancelled_turn_takes_its_approvals_with_it() {
    let mut driven = parked(1);
    let records = driven
        .session
        .cancel(&CancelScope::Turn, &[], UnixMillis(5))
        .expect("a turn is open");
    records.into_iter().for_each(|record| driven.add(record));
    let late = driven
        .session
        .answer(&asked(0).id, &say(true), UnixMillis(6), UnixMillis(6));
    let status = ApprovalStatus::Cancelled;
    assert_eq!(late, Err(Refusal::ApprovalDecided { status }));
    assert_eq!(driven.session.state(), SessionState::Idle);
}

proptest! {
    /// The first decision stands, whatever comes when, and a clock that is set back does not undo a
    /// decision.
    #[test]
    fn the_first_decision_stands(acts in prop::collection::vec((any::<Option<bool>>(), 0..2 * EXPIRES), 1..9)) {
        let mut driven = parked(1);
        let id = asked(0).id;
        let mut stands = None;
        for (act, at) in acts {
            let at = UnixMillis(at);
            let records = match act {
                None => driven.session.expire(at, at),
                Some(yes) => match driven.session.answer(&id, &say(yes), at, at) {
                    Ok(Ok(record)) => vec![record],
                    Ok(Err(known)) => {
                        prop_assert_eq!(stands, Some(known.status));
                        Vec::new()
                    }
                    Err(_) => Vec::new(),
                },
            };
            for record in records {
                prop_assert_eq!(record.event_count(), record.events(0, None).len() as u64);
                if let Record::Decided(decided) = &record {
                    prop_assert_eq!(stands.replace(decided.status), None);
                }
                driven.add(record);
            }
            prop_assert_eq!(driven.session.progress.is_parked(), stands.is_none());
        }
    }
}
