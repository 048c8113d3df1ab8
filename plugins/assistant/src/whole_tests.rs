//! Whatever the model does, the conversation stays one that a provider takes.

use abide_guest_sdk::tools::{Outcome, Tool};
use abide_guest_sdk::{Cause, Role, StepError};
use proptest::prelude::*;
use serde_json::json;

use crate::agent_tests::{call, kept, lines, requests, session};

/// What a model may do next, and what comes of it.
#[derive(Clone, Debug)]
enum Next {
    Calls(String, Vec<(String, u8, String)>),
    Answer(String),
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
    prop_oneof![
        6 => (".{0,60}", prop::collection::vec(call, 1..4)).prop_map(|(a, b)| Next::Calls(a, b)),
        2 => ".{0,300}".prop_map(Next::Answer),
        1 => Just(Next::Fail),
        1 => (0..3_usize, ".{0,100}").prop_map(|(later, text)| Next::Interject(later, text)),
        1 => Just(Next::Interrupt),
        3 => ".{0,200}".prop_map(Next::Turn),
    ]
}

proptest! {
    /// Whatever the model, its tools and its users do: every request is one that a provider
    /// takes and stays inside the budget, no effect is forgotten by a turn that fails, and every
    /// state comes back from its snapshot (the harness sees to that).
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
                Next::Calls(text, asked) => session.answer_with_calls(text, asked.iter().map(
                    |(id, tool, arguments)| {
                        let name = ["read", "write", "big", "lost", "none"][usize::from(*tool)];
                        call(id, name, arguments)
                    },
                )),
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
                    match session.say(text) {
                        Ok(turn) => {
                            prop_assert_eq!(turn.output.len(), 1);
                            for request in requests(&turn) {
                                lines(&request.messages);
                                let bytes: usize = kept(&request.messages)
                                    .map(|message| message.content.len() + 64)
                                    .sum();
                                prop_assert!(bytes <= history_bytes);
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
