//! The assistant over twenty restarts at random points, beside one that nobody disturbs: the same
//! conversation, the same effects, once each. Only recovery messages, and what is said to be
//! unknown, may differ.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use abide_tests::{
    Answer, AskedCall, Client, Daemon, FakeModel, How, Setup, Signal, Subscriber, message_text,
    signal, until,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::stage::Stage;

/// Messages of the user there are at least. Each takes four model calls and four tool calls, one of
/// them approved by a human.
const MESSAGES: usize = 10;
const RESTARTS: usize = 20;

/// What the model says: to the last user message, by what came behind it.
fn follow(messages: &[Value]) -> Answer {
    let asked = messages.iter().rposition(|line| line["role"] == "user");
    let (text, behind) = match asked {
        Some(at) => (message_text(&messages[at]), &messages[at..]),
        None => (String::new(), messages),
    };
    let number = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let results = behind.iter().filter(|line| line["role"] == "tool").count();
    let calls: &[(&str, &str)] = match results {
        0 => &[("record", "a")],
        1 => &[("record", "b"), ("look", "c")],
        3 => &[("note", "d")],
        _ => &[],
    };
    let calls = calls.iter().map(|(tool, place)| AskedCall {
        id: format!("{number}{place}"),
        name: format!("t__{tool}"),
        arguments: json!({"token": format!("{number}{place}")}),
    });
    Answer {
        text: match results {
            4 => format!("done with {number}"),
            _ => "one moment".to_owned(),
        },
        calls: calls.collect(),
    }
}

/// What is left of a run.
struct Run {
    stage: Stage,
    /// The conversation as the model was shown it last, without what the host says.
    conversation: Vec<Value>,
    /// What the assistant said, by message.
    said: Vec<String>,
}

/// Holds a conversation of so many messages, and of more until the daemon was restarted so many times
/// in it.
async fn run(seed: u64, messages: usize, restarts: usize) -> Run {
    let model = FakeModel::scripted(follow).await;
    let url = model.base_url();
    let mut stage = Stage::start(|mut setup: Setup| {
        let tools = setup.rest.last_mut().expect("the stage has tools");
        tools.push_str("\nask = [\"note\"]");
        setup.plugins[1].path = abide_tests::guest("assistant");
        Setup {
            model: Some(url),
            grace: "20ms".to_owned(),
            ..setup
        }
    })
    .await;
    let client = stage.client.clone();
    let subscriber = Subscriber::follow(&client, "s");
    let left_alone = AtomicBool::new(false);
    let both = async {
        let agent = talk(&client, &subscriber, messages, &left_alone);
        let disturbed = async {
            disturb(&mut stage.daemon, &client, &model, seed, restarts).await;
            left_alone.store(true, Ordering::Relaxed);
        };
        tokio::join!(agent, disturbed).0
    };
    let said = tokio::select! {
        said = both => said,
        never = approve(&client) => match never {},
    };
    let last = model.calls().pop().expect("it was asked");
    let lines = last.request["messages"].as_array().cloned();
    let mut conversation = lines.expect("a request has messages");
    conversation.retain(|line| line["role"] != "system");
    Run {
        stage,
        conversation,
        said,
    }
}

/// Restarts the daemon so many times while the agent is at work, one way or another.
async fn disturb(
    daemon: &mut Daemon,
    client: &Client,
    model: &FakeModel,
    seed: u64,
    restarts: usize,
) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..restarts {
        let next = model.calls().len() + random.random_range(1..=2);
        until("the agent to go on", async || {
            (model.calls().len() >= next).then_some(())
        })
        .await;
        let old = daemon.generation().await;
        match random.random_range(0..4) {
            0 => drop(signal(daemon.worker_pid().await, Signal::KILL)),
            1 => {
                let asked = client.post("/v1/daemon/restart", &json!({})).await;
                asked.expect("an answer");
            }
            _ => daemon.edit(How::Rename, |setup| setup.spare += 1),
        }
        daemon.after_generation(old).await;
    }
}

/// Says one message after the other, each once the one before is answered; the answers.
async fn talk(
    client: &Client,
    subscriber: &Subscriber,
    messages: usize,
    left_alone: &AtomicBool,
) -> Vec<String> {
    let mut said = Vec::new();
    while said.len() < messages || !left_alone.load(Ordering::Relaxed) {
        let number = said.len();
        let text = format!("work {number} [delay=10]");
        let key = number.to_string();
        // The key makes it one message, however often it is sent.
        let message = until("an acknowledgement", async || {
            client.say("s", &text, Some(&key)).await.ok()
        });
        let message = message.await.message;
        let events = subscriber
            .wait_for("the turn's end", |events| {
                events.iter().any(|e| e.ends(&message))
            })
            .await;
        let end = events.iter().find(|event| event.ends(&message));
        let end = end.expect("it was waited for");
        assert!(end.is_turn("completed"), "{end:?}");
        let texts = events
            .iter()
            .filter(|e| e.turn == end.turn && e.is_from("assistant"));
        said.push(texts.map(|event| event.said()).collect());
    }
    said
}

/// A human who approves of everything, as soon as it is asked.
async fn approve(client: &Client) -> Infallible {
    loop {
        until("an approval to be asked for", async || {
            let page = client.get("/v1/approvals").await.ok()?.body;
            let id = page["items"][0]["id"].as_str()?.to_owned();
            let path = format!("/v1/approvals/{id}");
            client
                .post(&path, &json!({"decision": "approve"}))
                .await
                .ok()
        })
        .await;
    }
}

/// A line of the conversation; a result that nobody knows without what says so.
fn line(line: &Value) -> (bool, Value) {
    let unknown = message_text(line).starts_with("unknown-outcome");
    let mut line = line.clone();
    if unknown {
        line["content"] = Value::Null;
    }
    (unknown, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_restarts_leave_the_conversation_and_its_effects_as_they_are() {
    let seed: u64 = std::env::var("ABIDE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    eprintln!("ABIDE_SEED={seed}");
    let disturbed = run(seed, MESSAGES, RESTARTS).await;
    let messages = disturbed.said.len();
    let alone = run(seed, messages, 0).await;
    assert_eq!(alone.said, disturbed.said);
    assert_eq!(alone.conversation.len(), disturbed.conversation.len());
    let mut unknown = BTreeSet::new();
    for (expected, found) in alone.conversation.iter().zip(&disturbed.conversation) {
        let (is_unknown, found) = line(found);
        let mut expected = expected.clone();
        if is_unknown {
            expected["content"] = Value::Null;
            unknown.insert(expected["tool_call_id"].to_string());
        }
        assert_eq!(expected, found);
    }
    for number in 0..messages {
        for (place, repeatable) in [("a", false), ("b", false), ("c", true), ("d", true)] {
            let token = format!("{number}{place}");
            assert_eq!(alone.stage.executions(&token).len(), 1, "{token}");
            let times = disturbed.stage.executions(&token).len();
            let least = usize::from(!unknown.contains(&json!(token).to_string()));
            assert!(
                times >= least && (repeatable || times <= 1),
                "{token}: {times}"
            );
        }
    }
    for run in [&alone, &disturbed] {
        let session = run.stage.client.session("s").await;
        assert_eq!(
            (&session["turns"], &session["dead"]),
            (&json!(messages), &json!(0))
        );
    }
}
