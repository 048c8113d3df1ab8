//! Histories of sessions that were rewound and copied, each of which breaks one promise.

use abide_tests::Event;
use abide_tests::checker::{
    Acknowledged, Act, CopyFacts, CopyKind, Execution, Facts, ListedPoint, RewindAnswer,
    RewindAsked, Script, ScriptedCall, SessionFacts, Tool, ViolationKind, check_history,
};
use serde_json::{Value, json};

use super::scribe::Scribe;

/// Returns a script that calls a tool with its own id as the token.
fn calling(id: &str) -> Script {
    Script {
        id: id.to_owned(),
        acts: vec![Act::Call(ScriptedCall::new(Tool::Record, id))],
    }
}

fn sent(message: &str, script: &Script) -> Acknowledged {
    Acknowledged {
        message: message.to_owned(),
        script: script.clone(),
        output: Vec::new(),
    }
}

/// Has the facts of a session agree with its events.
fn settle(session: &mut SessionFacts) {
    for (event, cursor) in session.events.iter_mut().zip(1..) {
        event.cursor = cursor;
    }
    session.followed = session.events.clone();
    let json = session.events.iter().map(serde_json::to_value);
    session.json = json.map(|event| event.expect("plain data")).collect();
}

fn dead(message: &str) -> String {
    json!({"message": {"id": message}, "reason": {"code": "cancelled"}}).to_string()
}

/// Returns a run without violations. A session performs two turns with calls, is rewound to before the
/// second while a third one is open, goes on, and is forked and exported at its first turn.
fn clean() -> Facts {
    let scripts = ["a", "b", "c", "d", "e"].map(calling);
    let [a, b, c, d, e] = &scripts;
    let mut scribe = Scribe::default();
    scribe.message("ma", a);
    scribe.turn(None, &[("ma", a)]);
    let first = scribe.cursor();
    let mut copied = scribe.clone();
    copied.executions.clear();
    scribe.message("mb", b);
    scribe.turn(None, &[("mb", b)]);
    scribe.message("mc", c);
    let Act::Call(call) = &c.acts[0] else {
        unreachable!("it is one");
    };
    scribe.cancelled("mc", Some(call));
    scribe.rewind(first, 1, 1, &["b", "c"]);
    let rewound = scribe.cursor();
    scribe.message("md", d);
    scribe.turn(None, &[("md", d)]);
    let last = scribe.cursor();
    let mut source = SessionFacts {
        id: "s0".to_owned(),
        created_in: 2,
        acknowledged: vec![sent("ma", a), sent("mb", b), sent("mc", c), sent("md", d)],
        dead_letters: vec![dead("mc")],
        rewinds: vec![RewindAsked {
            to: first,
            answer: Some(RewindAnswer {
                cursor: rewound,
                turn: 1,
            }),
        }],
        points: [(0, 0), (first, 1), (rewound, 1), (last, 4)]
            .map(|(cursor, turn)| ListedPoint { cursor, turn })
            .to_vec(),
        events: scribe.events,
        ..SessionFacts::default()
    };
    settle(&mut source);
    let mut executions = scribe.executions;
    let mut sessions = vec![source];
    for (id, how) in [("s10", CopyKind::Forked), ("s11", CopyKind::Imported)] {
        let mut scribe = copied.clone();
        scribe.timeline = (how == CopyKind::Imported).then(|| "t4kq90xd".to_owned());
        scribe.origin(how.as_str(), "s0", &["b", "c", "d"]);
        let origin = scribe.cursor();
        let script = match how {
            CopyKind::Forked => e.clone(),
            CopyKind::Imported => Script::probe("p".to_owned()),
        };
        scribe.message("me", &script);
        scribe.turn(None, &[("me", &script)]);
        executions.extend(scribe.executions.iter().map(|execution| Execution {
            key: execution.key.replace("s0/", "s10/"),
            ..execution.clone()
        }));
        let mut copy = SessionFacts {
            id: id.to_owned(),
            copy_of: Some(CopyFacts {
                source: "s0".to_owned(),
                how,
                at: Some(first),
                present: last,
            }),
            acknowledged: vec![sent("me", &script)],
            points: vec![ListedPoint {
                cursor: origin,
                turn: 1,
            }],
            events: scribe.events,
            ..SessionFacts::default()
        };
        settle(&mut copy);
        sessions.push(copy);
    }
    Facts {
        sessions,
        executions,
        ..Facts::default()
    }
}

/// Asserts that the checker finds this kind of violation after the change to a session.
#[track_caller]
fn finds(kind: ViolationKind, session: usize, change: impl FnOnce(&mut SessionFacts)) {
    let mut facts = clean();
    change(&mut facts.sessions[session]);
    settle(&mut facts.sessions[session]);
    let verdict = check_history(&facts);
    assert!(
        verdict.found(kind) > 0,
        "{kind:?} is not among {:#?}",
        verdict.violations
    );
}

fn position(events: &[Event], wanted: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(wanted).expect("the event is there")
}

/// Replaces a part of the notice, in the event and in what the guest reports.
fn retell(session: &mut SessionFacts, from: &str, to: &str) {
    let event = position(&session.events, |event| event.kind == "notice");
    let notice = &mut session.events[event];
    notice.text = notice.text.as_ref().map(|text| text.replace(from, to));
    let guest = &mut session.events[event + 1];
    let data = guest.data.as_mut().expect("the guest reports it");
    let stopped = data["stopped"].as_str().map(|text| text.replace(from, to));
    data["stopped"] = stopped.into();
}

#[test]
fn nothing_is_wrong_where_nothing_is() {
    let verdict = check_history(&clean());
    assert_eq!(verdict.violations, [], "{:#?}", clean().sessions);
    let count = |name| verdict.counts[name];
    assert_eq!((count("turns"), count("acknowledged")), (5, 6));
    assert_eq!((count("rewinds"), count("copies")), (1, 2));
    // Two by the rewind, and three by each copy.
    assert_eq!(count("effects told"), 8);
}

#[test]
fn what_is_undone_and_not_told() {
    for token in ["b", "c"] {
        let call = format!("\n- t__record {{\"token\":\"{token}\"}} -> written");
        finds(ViolationKind::Untold, 0, |it| retell(it, &call, ""));
    }
    // What the source did after the point is news to its copy.
    let later = "\n- t__record {\"token\":\"d\"} -> written";
    finds(ViolationKind::Untold, 1, |it| retell(it, later, ""));
    // A notice may count what it does not show.
    let mut facts = clean();
    let short = "\nIt made 1 more call(s) that took effect, or may have, and are not shown.";
    retell(&mut facts.sessions[1], later, short);
    settle(&mut facts.sessions[1]);
    assert_eq!(check_history(&facts).violations, []);
    // The event tells of it, and the guest was not told.
    finds(ViolationKind::NoticeWrong, 0, |it| {
        let at = position(&it.events, |event| event.name.as_deref() == Some("notice"));
        it.events[at].data.as_mut().expect("it has data")["stopped"] = Value::Null;
    });
}

#[test]
fn rewinds_that_are_not_what_was_acknowledged() {
    let at = |it: &SessionFacts| position(&it.events, |event| event.kind == "rewound");
    finds(ViolationKind::Rewind, 0, |it| {
        it.rewinds.clear();
    });
    finds(ViolationKind::Rewind, 0, |it| {
        let again = it.rewinds[0].clone();
        it.rewinds.push(again);
    });
    finds(ViolationKind::Rewind, 0, |it| {
        let at = at(it);
        it.events[at].to_cursor = Some(1);
    });
    finds(ViolationKind::Rewind, 0, |it| {
        let at = at(it);
        it.events[at].to_turn = Some(2);
    });
    finds(ViolationKind::Rewind, 0, |it| it.points[1].cursor += 1);
    finds(ViolationKind::Rewind, 0, |it| it.points[1].turn += 1);
    // A copy lists no point of its history.
    finds(ViolationKind::Rewind, 1, |it| it.points[0].cursor -= 1);
    // One whose answer was lost was done, or was not.
    let mut facts = clean();
    facts.sessions[0].rewinds[0].answer = None;
    let again = facts.sessions[0].rewinds[0].clone();
    facts.sessions[0].rewinds.push(again);
    assert_eq!(check_history(&facts).violations, []);
    finds(ViolationKind::Rewind, 0, |it| {
        it.rewinds[0] = RewindAsked {
            to: 1,
            answer: None,
        };
    });
}

#[test]
fn the_state_after_a_rewind() {
    for (session, wrong) in [(0, "done d #3"), (0, "done d #1"), (1, "done e #1")] {
        finds(ViolationKind::Counter, session, |it| {
            let right = ["done d #2", "done e #2"][session];
            let at = position(&it.events, |event| event.said() == right);
            it.events[at].text = Some(wrong.to_owned());
        });
    }
    let notice = |event: &Event| event.kind == "notice" || event.name.as_deref() == Some("notice");
    for session in [0, 1, 2] {
        finds(ViolationKind::NoticeMissing, session, |it| {
            it.events.retain(|event| !notice(event));
        });
        finds(ViolationKind::NoticeWrong, session, |it| {
            let at = position(&it.events, |event| event.kind == "notice");
            it.events[at].cause = Some("crash".to_owned());
        });
        finds(ViolationKind::NoticeWrong, session, |it| {
            let at = position(&it.events, |event| event.kind == "notice");
            it.events[at].text = Some("[system] Something happened.".to_owned());
        });
    }
    finds(ViolationKind::NoticeDoubled, 0, |it| {
        let at = position(&it.events, notice);
        let again = it.events[at..at + 2].to_vec();
        it.events.splice(at..at, again);
    });
}

#[test]
fn what_becomes_of_a_cancelled_turn() {
    finds(ViolationKind::Lost, 0, |it| it.dead_letters.clear());
    finds(ViolationKind::Failed, 0, |it| {
        it.dead_letters.push(dead("mb"));
    });
    finds(ViolationKind::Failed, 0, |it| {
        it.dead_letters[0] = it.dead_letters[0].replace("cancelled", "guest");
    });
    // It failed by itself.
    finds(ViolationKind::Failed, 0, |it| {
        let at = position(&it.events, |event| event.is_turn("failed"));
        it.events[at].reason = Some("it trapped".to_owned());
    });
    finds(ViolationKind::DoubledTurn, 0, |it| {
        let at = position(&it.events, |event| event.is_turn("failed"));
        it.events[at].message = Some("mb".to_owned());
    });
    // A message that it had received went back to the inbox: its call is made again, in another turn.
    let again = |turn: u64| {
        let mut facts = clean();
        let by_cancelled = facts.executions.iter().find(|it| it.token == "c");
        let key = by_cancelled.expect("it was made").key.clone();
        let key = key
            .replace("s0/3/", &format!("s0/{turn}/"))
            .replace("/c", "/d");
        let of = |token: &str| Execution {
            token: token.to_owned(),
            key: key.clone(),
        };
        facts.executions.push(of("d"));
        let session = &mut facts.sessions[0];
        retell(
            session,
            "\n- t__record {\"token\":\"c\"}",
            "\n- {\"token\":\"d\"} {\"token\":\"c\"}",
        );
        settle(session);
        check_history(&facts)
    };
    assert_eq!(again(3).violations, []);
    assert!(again(2).found(ViolationKind::ExecutedTwice) > 0);
}

#[test]
fn copies_that_are_not_what_their_source_was() {
    for session in [1, 2] {
        finds(ViolationKind::Copy, session, |it| {
            it.events[2].at = "2023-11-14T22:13:21Z".to_owned();
        });
        finds(ViolationKind::Copy, session, |it| it.copy_of = None);
        finds(ViolationKind::Copy, session, |it| {
            let copy = it.copy_of.as_mut().expect("it is one");
            copy.at = copy.at.map(|at| at - 1);
        });
        finds(ViolationKind::Copy, session, |it| {
            let last = it.events.last_mut().expect("there are events");
            last.timeline = Some("x4kq90xd".to_owned());
        });
    }
    // As it was earlier than when anybody asked.
    finds(ViolationKind::Copy, 1, |it| {
        it.copy_of.as_mut().expect("it is one").at = None;
    });
    finds(ViolationKind::Copy, 2, |it| {
        for event in &mut it.events {
            event.timeline = None;
        }
    });
    finds(ViolationKind::Copy, 0, |it| {
        it.events.remove(0);
    });
    // A message of the source is not the copy's.
    finds(ViolationKind::Lost, 1, |it| {
        let last = it.events.last_mut().expect("there are events");
        last.received.push("ma".to_owned());
    });
    // Nothing is said of a source that damage has touched.
    let mut facts = clean();
    facts.sessions[0].touched = Some("parked".to_owned());
    facts.sessions[0].events.clear();
    facts.sessions[0].json.clear();
    assert_eq!(check_history(&facts).violations, []);
}

#[test]
fn timers_of_rewound_sessions() {
    let setting = Script {
        id: "m".to_owned(),
        acts: vec![Act::Timer {
            name: "t".to_owned(),
            after_ms: 100,
            script: Script::probe("mt".to_owned()),
        }],
    };
    let last = Script::probe("n".to_owned());
    let run = |dropped: &[&str], twice: bool| {
        let mut scribe = Scribe::default();
        scribe.message("mm", &setting);
        scribe.turn(None, &[("mm", &setting)]);
        let set = scribe.cursor();
        scribe.rewind(0, 0, 0, &[]);
        let dropping = scribe.events.last_mut().expect("there are events");
        dropping.dropped_timers = dropped.iter().map(|&name| name.to_owned()).collect();
        if twice {
            // It is set again, and does not come.
            scribe.rewind(set, 1, 1, &[]);
        }
        scribe.message("mn", &last);
        scribe.turn(None, &[("mn", &last)]);
        let lost = |to| RewindAsked { to, answer: None };
        let mut session = SessionFacts {
            id: "s0".to_owned(),
            created_in: 2,
            acknowledged: vec![sent("mm", &setting), sent("mn", &last)],
            rewinds: vec![lost(0), lost(set)],
            events: scribe.events,
            ..SessionFacts::default()
        };
        settle(&mut session);
        let waits = SessionFacts::outstanding(&session.acknowledged, &session.events);
        let facts = Facts {
            sessions: vec![session],
            ..Facts::default()
        };
        (check_history(&facts), waits)
    };
    let (verdict, waits) = run(&["t"], false);
    assert_eq!(verdict.violations, []);
    assert_eq!(waits, [] as [&str; 0]);
    assert!(run(&[], false).0.found(ViolationKind::TimerLost) > 0);
    let (verdict, waits) = run(&["t"], true);
    assert!(verdict.found(ViolationKind::TimerLost) > 0);
    assert_eq!(waits, ["t"]);
}
