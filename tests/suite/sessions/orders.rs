//! "Order it, if it is not ordered": an agent that is cancelled, timed out and killed at random
//! moments, and asked again, orders nothing twice, because it receives a report of what it did.

use std::time::Duration;

use abide_tests::{Answer, AskedCall, Client, FakeModel, Signal, message_text, signal, until};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::stage::Stage;

const ITEMS: usize = 8;
/// How often each item is requested while the agent is disturbed.
const DISTURBED: usize = 4;

/// The scripted model: it orders the requested item, unless the conversation shows that it was, or
/// may have been, ordered.
fn order(messages: &[Value]) -> Answer {
    let asked = messages.iter().rfind(|line| line["role"] == "user");
    let asked = asked.map(message_text).unwrap_or_default();
    // The host's notices may precede the request.
    let asked = asked.lines().last().unwrap_or_default().to_owned();
    let words: Vec<&str> = asked.split(' ').collect();
    let [_, item, before, after] = words[..] else {
        return Answer {
            text: format!("I do not understand {asked:?}"),
            calls: Vec::new(),
        };
    };
    let token = format!("\"token\":\"{item}\"");
    let shows = |line: &Value| {
        let calls = line["tool_calls"].as_array().into_iter().flatten();
        let mut arguments = calls.filter_map(|call| call["function"]["arguments"].as_str());
        message_text(line).contains(&token) || arguments.any(|text| text.contains(&token))
    };
    if messages.iter().any(shows) {
        return Answer {
            text: format!("{item} is ordered, or may be"),
            calls: Vec::new(),
        };
    }
    let ms = |text: &str| text.parse::<u64>().unwrap_or(0);
    Answer {
        text: "one moment".to_owned(),
        calls: vec![AskedCall {
            id: format!("c{item}"),
            name: "t__record".to_owned(),
            arguments: json!({"token": item, "sleep_ms": ms(before), "sleep_after_ms": ms(after)}),
        }],
    }
}

async fn say(client: &Client, text: &str) {
    let key = rand::random::<u64>().to_string();
    until("an acknowledgement", async || {
        client.say("a", text, Some(&key)).await.ok()
    })
    .await;
}

/// Disturbs the agent in a random way.
async fn disturb(stage: &Stage, random: &mut StdRng) {
    let moment = Duration::from_millis(random.random_range(0..400));
    tokio::time::sleep(moment).await;
    let way = random.random_range(0..5);
    // The remaining ways rely on the turn's timeout.
    if way >= 3 {
        return;
    }
    if way >= 1 {
        signal(stage.daemon.worker_pid().await, Signal::KILL);
    }
    if way <= 1 {
        let path = ["/v1/sessions/a/cancel", "/v1/sessions/a/cancel?scope=queue"];
        let path = path[random.random_range(0..2)];
        until("an answer that is not of a restart", async || {
            let reply = stage.client.post(path, &json!({})).await.ok()?;
            matches!(reply.status, 200 | 409).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ordered_twice() {
    let seed: u64 = std::env::var("ABIDE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    eprintln!("ABIDE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let model = FakeModel::scripted(order).await;
    let stage = Stage::with_assistant(&model, &["turn_timeout = \"1500ms\""]).await;
    let client = &stage.client;
    for item in (0..ITEMS).map(|n| format!("item{n}")) {
        for _ in 0..DISTURBED {
            let mut sleep = || match random.random_range(0..4) {
                0 => random.random_range(1500..3000),
                1 | 2 => random.random_range(0..400),
                _ => 0,
            };
            let (before, after) = (sleep(), sleep());
            say(client, &format!("order {item} {before} {after}")).await;
            disturb(&stage, &mut random).await;
            client.until_idle("a").await;
            let times = stage.executions(&item).len();
            assert!(times <= 1, "{item} was ordered {times} times");
        }
        // Undisturbed it completes, however busy the machine is.
        until("an answer", async || {
            let text = format!("order {item} 0 0");
            let posted = client.ask("a", &text, None).await.ok()?;
            (posted.outcome.as_deref() == Some("completed")).then_some(())
        })
        .await;
        let times = stage.executions(&item).len();
        assert!(times <= 1, "{item} was ordered {times} times");
    }
    let events = client.events("a", 0).await;
    let stopped = events
        .iter()
        .filter(|event| event.is_turn("failed"))
        .count();
    let reports = events.iter().filter(|event| {
        event.kind == "notice" && event.said().contains("Work of this session was stopped")
    });
    let made = (0..ITEMS).filter(|n| stage.executions(&format!("item{n}")).len() == 1);
    let (reports, made) = (reports.count(), made.count());
    assert!(
        stopped > 0 && reports > 0 && made > 0,
        "{stopped} stopped, {reports} told, {made} ordered"
    );
}
