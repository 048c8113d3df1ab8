//! Tests that providers accept the conversation, whatever the model does.

use abide_plugin::llm::{ChatMessage, ChatRole, Completion, FinishReason, ToolCall};
use abide_plugin::tools::{Outcome, Tool};
use abide_plugin::{Cause, Role, StepError};
use proptest::prelude::*;
use serde_json::json;

use crate::agent_tests::{call, kept, lines, requests, session};
use crate::results::UNKNOWN;

/// What a model may do next, and the result of it.
#[derive(Clone, Debug)]
enum Next {
    Calls(String, Vec<(String, u8, String)>),
    Answer(String),
    /// The answer is cut at the token limit.
    Truncated(String, Vec<(String, u8, String)>),
    TooLarge,
    Fail,
    Interject(usize, String),
    Interrupt,
    Turn(String),
}

fn next() -> impl Strategy<Value = Next> {
    let arguments = prop_oneof![
        4 => ".{0,80}".prop_map(|text| json!({"text": text}).to_string()),
        1 => ".{0,40}",
        1 => Just(json!({"text": "x".repeat(700)}).to_string()),
    ];
    let call = ("[ab]{0,1}", 0..5_u8, arguments);
    let calls = |least| prop::collection::vec(call.clone(), least..4);
    prop_oneof![
        6 => (".{0,60}", calls(1)).prop_map(|(a, b)| Next::Calls(a, b)),
        2 => ".{0,300}".prop_map(Next::Answer),
        1 => (".{0,60}", calls(0)).prop_map(|(a, b)| Next::Truncated(a, b)),
        2 => Just(Next::TooLarge),
        1 => Just(Next::Fail),
        1 => (0..3_usize, ".{0,100}").prop_map(|(later, text)| Next::Interject(later, text)),
        1 => Just(Next::Interrupt),
        3 => ".{0,200}".prop_map(Next::Turn),
    ]
}

/// Converts the generated values into a call as a model makes it.
fn made((id, tool, arguments): &(String, u8, String)) -> ToolCall {
    let name = ["read", "write", "big", "lost", "none"][usize::from(*tool)];
    call(id, name, arguments)
}

/// Returns whether no result of the tool with unknown outcomes looks like one of a known outcome.
fn unknown_is_told(messages: &[ChatMessage]) -> bool {
    let mut asked: Vec<&ToolCall> = Vec::new();
    messages.iter().all(|message| {
        asked.extend(&message.tool_calls);
        // Results follow their calls in order, which the other test checks.
        let lost = message.role == ChatRole::Tool && asked.remove(0).name == "lost";
        let not_made = ["The tool was not called", "[dropped to save room]"];
        let known = not_made
            .iter()
            .any(|words| message.content.starts_with(words));
        !lost || known || message.content.starts_with(UNKNOWN)
    })
}

proptest! {
    /// Whatever the model, its tools and its users do: providers accept every request, which stays
    /// within the budget; no effect is forgotten by a turn that fails; and every state survives its
    /// snapshot (which the harness checks).
    #[test]
    fn conversations_stay_whole(
        history_bytes in 700_usize..5000,
        tool_result_bytes in 0_usize..2000,
        max_rounds in 1_u32..6,
        plan in prop::collection::vec(next(), 1..40),
    ) {
        let (mut session, calls) = session(json!({
            "history_bytes": history_bytes,
            "tool_result_bytes": tool_result_bytes,
            "max_rounds": max_rounds,
        }));
        session.tool(Tool::new("big", ""), |_| Ok(Outcome::text("b".repeat(3000))));
        session.tool(Tool::new("lost", ""), |_| {
            Err(StepError::UnknownOutcome("cut".to_owned()))
        });
        for act in plan {
            match act {
                Next::Calls(text, asked) => session.answer_with_calls(text, asked.iter().map(made)),
                Next::Truncated(text, asked) => session.answer_with(Ok(Completion {
                    content: text,
                    tool_calls: asked.iter().map(made).collect(),
                    finish: FinishReason::Length,
                    usage: None,
                    model: "mock".to_owned(),
                })),
                Next::TooLarge => session.answer_with(Err(StepError::TooLarge("no".to_owned()))),
                Next::Answer(text) => session.answer(text),
                Next::Fail => session.answer_with(Err(StepError::Failed("no".to_owned()))),
                Next::Interject(later, text) => {
                    let message = session.message(Role::User, None, text);
                    session.interject_later(later, message);
                }
                Next::Interrupt => session.interrupt_in_turn(Cause::Crash, &[]),
                Next::Turn(text) => {
                    let before = session.snapshot().cloned();
                    let called = calls.borrow().len();
                    match session.say(text.clone()) {
                        Ok(turn) => {
                            prop_assert_eq!(turn.output.len(), 1);
                            let first = requests(&turn)[0].messages.last();
                            prop_assert_eq!(first.map(|last| &last.content), Some(&text));
                            for request in requests(&turn) {
                                lines(&request.messages);
                                let bytes: usize = kept(&request.messages)
                                    .map(|message| message.content.len() + 64)
                                    .sum();
                                prop_assert!(bytes <= history_bytes);
                                prop_assert!(unknown_is_told(&request.messages));
                            }
                        }
                        Err(_) => {
                            prop_assert_eq!(session.snapshot(), before.as_ref());
                            prop_assert_eq!(calls.borrow().len(), called);
                        }
                    }
                }
            }
        }
    }
}
