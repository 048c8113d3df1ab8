//! Tests of the assistant with tools, on the mock host.

use std::cell::RefCell;
use std::rc::Rc;

use abide_plugin::llm::{ChatMessage, ChatRequest, ChatRole, ToolCall};
use abide_plugin::testing::{Harness, Step, TurnResult};
use abide_plugin::tools::{Blob, Content, Outcome, Tool};
use abide_plugin::{Cause, Role, StepError};
use serde_json::{Value, json};

use super::Assistant;

/// Returns a session with the tools `read` and `write`, and the log of their calls.
pub(crate) fn session(args: Value) -> (Harness<Assistant>, Rc<RefCell<Vec<String>>>) {
    let mut session = Harness::new();
    session.open(args).expect("valid settings open a session");
    let calls = Rc::new(RefCell::new(Vec::new()));
    for name in ["read", "write"] {
        let calls = calls.clone();
        session.tool(Tool::new(name, "For tests."), move |arguments| {
            calls.borrow_mut().push(format!("{name} {arguments}"));
            Ok(Outcome::text(format!("{name} done")))
        });
    }
    (session, calls)
}

pub(crate) fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

pub(crate) fn requests(turn: &TurnResult) -> Vec<&ChatRequest> {
    let requests = turn.steps.iter().filter_map(|step| match step {
        Step::Chat(request, _) => Some(request),
        _ => None,
    });
    requests.collect()
}

/// Renders a conversation as lines, calls with their ids, and asserts the rule that providers
/// insist on: a message with tool calls is directly followed by one result for each call, in order,
/// and results stand nowhere else.
pub(crate) fn lines(messages: &[ChatMessage]) -> Vec<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for message in messages {
        match (message.role, &message.tool_call_id) {
            (ChatRole::Tool, Some(id)) => {
                assert!(!open.is_empty(), "a result without a call: {messages:?}");
                assert_eq!(open.remove(0), id, "{messages:?}");
                lines.push(format!("tool {id}: {}", message.content));
                continue;
            }
            (ChatRole::Tool, None) => panic!("a result of nothing: {messages:?}"),
            (_, id) => assert_eq!(id, &None),
        }
        assert!(open.is_empty(), "calls without results: {messages:?}");
        let calls = message.tool_calls.iter();
        open = calls.clone().map(|call| call.id.as_str()).collect();
        let mut ids = open.clone();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), open.len(), "ids twice: {messages:?}");
        for call in calls.clone() {
            assert!(!call.id.is_empty());
            let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
            assert!(arguments.is_object(), "{arguments}");
        }
        let calls: Vec<_> = calls.map(|c| format!(" {}={}", c.id, c.name)).collect();
        lines.push(format!(
            "{}: {}{}",
            message.role,
            message.content,
            calls.concat()
        ));
    }
    assert!(open.is_empty(), "calls without results: {messages:?}");
    lines
}

/// Returns the messages that are kept: all except the note about what was dropped.
pub(crate) fn kept(messages: &[ChatMessage]) -> impl Iterator<Item = &ChatMessage> {
    messages.iter().filter(|message| {
        let note = message.role == ChatRole::User
            && message.content.contains(" earlier exchange")
            && message.content.ends_with("dropped to save room]");
        !note
    })
}

/// Renders the messages of a turn's last request to the model.
pub(crate) fn told(turn: &TurnResult) -> Vec<String> {
    lines(&requests(turn).last().expect("the model was asked").messages)
}

#[test]
fn goes_on_until_the_model_is_done() {
    let (mut session, calls) = session(json!({"system": "S"}));
    session.answer_with_calls("Let me look.", [call("a", "read", r#"{"n":1}"#)]);
    session.answer_with_calls(
        "",
        [
            call("b", "write", r#"{"n":2}"#),
            call("c", "read", ""),
            call("d", "write", r#"{"n":3}"#),
        ],
    );
    session.answer("All done.");
    let turn = session.say("do it").unwrap();
    assert_eq!(turn.output, ["All done."]);
    assert_eq!(
        *calls.borrow(),
        [
            r#"read {"n":1}"#,
            r#"write {"n":2}"#,
            "read {}",
            r#"write {"n":3}"#
        ]
    );
    assert_eq!(
        told(&turn),
        [
            "system: S",
            "user: do it",
            "assistant: Let me look. a=read",
            "tool a: read done",
            "assistant:  b=write c=read d=write",
            "tool b: write done",
            "tool c: read done",
            "tool d: write done",
        ]
    );
    for request in requests(&turn) {
        let names: Vec<_> = request.tools.iter().map(|tool| &tool.name).collect();
        assert_eq!(names, ["read", "write"]);
    }

    session.answer("Yes.");
    let turn = session.say("really?").unwrap();
    let sent = told(&turn);
    assert_eq!(sent.len(), 10, "{sent:?}");
    assert_eq!(sent[8..], ["assistant: All done.", "user: really?"]);
}

#[test]
fn results_are_told_in_words() {
    let (mut session, _) = session(json!({"tool_result_bytes": 20}));
    let mut results = vec![
        Ok(Outcome {
            content: vec![
                Content::Text("é".repeat(5)),
                Content::Json(r#"{"a":1}"#.to_owned()),
            ],
            is_error: false,
        }),
        Ok(Outcome {
            content: vec![Content::Blob(Blob {
                mime_type: "a/b".to_owned(),
                data: vec![0; 9],
            })],
            is_error: false,
        }),
        Ok(Outcome::error("no such file")),
        Ok(Outcome::text("")),
        Ok(Outcome::text("é".repeat(50))),
        Err(StepError::Denied("why".to_owned())),
        Err(StepError::Invalid("why".to_owned())),
        Err(StepError::Unavailable("why".to_owned())),
        Err(StepError::Timeout("why".to_owned())),
        Err(StepError::TooLarge("why".to_owned())),
        Err(StepError::UnknownOutcome("why".to_owned())),
        Err(StepError::Failed("why".to_owned())),
    ];
    let count = results.len();
    results.reverse();
    session.tool(Tool::new("any", ""), move |_| {
        results.pop().expect("one for each call")
    });
    let calls: Vec<_> = (0..count)
        .map(|n| call(&n.to_string(), "any", "{}"))
        .collect();
    session.answer_with_calls("", calls);
    session.answer("ok");
    let sent = told(&session.say("go").unwrap());
    let texts: Vec<_> = sent[2..]
        .iter()
        .map(|line| line.split_once(": ").expect("a line").1)
        .collect();
    assert_eq!(texts[0], "ééééé\n{\"a\":1}");
    assert_eq!(texts[1], "[9 bytes of a/b]");
    assert_eq!(texts[2], "The tool reports an error: no such file");
    assert_eq!(texts[3], "[The tool is done and says nothing.]");
    assert_eq!(texts[4], "éééééééééé\n[cut: 20 of 100 bytes]");
    for (text, expected) in texts[5..].iter().zip([
        "this is not allowed",
        "Nothing was done",
        "cannot be reached now",
        "may have done its work all the same",
        "over a limit",
        "nobody knows whether it happened",
        "answered with an error",
    ]) {
        assert!(text.contains(expected) && text.contains("why"), "{text}");
    }
    let unknown = texts[10];
    for expected in [
        "unknown-outcome: ",
        "First find out",
        "only if it did not",
        "do not call again",
    ] {
        assert!(unknown.contains(expected), "{unknown}");
    }
}

#[test]
fn bad_calls_are_not_made_and_the_model_is_told() {
    let (mut session, calls) = session(json!(null));
    session.answer_with_calls(
        "",
        [
            call("", "read", r#"{"n":"#),
            call("x", "read", "[1]"),
            call("x", "rm", "{}"),
            call("", "write", "{}"),
        ],
    );
    session.answer("Sorry.");
    let turn = session.say("go").unwrap();
    assert_eq!(*calls.borrow(), ["write {}"]);
    let sent = told(&turn);
    assert_eq!(
        sent[1],
        "assistant:  call_0=read x=read call_2=rm call_3=write"
    );
    assert!(sent[2].contains(r#"not a JSON object (EOF"#), "{sent:?}");
    assert!(
        sent[2].ends_with(r#"The arguments were: {"n":"#),
        "{sent:?}"
    );
    assert!(
        sent[3].contains("not a JSON object (invalid type"),
        "{sent:?}"
    );
    assert!(
        sent[4].ends_with("no tool of that name. You have: read, write"),
        "{sent:?}"
    );
    assert_eq!(sent[5], "tool call_3: write done");
    assert_eq!(turn.output, ["Sorry."]);
}

#[test]
fn a_model_that_fails_after_effects_does_not_undo_them() {
    let (mut session, calls) = session(json!(null));
    session.answer_with_calls("", [call("a", "write", "{}"), call("b", "write", "{}")]);
    session.answer_with(Err(StepError::Unavailable("connection refused".to_owned())));
    let turn = session.say("go").unwrap();
    assert_eq!(
        turn.output,
        [
            "I could not finish: the model did not answer (unavailable: connection refused). Tool \
             calls made before that, whose effects stand: 2 (write 2 times). Send a message, and \
             I go on from there."
        ]
    );
    assert_eq!(calls.borrow().len(), 2);

    session.answer("Done before.");
    let sent = told(&session.say("go on").unwrap());
    assert_eq!(sent[1..4].len(), 3);
    assert_eq!(sent[2], "tool a: write done");
    assert!(
        sent[4].starts_with("assistant: I could not finish"),
        "{sent:?}"
    );
    assert_eq!(sent[5], "user: go on");

    // The same for an empty answer.
    session.answer_with_calls("", [call("a", "rm", "{}")]);
    session.answer("");
    let output = session.say("go").unwrap().output;
    assert_eq!(
        output,
        [
            "I could not finish: the model gave an empty answer. Send a message, and I go on from \
          there."
        ]
    );
}

#[test]
fn messages_that_come_meanwhile_stand_behind_the_results() {
    let (mut session, _) = session(json!(null));
    session.answer_with_calls("", [call("a", "read", "{}"), call("b", "read", "{}")]);
    session.answer_with_calls("", [call("c", "read", "{}")]);
    session.answer("done");
    session.interrupt_in_turn(Cause::Config, &[]);
    session.interject("the other one");
    let tick = session.message(Role::Timer, Some("t".to_owned()), "tick".to_owned());
    session.interject_later(1, tick);
    let left = session.message(Role::User, None, "too late".to_owned());
    session.interject_later(2, left);
    let turn = session.say("go").unwrap();
    let sent = told(&turn);
    assert_eq!(sent[2..4], ["tool a: read done", "tool b: read done"]);
    assert!(
        sent[4].starts_with("system: [system] The daemon restarted"),
        "{sent:?}"
    );
    assert_eq!(
        sent[5..],
        [
            "user: the other one",
            "assistant:  c=read",
            "tool c: read done",
            "user: [timer t] tick"
        ]
    );
    let received = |step: &&Step| matches!(step, Step::Receive(_));
    assert_eq!(
        turn.steps.iter().filter(received).count(),
        2,
        "nothing is received that no model call follows"
    );
}

#[test]
fn rounds_are_bounded_and_what_was_done_is_kept() {
    let (mut session, calls) = session(json!({"max_rounds": 3}));
    for n in 0..3 {
        session.answer_with_calls("more", [call(&n.to_string(), "read", "{}")]);
    }
    session.interject_later(2, session_message());
    let turn = session.say("for ever").unwrap();
    assert_eq!(calls.borrow().len(), 3);
    assert_eq!(turn.output.len(), 1);
    assert!(
        turn.output[0].contains("asked for tools 3 times"),
        "{turn:?}"
    );
    assert!(turn.output[0].contains("3 (read 3 times)"), "{turn:?}");
    let last = turn.steps.last();
    assert!(matches!(last, Some(Step::Call(..))), "{last:?}");

    session.answer("ok");
    assert_eq!(told(&session.say("and?").unwrap()).len(), 9);
}

fn session_message() -> abide_plugin::Message {
    Harness::<Assistant>::new().message(Role::User, None, "unseen".to_owned())
}

#[test]
fn a_turn_goes_on_without_tools_that_cannot_be_had() {
    // A tool that no provider would accept is left out; the others stay.
    let (mut session, _) = session(json!(null));
    session.tool(
        Tool {
            parameters: "true".to_owned(),
            ..Tool::new("odd", "")
        },
        |_| Ok(Outcome::text("")),
    );
    session.answer("hi");
    let turn = session.say("hi").unwrap();
    assert_eq!(requests(&turn)[0].tools.len(), 2);
    assert!(turn.logs[0].1.contains("odd"), "{turn:?}");

    session.fail_to_list_tools(StepError::Unavailable("files did not start".to_owned()));
    session.answer("hm");
    let turn = session.say("read it").unwrap();
    assert_eq!(requests(&turn)[0].tools, []);
    let sent = told(&turn);
    assert!(
        sent[2].starts_with("user: [Your tools cannot be reached now"),
        "{sent:?}"
    );
    assert!(sent[2].contains("files did not start"), "{sent:?}");
    assert_eq!(sent[3], "user: read it");

    session.fail_to_list_tools(StepError::Denied("no".to_owned()));
    session.answer("hm");
    let turn = session.say("and now?").unwrap();
    assert_eq!(requests(&turn)[0].tools, []);
    assert_eq!(requests(&turn)[0].messages.len(), 6);
}

#[test]
fn old_results_make_room_before_anything_is_forgotten() {
    let (mut session, _) = session(json!({"history_bytes": 4000}));
    session.answer("hello");
    session.say("hi").unwrap();
    session.tool(Tool::new("big", ""), |_| {
        Ok(Outcome::text("b".repeat(5000)))
    });
    session.tool(Tool::new("lost", ""), |_| {
        Err(StepError::UnknownOutcome("x".to_owned()))
    });
    session.answer_with_calls("", [call("l", "lost", "{}")]);
    for n in 0..6 {
        session.answer_with_calls("", [call(&n.to_string(), "big", "{}")]);
    }
    session.answer("done");
    let turn = session.say("go").unwrap();
    assert_eq!(turn.output, ["done"]);
    for request in requests(&turn) {
        let bytes: usize = request
            .messages
            .iter()
            .map(|message| message.content.len() + 64)
            .sum();
        assert!(bytes <= 4000);
        let sent = lines(&request.messages);
        assert_eq!(sent[..3], ["user: hi", "assistant: hello", "user: go"]);
    }
    let sent = told(&turn);
    assert_eq!(sent[4], "tool l: unknown-outcome [dropped to save room]");
    assert_eq!(sent[6], "tool 0: [dropped to save room]");
    assert!(sent[14].starts_with("tool 4: "), "{sent:?}");
    assert!(sent[16].starts_with("tool 5: bbbb"), "{sent:?}");
    assert!(sent[16].ends_with("[cut: 2000 of 5000 bytes]"), "{sent:?}");
}

#[test]
fn a_turn_that_cannot_be_made_to_fit_ends_honestly() {
    let (mut session, calls) = session(json!({"history_bytes": 1000}));
    let much = json!({"text": "x".repeat(600)}).to_string();
    session.answer_with_calls("", [call("a", "write", &much)]);
    session.answer_with_calls("", [call("b", "write", &much)]);
    session.answer_with_calls(&*"why ".repeat(150), [call("c", "write", &much)]);
    let turn = session.say("go").unwrap();
    assert_eq!(calls.borrow().len(), 3);
    assert!(turn.output[0].contains("has outgrown"), "{turn:?}");
    assert!(turn.output[0].contains("3 (write 3 times)"), "{turn:?}");

    session.answer("ok");
    let sent = told(&session.say("and?").unwrap());
    assert_eq!(sent[0], "user: [dropped to save room]");
    assert!(sent[1].contains("3 (write 3 times)"), "{sent:?}");
}
