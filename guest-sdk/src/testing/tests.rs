//! Tests that the harness detects the mistakes that it promises to detect.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Event, Harness, Step};
use crate::http::{Request, Response};
use crate::llm::{self, ChatMessage, ChatRequest, Completion, FinishReason};
use crate::log::Level;
use crate::tools::{Content, Invocation, Outcome, Tool};
use crate::{
    Cause, Context, Error, Interruption, Message, Plugin, Recovery, RestoreError, Role, State,
    StepError, http, inbox, log, output, timer, tools,
};

/// Counts its turns, and does not save the count in its snapshot.
#[derive(Default, Serialize, Deserialize)]
struct Forgetful {
    #[serde(skip)]
    turns: u64,
}

impl Plugin for Forgetful {
    fn turn(&mut self, _input: &[Message]) -> Result<(), Error> {
        self.turns += 1;
        output::text(self.turns.to_string())?;
        Ok(())
    }
}

#[test]
#[should_panic(expected = "the plugin remembers something that its snapshot does not hold")]
fn a_forgotten_field_fails_the_second_turn() {
    let mut session = Harness::<Forgetful>::new();
    assert_eq!(session.say("one").unwrap().output, ["1"]);
    let _ = session.say("two");
}

#[test]
fn a_forgotten_field_is_gone_in_the_second_turn() {
    let mut session = Harness::<Forgetful>::new();
    session.rehearse(false);
    assert_eq!(session.say("one").unwrap().output, ["1"]);
    assert_eq!(session.say("two").unwrap().output, ["1"]);
}

/// Holds its state in an order that changes from one instance to the next.
#[derive(Default, Serialize, Deserialize)]
struct Unordered {
    words: HashMap<String, usize>,
}

impl Plugin for Unordered {
    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        for word in input.iter().flat_map(|message| message.text.split(' ')) {
            *self.words.entry(word.to_owned()).or_default() += 1;
        }
        Ok(())
    }
}

#[test]
#[should_panic(expected = "Use a BTreeMap")]
fn a_hash_map_fails_the_round_trip() {
    let words: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let _ = Harness::<Unordered>::new().say(words.join(" "));
}

/// Uses every import, and remembers its input.
#[derive(Default, Serialize, Deserialize)]
struct Busy {
    args: String,
    seen: BTreeMap<String, String>,
}

impl Plugin for Busy {
    const SCHEMA: u32 = 3;

    fn open(&mut self, context: &Context) -> Result<(), Error> {
        self.args.clone_from(&context.args);
        if context.args == r#""bad""# {
            return Err("bad args".into());
        }
        let denied = inbox::receive().unwrap_err();
        output::text(denied.to_string())?;
        Ok(())
    }

    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        for message in input {
            let (role, text) = (message.role.to_string(), message.text.clone());
            output::text(format!("{role}: {text}"))?;
            self.seen.insert(role, text);
        }
        match input.last().map(|message| message.text.as_str()) {
            Some("ask") => {
                let request = ChatRequest::new(vec![ChatMessage::user("?")]);
                output::text(llm::chat(&request)?.content)?;
            }
            Some("fetch") => {
                let response = http::send(&Request::new("GET", "https://example.org"))?;
                output::event("fetched", &response.status)?;
            }
            Some("work") => {
                let names: Vec<_> = tools::list()?.into_iter().map(|tool| tool.name).collect();
                let call = Invocation::new("add", &json!({"n": 1}))?;
                let outcomes = tools::call_all(&[call, Invocation::new("rm", &json!({}))?]);
                output::text(format!("{names:?} {}", outcomes[0].is_ok()))?;
                output::text(outcomes[1].clone().unwrap_err().to_string())?;
            }
            Some("steer") => {
                let texts: Vec<_> = inbox::receive()?.into_iter().map(|m| m.text).collect();
                output::text(texts.join(","))?;
            }
            Some("steer and fail") => {
                inbox::receive()?;
                return Err("failed on purpose".into());
            }
            Some("later") => timer::set("t", Duration::from_millis(1500), "now")?,
            Some("never") => timer::cancel("t"),
            Some("log") => log::warn("careful"),
            _ => {}
        }
        Ok(())
    }

    fn migrate(schema: u32, data: &[u8]) -> Result<Self, Error> {
        match schema {
            2 => Ok(Self {
                args: crate::decode::<(String,)>(data)?.0,
                seen: BTreeMap::new(),
            }),
            other => Err(Error::new(other)),
        }
    }
}

#[test]
fn nothing_is_granted_until_it_is_scripted() {
    let mut session = Harness::<Busy>::new();
    let opened = session.open(json!({"a": 1})).unwrap();
    assert_eq!(
        opened.output,
        ["denied: steps may be called in a turn alone"]
    );
    assert!(session.say("ask").unwrap_err().0.starts_with("denied: "));
    assert!(session.say("fetch").unwrap_err().0.starts_with("denied: "));

    session.answer("42");
    let turn = session.say("ask").unwrap();
    assert_eq!(turn.output, ["user: ask", "42"]);
    assert!(matches!(turn.steps.as_slice(), [Step::Chat(request, Ok(_))]
        if request.messages[0].content == "?"));
    assert!(
        session
            .say("ask")
            .unwrap_err()
            .0
            .contains("no more answers")
    );

    session.respond(Ok(Response {
        status: 404,
        headers: Vec::new(),
        body: Vec::new(),
    }));
    let fetched = Event {
        name: "fetched".to_owned(),
        data: json!(404),
    };
    assert_eq!(session.say("fetch").unwrap().events, [fetched]);
    session.respond(Err(StepError::Timeout("after 1s".to_owned())));
    assert_eq!(session.say("fetch").unwrap_err().0, "timed out: after 1s");
}

#[test]
fn tools_and_messages_are_scripted() {
    let mut session = Harness::<Busy>::new();
    session.tool(Tool::new("add", "Adds."), |arguments| {
        Ok(Outcome {
            content: vec![Content::Json(arguments.to_owned())],
            is_error: false,
        })
    });
    // Run twice, so that the second turn is also rehearsed on the kept instance.
    for _ in 0..2 {
        let turn = session.say("work").unwrap();
        assert_eq!(turn.output[1], r#"["add"] true"#);
        assert!(turn.output[2].starts_with("denied: the test grants no tool \"rm\""));
        assert_eq!(turn.steps.len(), 3);
    }
    session.interject("left");
    session.interject("right");
    let tick = session.message(Role::Timer, Some("t".to_owned()), "tick".to_owned());
    session.interject_later(1, tick);
    assert_eq!(session.say("steer").unwrap().output[1], "left,right");
    assert_eq!(session.say("steer").unwrap().output[1], "tick");
    assert_eq!(session.say("steer").unwrap().output[1], "");
}

#[test]
fn a_turn_that_is_interrupted_is_told_in_its_middle_or_else_the_next_one() {
    let mut session = Harness::<Busy>::new();
    session.say("hi").unwrap();
    session.interrupt_in_turn(Cause::Crash, &["tools.call add"]);
    session.interject("left");
    let text = session.say("steer").unwrap().output[1].clone();
    assert!(
        text.contains("goes on where it was. Nobody knows"),
        "{text}"
    );
    assert!(
        text.ends_with("took effect: tools.call add.,left"),
        "{text}"
    );

    session.interrupt_in_turn(Cause::Config, &[]);
    assert_eq!(session.say("no step").unwrap().output.len(), 1);
    let output = session.say("next").unwrap().output;
    assert!(
        output[0].contains("due to a configuration change"),
        "{output:?}"
    );
    assert_eq!(session.say("again").unwrap().output, ["user: again"]);

    // A turn that received the recovery message and then fails returns it.
    session.interrupt_in_turn(Cause::Upgrade, &[]);
    assert!(session.say("steer and fail").is_err());
    let output = session.say("after").unwrap().output;
    assert!(output[0].contains("due to an upgrade"), "{output:?}");
}

#[test]
fn timers_fire_and_restarts_are_told() {
    let mut session = Harness::<Busy>::new();
    let set = session.say("later").unwrap().timers;
    assert_eq!((set[0].name.as_str(), set[0].after_ms), ("t", 1500));
    session.restart(Cause::Config);
    session.restart_as(Recovery {
        cause: Cause::Crash,
        generation: 9,
        interruption: Some(Interruption::Resumed),
        unknown_steps: vec!["tool send_mail".to_owned()],
    });
    let turn = session.fire("t").unwrap();
    assert_eq!(turn.output.len(), 2);
    assert_eq!(
        turn.output[0],
        "system: [system] The daemon restarted after a crash. Your session state has been \
         recovered from the last checkpoint. The turn that was interrupted goes on where it was. \
         Nobody knows whether these steps took effect: tool send_mail."
    );
    assert_eq!(turn.output[1], "timer: now");
    assert!(turn.timers.is_empty());

    session.say("later").unwrap();
    assert!(session.say("never").unwrap().timers.is_empty());
    let logs = session.say("log").unwrap().logs;
    assert_eq!(logs, [(Level::Warn, "careful".to_owned())]);
}

#[test]
fn what_fails_changes_nothing_and_gives_the_recovery_message_back() {
    let mut session = Harness::<Busy>::new();
    session.say("later").unwrap();
    let before = session.snapshot().cloned();
    session.restart(Cause::Upgrade);
    assert!(session.say("ask").is_err());
    assert_eq!(session.snapshot(), before.as_ref());
    let message = session.message(Role::Webhook, Some("ci".to_owned()), "green".to_owned());
    let turn = session.deliver(message).unwrap();
    assert!(turn.output[0].starts_with("system: "));
    assert_eq!(turn.output[1], "webhook: green");
    assert_eq!(turn.timers.len(), 1);

    let error = Harness::<Busy>::new().open("bad").unwrap_err();
    assert_eq!(error.to_string(), "bad args");
}

/// Forwards its input to the model.
#[derive(Default, Serialize, Deserialize)]
struct Relay;

impl Plugin for Relay {
    fn turn(&mut self, input: &[Message]) -> Result<(), Error> {
        let messages = input.iter().map(|message| ChatMessage::user(&message.text));
        output::text(llm::chat(&ChatRequest::new(messages.collect()))?.content)?;
        Ok(())
    }
}

#[test]
fn a_model_answers_what_it_is_asked_once_the_queue_is_empty() {
    let mut session = Harness::<Relay>::new();
    session.model(|request| match request.messages[0].content.as_str() {
        "no" => Err(StepError::TooLarge("as you wish".to_owned())),
        text => Ok(Completion {
            content: text.to_uppercase(),
            tool_calls: Vec::new(),
            finish: FinishReason::Stop,
            usage: None,
            model: "mock".to_owned(),
        }),
    });
    session.answer("queued");
    assert_eq!(session.say("hi").unwrap().output, ["queued"]);
    assert_eq!(session.say("hi").unwrap().output, ["HI"]);
    assert_eq!(session.say("no").unwrap_err().0, "too large: as you wish");
    assert_eq!(session.say("ho").unwrap().output, ["HO"]);
}

#[test]
fn snapshots_are_refused_for_the_reason_that_is_wrong() {
    let mut session = Harness::<Busy>::new();
    session.open(json!([1])).unwrap();
    let good = session.snapshot().unwrap().clone();
    let try_restore = |snapshot: State| Harness::<Busy>::from_snapshot(snapshot).map(|_| ());
    assert_eq!(try_restore(good.clone()), Ok(()));

    let newer = State {
        schema: 4,
        ..good.clone()
    };
    assert_eq!(try_restore(newer), Err(RestoreError::NewerSchema(4)));

    let mut longer = good.clone();
    longer.data.push(0);
    let Err(RestoreError::Invalid(reason)) = try_restore(longer) else {
        panic!("bytes were left over");
    };
    assert_eq!(reason, "1 bytes are left over");

    for len in 0..good.data.len() {
        let cut = State {
            schema: 3,
            data: good.data[..len].to_vec(),
        };
        assert!(matches!(try_restore(cut), Err(RestoreError::Invalid(_))));
    }

    let older = |schema| State {
        schema,
        data: rmp_serde::to_vec_named(&("[2]",)).unwrap(),
    };
    assert_eq!(try_restore(older(2)), Ok(()));
    let mut migrated = Harness::<Busy>::from_snapshot(older(2)).unwrap();
    migrated.say("x").unwrap();
    assert_eq!(migrated.snapshot().unwrap().schema, 3);
    assert_eq!(
        try_restore(older(1)),
        Err(RestoreError::Invalid("1".to_owned()))
    );
    let forgetful = Harness::<Forgetful>::from_snapshot(State {
        schema: 0,
        data: Vec::new(),
    });
    assert!(matches!(forgetful, Err(RestoreError::Invalid(reason)) if
        reason.contains("has no migration")));
}
