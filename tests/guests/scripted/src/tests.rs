//! Tests of the `scripted` guest on the mock host.

use abide_plugin::testing::{Harness, TurnResult};
use abide_plugin::tools::{Content, Outcome, Tool};
use abide_plugin::{Cause, Interruption, Recovery, StepError};
use serde_json::{Value, json};

use super::Scripted;

fn tool(name: &str) -> Tool {
    Tool {
        name: name.to_owned(),
        description: String::new(),
        parameters: "{}".to_owned(),
        read_only: false,
        idempotent: false,
    }
}

/// Returns the data of a turn's events with that name.
fn told(turn: &TurnResult, name: &str) -> Vec<Value> {
    let events = turn.events.iter().filter(|event| event.name == name);
    events.map(|event| event.data.clone()).collect()
}

fn script(id: &str, acts: &Value) -> String {
    json!({"id": id, "acts": acts}).to_string()
}

#[test]
fn calls_tell_their_results() {
    let mut session = Harness::<Scripted>::new();
    session.tool(tool("t__record"), |arguments| {
        assert_eq!(arguments, r#"{"sleep_ms":5,"token":"m1-0"}"#);
        Ok(Outcome {
            content: vec![Content::Text("written".to_owned())],
            is_error: false,
        })
    });
    session.tool(tool("t__note"), |arguments| {
        match arguments.contains("m1-1-0") {
            true => Err(StepError::UnknownOutcome("who knows".to_owned())),
            false => Ok(Outcome {
                content: Vec::new(),
                is_error: true,
            }),
        }
    });
    let acts = json!([
        {"act": "call", "tool": "record", "token": "m1-0", "sleep_ms": 5},
        {"act": "call_all", "calls": [
            {"tool": "note", "token": "m1-1-0", "sleep_after_ms": 5},
            {"tool": "note", "token": "m1-1-1"},
            {"tool": "gone", "token": "m1-1-2"},
        ]},
        {"act": "list"},
    ]);
    for turn in 1..=2 {
        let result = session.say(script("m1", &acts)).unwrap();
        assert_eq!(result.output, [format!("done m1 #{turn}")]);
        let part = |part, tool, result| {
            json!({"script": "m1", "n": 1, "kind": "call_all", "part": part, "tool": tool,
                   "token": format!("m1-1-{part}"), "result": result})
        };
        assert_eq!(
            told(&result, "act"),
            [
                json!({"script": "m1", "n": 0, "kind": "call", "tool": "record",
                       "token": "m1-0", "result": "ok"}),
                part(0, "note", "unknown"),
                part(1, "note", "error:tool"),
                part(2, "gone", "error:denied"),
                json!({"script": "m1", "n": 2, "kind": "list", "result": "ok",
                       "value": ["t__note", "t__record"]}),
            ]
        );
    }
}

#[test]
fn timers_carry_scripts() {
    let mut session = Harness::<Scripted>::new();
    // The script reports the wall clock, so a rehearsal of the turn would diverge.
    session.rehearse(false);
    let acts = json!([
        {"act": "timer", "name": "t1", "after_ms": 250,
         "script": {"id": "m1t", "acts": [{"act": "say", "text": "ring"}]}},
        {"act": "clock"},
        {"act": "random"},
    ]);
    let set = session.say(script("m1", &acts)).unwrap();
    assert_eq!(set.timers[0].name, "t1");
    assert_eq!(set.timers[0].after_ms, 250);
    let values: Vec<_> = told(&set, "act");
    assert!(values.iter().all(|act| act["value"].is_u64()), "{values:?}");
    let fired = session.fire("t1").unwrap();
    assert_eq!(fired.output, ["ring", "done m1t #2"]);
    assert_eq!(told(&fired, "timer")[0]["name"], "t1");
    assert_eq!(told(&fired, "act")[0]["kind"], "say");
}

#[test]
fn what_it_receives_is_done_in_the_same_turn() {
    let mut session = Harness::<Scripted>::new();
    session.answer("re: hello");
    session.interject(script("m2", &json!([{"act": "say", "text": "inside"}])));
    let acts = json!([{"act": "receive"}, {"act": "llm", "text": "hello"}]);
    let turn = session.say(script("m1", &acts)).unwrap();
    assert_eq!(turn.output, ["inside", "done m2 #1", "done m1 #1"]);
    let kinds: Vec<_> = told(&turn, "act")
        .iter()
        .map(|act| format!("{} {}", act["script"], act["kind"]).replace('"', ""))
        .collect();
    assert_eq!(kinds, ["m1 receive", "m2 say", "m1 llm"]);
    assert_eq!(told(&turn, "act")[0]["value"].as_array().unwrap().len(), 1);
    assert_eq!(told(&turn, "act")[2]["value"], "re: hello");
}

#[test]
fn a_request_is_asked_as_it_stands() {
    let mut session = Harness::<Scripted>::new();
    session.answer("re: hello");
    let line = |role: &str, content: &str| json!({"role": role, "content": content});
    let request = json!({
        "messages": [line("User", "hello"), line("System", "late")],
        "tools": [{"name": "t", "description": "", "parameters": "null"}],
        "max_tokens": 7,
    });
    let acts = json!([{"act": "chat", "request": request}]);
    let turn = session.say(script("m1", &acts)).unwrap();
    let expected = json!({"content": "re: hello", "calls": []});
    assert_eq!(told(&turn, "act")[0]["value"], expected);
}

#[test]
fn recovery_messages_are_told() {
    let mut session = Harness::<Scripted>::new();
    session.say(script("m1", &json!([]))).unwrap();
    session.restart_as(Recovery {
        cause: Cause::Crash,
        generation: 7,
        interruption: Some(Interruption::Resumed),
        unknown_steps: vec!["tools.call t__record".to_owned()],
    });
    let turn = session.say(script("m2", &json!([]))).unwrap();
    assert_eq!(
        told(&turn, "notice"),
        [
            json!({"generation": 7, "cause": "crash", "interruption": "resumed",
                "unknown_steps": ["tools.call t__record"]})
        ]
    );
    assert_eq!(turn.output, ["done m2 #2"]);
}

#[test]
fn stopped_turns_are_told() {
    let mut session = Harness::<Scripted>::new();
    session.stopped("Turn 1 was stopped.");
    let turn = session.say(script("m1", &json!([]))).unwrap();
    let text = "[system] Turn 1 was stopped.";
    assert_eq!(told(&turn, "stopped"), [json!({"text": text})]);
    session.stopped("Turn 2 was stopped.");
    session.restart(Cause::Config);
    let turn = session.say(script("m2", &json!([]))).unwrap();
    assert_eq!(told(&turn, "notice")[0]["stopped"], "Turn 2 was stopped.");
    assert_eq!(told(&turn, "stopped"), [] as [Value; 0]);
    assert_eq!(turn.output, ["done m2 #2"]);
}

#[test]
fn what_it_holds_stands_in_its_state() {
    let mut session = Harness::<Scripted>::new();
    session.say(script("m1", &json!([]))).unwrap();
    let empty = session.snapshot().unwrap().data.len();
    for bytes in [1000, 10] {
        let acts = json!([{"act": "hold", "bytes": bytes}]);
        session.say(script("m1", &acts)).unwrap();
        let held = session.snapshot().unwrap().data.len() - empty;
        assert!((bytes..bytes + 20).contains(&held), "{held}");
    }
}

#[test]
fn what_is_no_script_fails_the_turn() {
    let mut session = Harness::<Scripted>::new();
    assert!(session.say("hello").is_err());
    assert!(
        session
            .say(r#"{"id": "m1", "acts": [{"act": "fly"}]}"#)
            .is_err()
    );
    let turn = session.say(script("m1", &json!([]))).unwrap();
    assert_eq!(turn.output, ["done m1 #1"], "failed turns do not count");
}
