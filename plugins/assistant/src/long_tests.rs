//! Tests of conversations that exceed the model's window, and of answers that exceed their limits.

use std::cell::RefCell;
use std::rc::Rc;

use abide_plugin::llm::{ChatRequest, ChatRole, Completion, FinishReason, ToolCall, Usage};
use abide_plugin::testing::{Event, Harness, Step, TurnResult};
use abide_plugin::tools::{Outcome, Tool};
use abide_plugin::{Cause, Interruption, Recovery, StepError};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Assistant;
use crate::agent_tests::{call, lines, requests, session, told};

fn answer(text: &str) -> Completion {
    Completion {
        content: text.to_owned(),
        tool_calls: Vec::new(),
        finish: FinishReason::Stop,
        usage: None,
        model: "mock".to_owned(),
    }
}

/// An answer that was cut at the token limit.
fn truncated(
    text: &str,
    calls: impl IntoIterator<Item = ToolCall>,
) -> Result<Completion, StepError> {
    Ok(Completion {
        tool_calls: calls.into_iter().collect(),
        finish: FinishReason::Length,
        ..answer(text)
    })
}

/// Returns the size of a request's text, in bytes.
fn text_bytes(request: &ChatRequest) -> usize {
    let messages = request.messages.iter().map(|message| {
        let calls = message.tool_calls.iter();
        let calls = calls.map(|call| call.id.len() + call.name.len() + call.arguments.len());
        message.content.len() + calls.sum::<usize>()
    });
    let tools = request.tools.iter();
    let tools = tools.map(|tool| tool.name.len() + tool.description.len() + tool.parameters.len());
    messages.sum::<usize>() + tools.sum::<usize>()
}

/// Returns a model server that rejects requests with more tokens than its window, counting one
/// token for each `density` bytes and four for each message.
fn server(
    window: u64,
    density: usize,
) -> impl FnMut(&ChatRequest) -> Result<Completion, StepError> {
    move |request| {
        let tokens = (text_bytes(request) / density + 4 * request.messages.len()) as u64;
        if tokens > window {
            let reason = format!("the model takes {window} tokens, and these are {tokens}");
            return Err(StepError::TooLarge(reason));
        }
        Ok(Completion {
            usage: Some(Usage {
                input_tokens: tokens,
                output_tokens: 1,
            }),
            ..answer("I see.")
        })
    }
}

/// Returns how many requests of a turn were rejected.
fn refused(turn: &TurnResult) -> usize {
    let refused = |step: &&Step| matches!(step, Step::Chat(_, Err(StepError::TooLarge(_))));
    turn.steps.iter().filter(refused).count()
}

#[test]
fn a_window_is_found_out() {
    let (mut session, _) = session(json!({}));
    session.answer("hello");
    session.say("x".repeat(50_000)).unwrap();
    session.answer("hello");
    session.say("y".repeat(50_000)).unwrap();
    session.model(server(5000, 4));
    let turn = session.say("z".repeat(5000)).unwrap();
    assert_eq!(refused(&turn), 2, "both are dropped one by one");
    assert_eq!(turn.output, ["I see."]);
    assert_eq!(
        told(&turn)[0],
        "user: [2 earlier exchanges were dropped to save room]"
    );
    // Accepted and rejected sizes are far apart: there is one more rejection between them.
    let turns = (0..30).map(|_| session.say("z".repeat(5000)).unwrap());
    let refusals: Vec<_> = turns.map(|turn| refused(&turn)).collect();
    assert_eq!(refusals.iter().sum::<usize>(), 1, "{refusals:?}");

    // The estimate does not apply to a larger model.
    session.model(|_| {
        Ok(Completion {
            model: "larger".to_owned(),
            ..answer("Yes.")
        })
    });
    session.say("who are you?").unwrap();
    let turn = session.say("what do you know?").unwrap();
    assert_eq!(
        told(&turn)[0].len(),
        "user: ".len() + 50_000,
        "nothing is lost"
    );
}

#[test]
fn a_message_that_cannot_fit_is_refused_and_the_conversation_kept() {
    let (mut session, _) = session(json!({}));
    session.model(server(2000, 4));
    session.say("my name is Ada").unwrap();
    let before = session.snapshot().cloned();
    let error = session.say("x".repeat(9000)).unwrap_err();
    assert!(
        error
            .0
            .starts_with("The message does not fit into the model's context window")
    );
    assert!(
        error
            .0
            .ends_with("the model takes 2000 tokens, and these are 2293"),
        "{error}"
    );
    assert_eq!(session.snapshot(), before.as_ref());
    let turn = session.say("who am I?").unwrap();
    assert_eq!(told(&turn)[0], "user: my name is Ada");
}

#[test]
fn results_that_do_not_fit_are_cut_as_the_last_resort() {
    let (mut session, _) = session(json!({"tool_result_bytes": 20_000}));
    session.tool(Tool::new("big", ""), |_| {
        Ok(Outcome::text("b".repeat(90_000)))
    });
    session.tool(Tool::new("lost", ""), |_| {
        Err(StepError::UnknownOutcome("x".repeat(2000)))
    });
    session.model(server(3000, 4));
    session.say("hi").unwrap();
    session.answer_with_calls("", [call("a", "big", "{}"), call("b", "lost", "{}")]);
    let turn = session.say("go").unwrap();
    assert_eq!(turn.output, ["I see."]);
    assert_eq!(refused(&turn), 1);
    let sent = told(&turn);
    assert!(
        sent[3].starts_with("tool a: bbb") && sent[3].contains("[cut: "),
        "{sent:?}"
    );
    assert!(sent[4].starts_with("tool b: unknown-outcome: "), "{sent:?}");

    // If that is not enough, what was done is still not forgotten.
    session.answer_with_calls("", [call("c", "write", "{}")]);
    session.interject("x".repeat(20_000));
    let turn = session.say("go").unwrap();
    assert!(
        turn.output[0].contains("does not fit into the model's context window"),
        "{turn:?}"
    );
    assert!(turn.output[0].contains("1 (write)"), "{turn:?}");
    let turn = session.say("go on").unwrap();
    assert_eq!(turn.output, ["I see."]);
}

#[test]
fn a_server_that_refuses_everything_is_left_alone() {
    let (mut session, _) = session(json!({}));
    for n in 0..50 {
        session.answer(format!("{n} {}", "a".repeat(4000)));
        session.say("?").unwrap();
    }
    let asked = Rc::new(RefCell::new(0));
    let count = asked.clone();
    session.model(move |_| {
        *count.borrow_mut() += 1;
        Err(StepError::TooLarge("no".to_owned()))
    });
    let error = session.say("?").unwrap_err();
    assert!(error.0.contains("does not fit"), "{error}");
    assert_eq!(asked.take(), 6);

    // A shorter request does not help against an answer over the host's limit.
    let count = asked.clone();
    session.model(move |_| {
        *count.borrow_mut() += 1;
        let reason = "the model's answer has more than the 9 bytes that `limits.event` allows";
        Err(StepError::TooLarge(reason.to_owned()))
    });
    let error = session.say("?").unwrap_err();
    assert!(
        error.0.starts_with("The model's answer is too large"),
        "{error}"
    );
    assert_eq!(asked.take(), 1);
}

#[test]
fn a_truncated_answer_is_known_as_one() {
    let (mut session, _) = session(json!(null));
    session.answer_with(truncated("Once upon a", []));
    let turn = session.say("tell me").unwrap();
    assert_eq!(turn.output, ["Once upon a"]);
    let event = Event {
        name: "truncated".to_owned(),
        data: json!({"reason": "max_tokens"}),
    };
    assert_eq!(turn.events, [event]);

    session.answer("time.");
    let turn = session.say("go on").unwrap();
    assert_eq!(turn.events, []);
    let sent = told(&turn);
    assert_eq!(sent[1], "assistant: Once upon a");
    assert!(sent[2].starts_with("user: [Your answer above was cut at the token limit"));
    assert_eq!(sent[3..], ["user: go on"]);
}

#[test]
fn tokens_that_were_spent_on_nothing_are_told_as_that() {
    for text in ["", " \n"] {
        let (mut session, _) = session(json!(null));
        session.answer_with(truncated(text, []));
        let error = session.say("think").unwrap_err();
        assert!(error.0.contains("max_tokens"), "{error}");
        session.answer_with_calls("", [call("a", "write", "{}")]);
        session.answer_with(truncated(text, []));
        let turn = session.say("think").unwrap();
        assert!(turn.output[0].contains("max_tokens"), "{turn:?}");
        assert!(turn.output[0].contains("1 (write)"), "{turn:?}");
        assert_eq!(turn.events, []);
    }
}

#[test]
fn calls_that_were_cut_are_not_made() {
    let (mut session, calls) = session(json!(null));
    session.answer_with(truncated(
        "Now",
        [
            call("a", "write", r#"{"n":1}"#),
            call("b", "write", r#"{"n":"#),
            call("c", "write", ""),
        ],
    ));
    session.answer("Sorry.");
    let turn = session.say("go").unwrap();
    assert_eq!(*calls.borrow(), [r#"write {"n":1}"#]);
    assert_eq!(turn.output, ["Sorry."]);
    let sent = told(&turn);
    assert_eq!(sent[2], "tool a: write done");
    for (line, end) in [(&sent[3], r#"were: {"n":"#), (&sent[4], "were: ")] {
        assert!(
            line.contains("was not called, because your answer was cut"),
            "{line}"
        );
        assert!(line.ends_with(end), "{line}");
    }
}

#[test]
fn what_nobody_knows_and_what_a_human_denied_is_told() {
    let (mut session, _) = session(json!(null));
    session.tool(Tool::new("lost", ""), |_| {
        Err(StepError::UnknownOutcome("cut".to_owned()))
    });
    session.tool(Tool::new("asked", ""), |_| {
        let reason = "a human denied this call of `asked`, and said: not on Fridays";
        Err(StepError::Denied(reason.to_owned()))
    });
    let calls = ["read", "lost", "asked"].map(|name| call(name, name, "{}"));
    session.answer_with_calls("", calls);
    session.interrupt_in_turn(Cause::Crash, &["tools.call lost"]);
    session.answer("ok");
    let turn = session.say("go").unwrap();
    let sent = told(&turn);
    assert_eq!(sent[2], "tool read: read done");
    assert!(
        sent[3].starts_with("tool lost: unknown-outcome: "),
        "{sent:?}"
    );
    assert!(
        sent[4].starts_with("tool asked: Nothing was called: "),
        "{sent:?}"
    );
    assert!(sent[4].contains("said: not on Fridays"), "{sent:?}");
    let notice = "Nobody knows whether these steps took effect: tools.call lost.";
    assert!(
        sent[5].starts_with("system: [system]") && sent[5].ends_with(notice),
        "{sent:?}"
    );

    session.restart_as(Recovery {
        cause: Cause::Upgrade,
        generation: 9,
        interruption: Some(Interruption::Rerun),
        unknown_steps: vec!["http.send api".to_owned()],
    });
    session.answer("ok");
    let turn = session.say("go").unwrap();
    let sent = self::told(&turn);
    let notice = &sent[sent.len() - 2];
    assert!(
        notice.starts_with("system: [system] The daemon restarted"),
        "{notice}"
    );
    assert!(notice.ends_with("took effect: http.send api."), "{notice}");
}

fn open(args: Value) -> Harness<Assistant> {
    let mut session = Harness::new();
    session.open(args).expect("valid settings open a session");
    session
}

proptest! {
    /// Whatever the server's window: a message that fits alone is answered, and one that does not
    /// fit changes nothing.
    #[test]
    fn what_fits_alone_is_answered(
        window in 200_u64..4000,
        density in 1_usize..8,
        sizes in prop::collection::vec(0_usize..6000, 1..40),
    ) {
        let mut session = open(json!({}));
        session.model(server(window, density));
        for size in sizes {
            let before = session.snapshot().cloned();
            // Including the note about what was dropped.
            let fits = ((size + 60) / density + 8) as u64 <= window;
            match session.say("x".repeat(size)) {
                Ok(turn) => {
                    prop_assert!(refused(&turn) <= 5);
                    let requests = requests(&turn);
                    let mut weights: Vec<_> = requests.iter().map(|one| text_bytes(one)).collect();
                    weights.dedup();
                    prop_assert_eq!(weights.len(), requests.len(), "nothing is asked twice");
                    for request in requests {
                        lines(&request.messages);
                        let last = request.messages.last().expect("some");
                        prop_assert_eq!(last.role, ChatRole::User);
                        prop_assert_eq!(last.content.len(), size);
                    }
                }
                Err(error) => {
                    prop_assert!(!fits, "{}", error);
                    prop_assert_eq!(session.snapshot(), before.as_ref());
                }
            }
        }
    }
}
