//! Tests of the assistant on the mock host.

use abide_plugin::llm::{ChatRole, Completion, FinishReason};
use abide_plugin::testing::{Harness, Step, TurnResult};
use abide_plugin::{Cause, RestoreError, State, StepError};
use proptest::prelude::*;
use serde_json::json;

use super::Assistant;
use crate::agent_tests::kept;

/// Renders the request to the model in a turn, as `role: text` lines.
fn asked(turn: &TurnResult) -> Vec<String> {
    match turn.steps.as_slice() {
        [Step::ListTools(_), Step::Chat(request, _)] => request
            .messages
            .iter()
            .map(|message| format!("{}: {}", message.role, message.content))
            .collect(),
        other => panic!("one model call was expected, not {other:?}"),
    }
}

fn session(args: serde_json::Value) -> Harness<Assistant> {
    let mut session = Harness::new();
    session.open(args).expect("valid settings open a session");
    session
}

#[test]
fn remembers_the_conversation_and_sends_its_settings() {
    let mut session = session(json!({
        "system": "Be brief.", "provider": "local", "model": "smollm2", "max_tokens": 9,
    }));
    session.answer("Hello!");
    assert_eq!(session.say("hi").unwrap().output, ["Hello!"]);

    session.answer("hi");
    let turn = session.say("what did I say?").unwrap();
    assert_eq!(turn.output, ["hi"]);
    assert_eq!(
        asked(&turn),
        [
            "system: Be brief.",
            "user: hi",
            "assistant: Hello!",
            "user: what did I say?"
        ]
    );
    let [_, Step::Chat(request, _)] = turn.steps.as_slice() else {
        unreachable!("asked() has seen that it is one chat");
    };
    assert_eq!(request.provider.as_deref(), Some("local"));
    assert_eq!(request.model.as_deref(), Some("smollm2"));
    assert_eq!(request.max_tokens, Some(9));
    assert_eq!(request.tools, []);
}

#[test]
fn tells_the_model_of_a_restart() {
    let mut session = session(json!(null));
    session.answer("one");
    session.say("1").unwrap();
    session.restart(Cause::Config);
    session.answer("two");
    let asked = asked(&session.say("2").unwrap());
    assert_eq!(asked[..2], ["user: 1", "assistant: one"]);
    assert!(
        asked[2].starts_with("system: [system] The daemon restarted"),
        "{asked:?}"
    );
    assert_eq!(asked[3], "user: 2");
}

#[test]
fn refuses_bad_settings_by_name() {
    for (args, expected) in [
        (
            json!({"max_tokens": 0}),
            "args.max_tokens: invalid value: integer `0`",
        ),
        (
            json!({"max_tokens": "many"}),
            "args.max_tokens: invalid type: string \"many\"",
        ),
        (
            json!({"max_rounds": 0}),
            "args.max_rounds: invalid value: integer `0`",
        ),
        (
            json!({"system": 7}),
            "args.system: invalid type: integer `7`",
        ),
        (
            json!({"modle": "x"}),
            "args.modle: unknown field `modle`, expected one of `system`",
        ),
        (json!("hi"), "args: invalid type: string \"hi\""),
    ] {
        let error = Harness::<Assistant>::new().open(args).unwrap_err();
        assert!(error.0.starts_with(expected), "{error}");
    }
}

/// A state that the first version of 0.1.0 wrote, before there were tools.
#[test]
fn reads_what_the_first_version_wrote() {
    let golden = include_bytes!("../../../tests/golden/v0.1.0/assistant.snapshot");
    let start = b"\x82\xa8settings";
    let at = golden.windows(start.len()).position(|bytes| bytes == start);
    let data = golden[at.expect("the state is in the file")..].to_vec();
    let snapshot = State { schema: 1, data };
    let mut session = Harness::<Assistant>::from_snapshot(snapshot).expect("it is readable");
    session.answer("Ada");
    let asked = asked(&session.say("who am I?").unwrap());
    assert_eq!(asked[0], "user: my name is Ada");
    assert_eq!(asked.len(), 7);
    assert_eq!(session.snapshot().map(|state| state.schema), Some(2));
}

/// The last format before the transcript counted what was dropped.
#[test]
fn reads_a_conversation_with_tools_of_schema_1() {
    let message = |role: &str, content: &str, calls: serde_json::Value| json!({"role": role, "content": content, "tool_calls": calls, "tool_call_id": null});
    let call = json!([{"id": "a", "name": "read", "arguments": "{}"}]);
    let mut result = message("Tool", "unknown-outcome: ...", json!([]));
    result["tool_call_id"] = "a".into();
    let old = json!({
        "settings": {
            "system": "S", "provider": null, "model": null, "max_tokens": 9,
            "history_bytes": 5000, "tool_result_bytes": 100, "max_rounds": 3,
        },
        "transcript": [[
            message("User", "go", json!([])), message("Assistant", "", call), result,
            message("Assistant", "done", json!([])),
        ]],
    });
    let data = rmp_serde::to_vec_named(&old).expect("it can be written");
    let state = |schema| State {
        schema,
        data: data.clone(),
    };
    let mut session = Harness::<Assistant>::from_snapshot(state(1)).expect("it is readable");
    session.answer("hm");
    let turn = session.say("and?").unwrap();
    assert_eq!(
        asked(&turn),
        [
            "system: S",
            "user: go",
            "assistant: ",
            "tool: unknown-outcome: ...",
            "assistant: done",
            "user: and?"
        ]
    );
    for (schema, expected) in [
        (0, "there never was a schema 0"),
        (2, "wrong msgpack marker"),
    ] {
        let refused = Harness::<Assistant>::from_snapshot(state(schema)).err();
        let Some(RestoreError::Invalid(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn a_model_that_fails_leaves_the_state_alone() {
    let mut session = session(json!(null));
    session.answer("one");
    session.say("1").unwrap();
    let before = session.snapshot().cloned();

    session.answer_with(Err(StepError::Unavailable(
        "connection refused by local".to_owned(),
    )));
    let error = session.say("lost").unwrap_err();
    assert_eq!(
        error.0,
        "The model cannot be reached now; send the message again later: connection refused by local"
    );
    assert_eq!(session.snapshot(), before.as_ref());

    session.answer_with(Ok(Completion {
        content: String::new(),
        tool_calls: Vec::new(),
        finish: FinishReason::ContentFilter,
        usage: None,
        model: "mock".to_owned(),
    }));
    assert!(session.say("withheld").unwrap_err().0.contains("withheld"));

    session.answer("two");
    assert_eq!(
        asked(&session.say("2").unwrap()),
        ["user: 1", "assistant: one", "user: 2"]
    );
}

#[test]
fn drops_the_oldest_whole_exchanges_but_never_the_system_prompt() {
    let mut session = session(json!({"system": "S", "history_bytes": 1000}));
    for n in 0..20 {
        session.answer(format!("answer {n} {}", "a".repeat(100)));
        let turn = session
            .say(format!("question {n} {}", "q".repeat(100)))
            .unwrap();
        let mut asked = asked(&turn);
        assert_eq!(asked.remove(0), "system: S");
        let kept = asked
            .iter()
            .filter(|line| line.starts_with("user: question"));
        let note = match n + 1 - kept.count() {
            0 => "user: question 0".to_owned(),
            1 => "user: [1 earlier exchange was dropped to save room]".to_owned(),
            count => format!("user: [{count} earlier exchanges were dropped to save room]"),
        };
        assert!(asked[0].starts_with(&note), "{asked:?}");
        assert!(asked.iter().map(String::len).sum::<usize>() <= 1000 + 100);
    }
    let error = session.say("x".repeat(1000)).unwrap_err();
    assert!(error.0.contains("send a shorter one"), "{error}");
}

#[derive(Clone, Debug)]
enum Act {
    Say(String, Result<String, String>),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let answer = prop_oneof![
        4 => ".{0,300}".prop_map(Ok),
        1 => "[a-z ]{1,20}".prop_map(Err),
    ];
    let act = prop_oneof![
        4 => (".{0,300}", answer).prop_map(|(text, answer)| Act::Say(text, answer)),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 0..12)
}

proptest! {
    /// The harness restores before each turn and panics if a snapshot does not come back as the
    /// same bytes; here random acts drive it into many states, and each stays within its budget.
    #[test]
    fn every_state_round_trips(
        system in prop::option::of(".{0,20}"),
        history_bytes in 500_usize..4000,
        acts in acts(),
    ) {
        let mut session = session(json!({"system": system, "history_bytes": history_bytes}));
        for act in acts {
            match act {
                Act::Restart => session.restart(Cause::Crash),
                Act::Say(text, answer) => {
                    let before = session.snapshot().cloned();
                    session.answer_with(answer.map_err(StepError::Failed).map(|content| {
                        Completion {
                            content,
                            tool_calls: Vec::new(),
                            finish: FinishReason::Stop,
                            usage: None,
                            model: "mock".to_owned(),
                        }
                    }));
                    match session.say(text) {
                        Ok(turn) => {
                            let [_, Step::Chat(request, _)] = turn.steps.as_slice() else {
                                panic!("one model call was expected");
                            };
                            let prompts = usize::from(system.is_some());
                            let last = request.messages.last();
                            prop_assert_eq!(last.map(|last| last.role), Some(ChatRole::User));
                            let bytes: usize = kept(&request.messages[prompts..])
                                .map(|message| message.content.len() + 64)
                                .sum();
                            prop_assert!(bytes <= history_bytes);
                        }
                        Err(_) => prop_assert_eq!(session.snapshot(), before.as_ref()),
                    }
                }
            }
            let snapshot = session.snapshot().expect("the session is open").clone();
            let again = Harness::<Assistant>::from_snapshot(snapshot.clone()).expect("readable");
            prop_assert_eq!(again.snapshot(), Some(&snapshot));
        }
    }
}
