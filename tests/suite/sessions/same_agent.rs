//! The assistant over twenty restarts at random points, compared with an undisturbed one: the same
//! conversation, the same effects, once each. Only recovery messages, and results reported as
//! unknown, may differ. The same with servers that refuse everything that real ones refuse, the
//! first of which fails now and then, so that the fallback answers.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use abide_tests::{
    Answer, AskedCall, Client, Daemon, FakeModel, How, ModelFault, Rule, Rules, Setup, Signal,
    Subscriber, message_text, notices_apart, signal, until,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::stage::Stage;

/// The minimum number of user messages. Each takes four model calls and four tool calls, one of
/// them approved by a human.
const MESSAGES: usize = 10;
const RESTARTS: usize = 20;

/// The prefix of a message that asks for work.
const WORK: &str = "work ";

/// The scripted model: it answers the user's last work message according to what follows it.
fn follow(messages: &[Value]) -> Answer {
    let is_work = |line: &Value| line["role"] == "user" && message_text(line).contains(WORK);
    let asked = messages.iter().rposition(is_work);
    let (text, behind) = match asked {
        Some(at) => (message_text(&messages[at]), &messages[at..]),
        None => (String::new(), messages),
    };
    let work = text.rsplit_once(WORK).map_or("", |(_, work)| work);
    let number = work.split(' ').next().unwrap_or_default().to_owned();
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

/// The result of a run.
struct Run {
    stage: Stage,
    /// The conversation in the last request to a model, without the host's notices.
    conversation: Vec<Value>,
    /// The assistant's output, by message.
    said: Vec<String>,
}

/// The model, and its fallback.
struct Models {
    first: FakeModel,
    fallback: FakeModel,
}

impl Models {
    /// Starts the models of a run; with `strict`, each has rules of its own, and the first fails
    /// now and then.
    async fn start(strict: bool) -> Self {
        let (first, fallback) = match strict {
            true => (
                Rules::all().but(Rule::IdsOfNine),
                Rules::all().and(Rule::NoStreamOptions),
            ),
            false => (Rules::default(), Rules::default()),
        };
        Self {
            first: FakeModel::strict_scripted(first, follow).await,
            fallback: FakeModel::strict_scripted(fallback, follow).await,
        }
    }

    fn calls(&self) -> usize {
        self.first.calls().len() + self.fallback.calls().len()
    }

    /// Returns the messages of the last request.
    fn last(&self) -> Vec<Value> {
        let calls = [self.first.calls(), self.fallback.calls()].concat();
        let last = calls.into_iter().max_by_key(|call| call.at);
        let lines = last.expect("one was asked").request["messages"]
            .as_array()
            .cloned();
        lines.expect("a request has messages")
    }
}

/// Returns a conversation without the host's notices. Tokens replace the ids of calls, because ids
/// are generated at run time.
fn without_notices(lines: &[Value]) -> Vec<Value> {
    let mut tokens: BTreeMap<String, Value> = BTreeMap::new();
    let mut kept: Vec<Value> = Vec::new();
    for mut line in notices_apart(lines) {
        let calls = line.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            let arguments: Value = serde_json::from_str(arguments).expect("an object");
            let token = arguments["token"].clone();
            tokens.insert(call["id"].to_string(), token.clone());
            call["id"] = token;
        }
        if line["role"] == "tool" {
            line["tool_call_id"] = tokens[&line["tool_call_id"].to_string()].clone();
        }
        if line["role"] == "system" {
            continue;
        }
        kept.push(line);
    }
    kept
}

/// Runs a conversation of at least `messages` messages, until the daemon was restarted `restarts`
/// times during it.
async fn run(seed: u64, messages: usize, restarts: usize, strict: bool) -> Run {
    let models = Models::start(strict).await;
    let (url, other) = (models.first.base_url(), models.fallback.base_url());
    let mut stage = Stage::start(|mut setup: Setup| {
        let tools = setup.rest.last_mut().expect("the stage has tools");
        tools.push_str("\nask = [\"note\"]");
        setup.plugins[1].path = abide_tests::guest("assistant");
        // The first lines after the first provider's section.
        let lines = "retries = 0\nfallback = \"other\"";
        let other = format!("[llm.other]\nbase_url = \"{other}\"\nmodel = \"fake\"");
        setup.rest.splice(0..0, [lines.to_owned(), other]);
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
            disturb(&mut stage.daemon, &client, &models, seed, restarts, strict).await;
            left_alone.store(true, Ordering::Relaxed);
        };
        tokio::join!(agent, disturbed).0
    };
    let said = tokio::select! {
        said = both => said,
        never = approve(&client) => match never {},
    };
    let refused = [models.first.violations(), models.fallback.violations()].concat();
    let refused = refused.iter().filter(|refusal| {
        refusal.rule != Some(Rule::NoStreamOptions) && !is_of_a_lost_result(&refusal.body)
    });
    let refused: Vec<_> = refused.collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!strict || restarts == 0 || !models.fallback.calls().is_empty());
    Run {
        stage,
        conversation: without_notices(&models.last()),
        said,
    }
}

/// Whether a server has missed its prompt cache since a result that it had been sent is unknown now: a
/// result is on its way to the disk while the next step begins, and a kill in that moment loses it.
fn is_of_a_lost_result(problem: &Value) -> bool {
    let text = problem["error"]["message"].as_str().unwrap_or_default();
    let now = text.rsplit_once(" and is ").map(|(_, now)| now);
    text.starts_with("the prompt cache is missed")
        && now.is_some_and(|now| now.contains("\"content\":\"unknown-outcome: "))
}

/// Restarts the daemon `restarts` times in various ways while the agent is at work.
async fn disturb(
    daemon: &mut Daemon,
    client: &Client,
    models: &Models,
    seed: u64,
    restarts: usize,
    strict: bool,
) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..restarts {
        if strict {
            models.first.fail([ModelFault::status(500)]);
        }
        let next = models.calls() + random.random_range(1..=2);
        until("the agent to go on", async || {
            (models.calls() >= next).then_some(())
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

/// Sends one message after the other, each once the previous one is answered. Returns the answers.
async fn talk(
    client: &Client,
    subscriber: &Subscriber,
    messages: usize,
    left_alone: &AtomicBool,
) -> Vec<String> {
    let mut answers = Vec::new();
    while answers.len() < messages || !left_alone.load(Ordering::Relaxed) {
        let number = answers.len();
        let text = format!("{WORK}{number} [delay=10]");
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
        answers.push(texts.map(|event| event.said()).collect());
    }
    answers
}

/// A human who approves every request immediately.
async fn approve(client: &Client) -> Infallible {
    loop {
        until("an approval to be asked for", async || {
            let page = client.get("/v1/approvals").await.ok()?.body;
            let id = page["items"][0]["id"].as_str()?.to_owned();
            client
                .decide(&id, &json!({"decision": "approve"}))
                .await
                .ok()
        })
        .await;
    }
}

/// Returns a line of the conversation, without its text if it reports an unknown result.
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
    compare(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_restarts_before_strict_servers_that_fail_now_and_then_leave_it_so_too() {
    compare(true).await;
}

async fn compare(strict: bool) {
    let seed: u64 = std::env::var("ABIDE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    eprintln!("ABIDE_SEED={seed}");
    let disturbed = run(seed, MESSAGES, RESTARTS, strict).await;
    let messages = disturbed.said.len();
    let alone = run(seed, messages, 0, strict).await;
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
