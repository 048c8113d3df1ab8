//! Histories that each break one promise: a mutation test of the checker.

use abide_tests::Event;
use abide_tests::checker::{Execution, Facts, ViolationKind, check_history};
use serde_json::json;

use super::scribe::{EPOCH_MS, clean};

/// Asserts that the checker finds this kind of violation after the change to the clean history.
#[track_caller]
fn finds(kind: ViolationKind, change: impl FnOnce(&mut Facts)) {
    let mut facts = clean();
    change(&mut facts);
    let verdict = check_history(&facts);
    assert!(
        verdict.found(kind) > 0,
        "{kind:?} is not among {:#?}",
        verdict.violations
    );
}

/// Applies the same change to the events and to the subscriber's view of them.
fn events(facts: &mut Facts, change: impl Fn(&mut Vec<Event>)) {
    let session = &mut facts.sessions[0];
    change(&mut session.events);
    for (event, cursor) in session.events.iter_mut().zip(1..) {
        event.cursor = cursor;
    }
    session.followed = session.events.clone();
    session.earlier.clear();
}

fn position(events: &[Event], wanted: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(wanted).expect("the event is there")
}

fn told(event: &Event, key: &str, value: &str) -> bool {
    event.data.as_ref().is_some_and(|data| data[key] == value)
}

/// Changes the result of a call that the guest received.
fn result(facts: &mut Facts, token: &str, result: &str) {
    events(facts, |events| {
        let at = position(events, |event| told(event, "token", token));
        events[at].data.as_mut().expect("it has data")["result"] = result.into();
    });
}

fn executions(facts: &mut Facts, token: &str, times: usize) {
    let all = &mut facts.executions;
    let at = all.iter().position(|execution| execution.token == token);
    let execution = all.remove(at.expect("it was executed"));
    all.extend(vec![execution; times]);
}

#[test]
fn nothing_is_wrong_where_nothing_is() {
    let verdict = check_history(&clean());
    assert_eq!(verdict.violations, [], "{:#?}", clean().sessions[0].events);
    let count = |name| verdict.counts[name];
    assert_eq!(count("acknowledged"), 5);
    assert_eq!(count("turns"), 5);
    assert_eq!(count("calls"), 3);
    assert_eq!(count("executions"), 3);
    assert_eq!(count("notices"), 1);
    assert_eq!(count("timers"), 1);
    assert_eq!(count("lost") + count("turns doubled"), 0);
}

#[test]
fn lost_messages() {
    finds(ViolationKind::Lost, |facts| {
        events(facts, |events| {
            events.retain(|event| event.message.as_deref() != Some("f"));
        });
    });
    // Accepted and visible, but never consumed.
    finds(ViolationKind::Lost, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.turn == Some(5));
            events.truncate(at);
        });
    });
    finds(ViolationKind::Lost, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.message.as_deref() == Some("f"));
            events[at].text = Some("something else".to_owned());
        });
    });
    finds(ViolationKind::Lost, |facts| {
        events(facts, |events| {
            events.pop();
        });
    });
    finds(ViolationKind::Lost, |facts| {
        facts.sessions[0].unfinished = Some("queued".to_owned());
    });
}

#[test]
fn a_session_that_damage_has_touched_is_passed_over_and_no_other_is() {
    let lose = |facts: &mut Facts, n: usize| {
        facts.sessions[n].events.clear();
        facts.sessions[n].followed.clear();
        facts.sessions[n].earlier.clear();
    };
    let mut facts = clean();
    lose(&mut facts, 0);
    facts.sessions[0].touched = Some("parked".to_owned());
    let verdict = check_history(&facts);
    assert_eq!(verdict.violations, []);
    assert_eq!(verdict.counts["touched"], 1);
    // It may have made calls for messages of which no client knows; another session may not.
    facts.sessions[0].acknowledged.clear();
    assert_eq!(check_history(&facts).violations, []);
    finds(ViolationKind::Output, |facts| {
        facts.sessions[0].touched = Some("parked".to_owned());
        facts.sessions[0].acknowledged.clear();
        for execution in &mut facts.executions {
            execution.key.insert_str(0, "other-");
        }
    });
    finds(ViolationKind::Lost, |facts| {
        let mut other = facts.sessions[0].clone();
        other.touched = Some("parked".to_owned());
        facts.sessions.push(other);
        lose(facts, 0);
    });
}

#[test]
fn failed_turns_and_dead_letters() {
    finds(ViolationKind::Failed, |facts| {
        events(facts, |events| {
            let last = events.last_mut().expect("there are events");
            last.status = Some("failed".to_owned());
        });
    });
    finds(ViolationKind::Failed, |facts| {
        facts.sessions[0].dead_letters = vec!["b".to_owned()];
    });
}

/// Returns the events of one turn.
fn of_turn(events: &[Event], turn: u64) -> Vec<Event> {
    let mine = events.iter().filter(|event| event.turn == Some(turn));
    mine.cloned().collect()
}

#[test]
fn doubled_turns() {
    // The same turn is committed twice.
    finds(ViolationKind::DoubledTurn, |facts| {
        events(facts, |events| {
            let again = of_turn(events, 5);
            events.extend(again);
        });
    });
    // The next turn consumes the same message.
    finds(ViolationKind::DoubledTurn, |facts| {
        events(facts, |events| {
            let mut again = of_turn(events, 5);
            for event in &mut again {
                event.turn = Some(6);
            }
            events.extend(again);
        });
    });
    // A message that was received during a turn also begins a turn of its own.
    finds(ViolationKind::DoubledTurn, |facts| {
        events(facts, |events| {
            for event in events {
                event.received.clear();
            }
        });
    });
    // One message under one key became two.
    finds(ViolationKind::DoubledTurn, |facts| {
        facts.sessions[0]
            .acknowledged
            .retain(|sent| sent.message != "c");
    });
}

#[test]
fn turn_numbers_and_the_guests_count() {
    finds(ViolationKind::TurnNumbers, |facts| {
        events(facts, |events| {
            for event in events.iter_mut().filter(|event| event.turn == Some(5)) {
                event.turn = Some(6);
            }
        });
    });
    finds(ViolationKind::TurnNumbers, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.said() == "done p2 #5");
            let late = events.remove(at);
            events.push(late);
        });
    });
    for wrong in ["done p2 #4", "done p2 #6"] {
        finds(ViolationKind::Counter, |facts| {
            events(facts, |events| {
                let at = position(events, |event| event.said() == "done p2 #5");
                events[at].text = Some(wrong.to_owned());
            });
        });
    }
}

#[test]
fn output_that_no_script_asks_for() {
    finds(ViolationKind::Output, |facts| {
        events(facts, |events| {
            let at = position(events, |event| told(event, "token", "m1-0"));
            events.remove(at);
        });
    });
    finds(ViolationKind::Output, |facts| {
        events(facts, |events| {
            let at = position(events, |event| told(event, "token", "m1-0"));
            events.insert(at, events[at].clone());
        });
    });
    finds(ViolationKind::Output, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.said() == "inside");
            events.remove(at);
        });
    });
    finds(ViolationKind::Output, |facts| {
        events(facts, |events| {
            let at = position(events, |event| told(event, "kind", "llm"));
            events[at].data.as_mut().expect("it has data")["result"] = "error:timeout".into();
        });
    });
    finds(ViolationKind::Output, |facts| {
        facts.executions.push(Execution {
            token: "nobody's".to_owned(),
            key: "k".to_owned(),
        });
    });
}

#[test]
fn effects() {
    finds(ViolationKind::ExecutedTwice, |facts| {
        executions(facts, "m1-0", 2)
    });
    finds(ViolationKind::NotExecuted, |facts| {
        executions(facts, "m1-0", 0)
    });
    finds(ViolationKind::NotExecuted, |facts| {
        executions(facts, "m1-1-1", 0)
    });
    finds(ViolationKind::ToldFailed, |facts| {
        result(facts, "m1-0", "error:unavailable");
    });
    // A repeatable call may be executed twice.
    let mut facts = clean();
    executions(&mut facts, "m1-1-1", 2);
    assert_eq!(check_history(&facts).violations, []);
}

#[test]
fn unknown_outcomes() {
    // The turn was interrupted, so the call was executed once or never.
    for times in [0, 1] {
        let mut facts = clean();
        facts.disturbed = vec![(EPOCH_MS + 100, EPOCH_MS + 200)];
        executions(&mut facts, "m1-0", times);
        result(&mut facts, "m1-0", "unknown");
        let verdict = check_history(&facts);
        assert_eq!(verdict.violations, []);
        assert_eq!(verdict.counts["unknown told"], 1);
    }
    finds(ViolationKind::ExecutedTwice, |facts| {
        facts.disturbed = vec![(EPOCH_MS, EPOCH_MS + 1000)];
        executions(facts, "m1-0", 2);
        result(facts, "m1-0", "unknown");
    });
    finds(ViolationKind::ToldUnknown, |facts| {
        facts.disturbed = vec![(EPOCH_MS + 60_000, EPOCH_MS + 61_000)];
        result(facts, "m1-0", "unknown");
    });
    finds(ViolationKind::ToldUnknown, |facts| {
        facts.disturbed = vec![(EPOCH_MS, EPOCH_MS + 1000)];
        result(facts, "m1-1-1", "unknown");
    });
    finds(ViolationKind::ToldUnknown, |facts| {
        events(facts, |events| {
            let at = position(events, |event| told(event, "kind", "llm"));
            events[at].data.as_mut().expect("it has data")["result"] = "unknown".into();
        });
    });
}

#[test]
fn keys() {
    finds(ViolationKind::Keys, |facts| {
        facts.executions.push(Execution {
            token: "m1-1-1".to_owned(),
            key: "another".to_owned(),
        });
    });
    // A power cut can take a repeatable call's message, which is sent again, once.
    let made_by_turns = |token: &str, turns: &[u64], facts: &mut Facts| {
        facts.power_cuts = 1;
        facts.executions.extend(turns.iter().map(|turn| Execution {
            token: token.to_owned(),
            key: format!("s/{turn}/1/0/abc"),
        }));
    };
    let mut facts = clean();
    made_by_turns("m1-1-1", &[7], &mut facts);
    assert_eq!(check_history(&facts).violations, []);
    finds(ViolationKind::Keys, |facts| {
        made_by_turns("m1-1-1", &[7, 8], facts);
    });
    finds(ViolationKind::Keys, |facts| {
        made_by_turns("m1-1-0", &[7], facts);
    });
    finds(ViolationKind::Keys, |facts| {
        facts.executions[0].key = facts.executions[1].key.clone();
    });
    let read = Execution::read_all("a\tk1\nb\t-\nc");
    let keys: Vec<_> = read.iter().map(|it| (&*it.token, &*it.key)).collect();
    assert_eq!(keys, [("a", "k1"), ("b", ""), ("c", "")]);
    finds(ViolationKind::Keys, |facts| facts.executions[0].key.clear());
}

#[test]
fn events_that_are_missing_doubled_or_changed() {
    finds(ViolationKind::EventMissing, |facts| {
        facts.sessions[0].events.remove(3);
    });
    finds(ViolationKind::EventDoubled, |facts| {
        let again = facts.sessions[0].events[3].clone();
        facts.sessions[0].events.insert(4, again);
    });
    finds(ViolationKind::EventMissing, |facts| {
        facts.sessions[0].followed.pop();
    });
    finds(ViolationKind::EventMissing, |facts| {
        facts.sessions[0].followed.remove(3);
    });
    finds(ViolationKind::EventDoubled, |facts| {
        let again = facts.sessions[0].followed[3].clone();
        facts.sessions[0].followed.insert(4, again);
    });
    finds(ViolationKind::EventMissing, |facts| {
        facts.sessions[0].stream_troubles = vec!["5 was expected".to_owned()];
    });
    // Seen by the subscriber, but missing at the end.
    finds(ViolationKind::EventMissing, |facts| {
        let session = &mut facts.sessions[0];
        let mut beyond = session.events[0].clone();
        beyond.cursor = session.events.len() as u64 + 1;
        session.followed.push(beyond);
    });
    finds(ViolationKind::EventChanged, |facts| {
        facts.sessions[0].followed[3].at = "2023-11-14T22:13:21Z".to_owned();
    });
    finds(ViolationKind::EventChanged, |facts| {
        facts.sessions[0].earlier[0][3].text = Some("before".to_owned());
    });
    finds(ViolationKind::EventChanged, |facts| {
        let mut event = facts.sessions[0].events[2].clone();
        event.text = Some("told to who waited".to_owned());
        facts.sessions[0].acknowledged[0].output = vec![event];
    });
}

#[test]
fn recovery_messages() {
    let is_notice =
        |event: &Event| event.kind == "notice" || event.name.as_deref() == Some("notice");
    finds(ViolationKind::NoticeMissing, |facts| {
        events(facts, |events| events.retain(|event| !is_notice(event)));
    });
    // The next turn repeats the notice.
    finds(ViolationKind::NoticeDoubled, |facts| {
        events(facts, |events| {
            let first = position(events, |event| event.kind == "notice");
            let mut again = events[first..first + 2].to_vec();
            for event in &mut again {
                event.turn = Some(5);
            }
            let at = position(events, |event| event.turn == Some(5)) + 1;
            events.splice(at..at, again);
        });
    });
    // A notice of the generation in which the session was created.
    finds(ViolationKind::NoticeDoubled, |facts| {
        facts.sessions[0].created_in = 2
    });
    // A notice of a generation that does not serve.
    finds(ViolationKind::NoticeWrong, |facts| {
        facts.sessions[0].probes[1].generation = Some(1);
    });
    // The notice follows the guest's output.
    finds(ViolationKind::NoticeWrong, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.kind == "notice");
            let notice = events.remove(at);
            events.insert(at + 1, notice);
        });
    });
    // The guest received no notice, or another one.
    finds(ViolationKind::NoticeWrong, |facts| {
        events(facts, |events| {
            events.retain(|event| event.name.as_deref() != Some("notice"));
        });
    });
    finds(ViolationKind::NoticeWrong, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.kind == "notice");
            events[at].cause = Some("config".to_owned());
        });
    });
    // A report of stopped turns although none was stopped; and the guest did not receive it.
    finds(ViolationKind::NoticeWrong, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.kind == "notice");
            let mut stopped = events[at].clone();
            stopped.cause = Some("stopped".to_owned());
            events.insert(at, stopped);
        });
    });
    finds(ViolationKind::ToldUnknown, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.name.as_deref() == Some("notice"));
            let data = events[at].data.as_mut().expect("it has data");
            data["unknown_steps"] = json!(["tools.call t__note"]);
        });
    });
}

#[test]
fn timers() {
    finds(ViolationKind::TimerLost, |facts| {
        events(facts, |events| {
            events.retain(|event| event.turn != Some(3) && event.message.as_deref() != Some("d"));
        });
    });
    finds(ViolationKind::TimerDoubled, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.is_from("timer"));
            let mut again = events[at].clone();
            again.message = Some("d2".to_owned());
            events.push(again);
        });
    });
    finds(ViolationKind::TimerDoubled, |facts| {
        events(facts, |events| {
            let at = position(events, |event| event.is_from("timer"));
            events[at].name = Some("never set".to_owned());
        });
    });
    for (due_ms, at_ms) in [
        (EPOCH_MS + 200, EPOCH_MS + 199),
        (EPOCH_MS + 30, EPOCH_MS + 300),
    ] {
        finds(ViolationKind::TimerEarly, |facts| {
            events(facts, |events| {
                let at = position(events, |event| event.name.as_deref() == Some("timer"));
                let data = events[at].data.as_mut().expect("it has data");
                data["due_ms"] = due_ms.into();
                data["at_ms"] = at_ms.into();
            });
        });
    }
}

#[test]
fn a_service_that_got_worse() {
    finds(ViolationKind::Service, |facts| {
        facts.troubles = vec!["an invalid edit was acted on".to_owned()];
    });
}
