//! The memory budget of all guests together: turns that need more than there is wait, or are run again,
//! and all of them end.

use std::time::{Duration, Instant};

use abide_tests::{CallState, Client, How, until};
use reqwest::Method;
use serde_json::{Value, json};

use super::oom::MemoryGroup;
use crate::stage::Stage;

/// How long a neighbour of turns that wait for memory may wait for an answer: it does not wait for them.
const NEIGHBOUR_WAITS: Duration = Duration::from_secs(15);
const TURNS: usize = 12;
/// What each of them needs.
const TURN_MIB: usize = 60;

/// A stage on which hostile guests may use more than they need here, with this budget.
async fn stage(guest_memory: Option<&str>) -> Stage {
    Stage::start(|mut setup| {
        let budget = guest_memory.map(|size| format!("guest_memory = {size:?}"));
        setup.daemon.extend(budget);
        for plugin in &mut setup.plugins {
            plugin.limits.push("memory = \"128MiB\"".to_owned());
        }
        setup
    })
    .await
}

async fn metric(client: &Client, name: &str) -> f64 {
    let request = client.request(Method::GET, "/metrics").send().await;
    let text = request.expect("an answer").text().await.expect("a text");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Feeds all sessions at once, while a small one is spoken to. Returns how long it had to wait for an
/// answer at most.
async fn feed(stage: &Stage) -> Duration {
    let client = &stage.client;
    client.open("neighbour", "echo").await;
    let mut turns = Vec::new();
    for n in 0..TURNS {
        let id = format!("eater {n}");
        client.open(&id, "hostile").await;
        turns.push(id);
    }
    for id in &turns {
        let n = id.trim_start_matches("eater ");
        let posted = client.say(id, &format!("feed {TURN_MIB} {n}"), None).await;
        posted.unwrap_or_else(|refused| panic!("{id}: {refused:?}"));
    }
    let mut longest = Duration::ZERO;
    while !turns.is_empty() {
        let asked = Instant::now();
        client.chat("neighbour", "hello").await;
        longest = longest.max(asked.elapsed());
        let mut open = Vec::new();
        for id in turns {
            let events = client.events(&id, 0).await;
            let status = |is: &str| {
                let of_turns = events.iter().filter(|event| event.kind == "turn");
                let of_turns = of_turns.filter(|event| event.status.as_deref() == Some(is));
                of_turns.count()
            };
            assert_eq!(status("failed"), 0, "{events:?}");
            if status("completed") == 0 {
                open.push(id);
                continue;
            }
            assert_eq!(status("started"), 1, "{events:?}");
            assert!(
                events.iter().any(|e| e.said() == "held 60 MiB"),
                "{events:?}"
            );
        }
        turns = open;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for n in 0..TURNS {
        for moment in ["before", "after"] {
            let executions = stage.executions(&format!("{n}-{moment}"));
            assert_eq!(executions.len(), 1, "{n}-{moment}: {executions:?}");
        }
    }
    let status = until("the memory to be given back", async || {
        let status = stage.daemon.status().await;
        (status["guest_memory"]["reserved_bytes"] == 0).then_some(status)
    })
    .await;
    assert_eq!(status["guest_memory"]["waiting"], 0, "{status}");
    assert_eq!(status["watchdog"], Value::Array(Vec::new()), "{status}");
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_that_need_more_memory_than_there_is_all_end_and_a_neighbour_answers() {
    // The last is less than one of them needs.
    for budget_mib in [500, 100, 40] {
        let stage = stage(Some(&format!("{budget_mib}MiB"))).await;
        let worker = stage.daemon.worker_pid().await;
        let longest = feed(&stage).await;
        assert!(longest < NEIGHBOUR_WAITS, "{budget_mib} MiB: {longest:?}");
        assert_eq!(stage.daemon.worker_pid().await, worker, "the worker lives");
        let status = stage.daemon.status().await;
        let budget = &status["guest_memory"]["budget_bytes"];
        assert_eq!(budget.as_u64(), Some(budget_mib << 20), "{status}");
        let client = &stage.client;
        let reruns = metric(client, "abide_guest_memory_reruns_total").await;
        let waits = metric(client, "abide_guest_memory_waits_total").await;
        // On a busy machine the turns may come one after the other, and fit into the largest budget.
        assert!(budget_mib == 500 || reruns + waits > 0.0);
        println!(
            "{budget_mib} MiB: {reruns} run again, {waits} waited, the neighbour at most {longest:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_that_need_more_memory_than_the_control_group_has_all_end() {
    let group = match MemoryGroup::with_limit(500) {
        Ok(group) => group,
        Err(reason) => return eprintln!("SKIPPED, for there is no control group: {reason}"),
    };
    let stage = stage(None).await;
    group.take_in(stage.daemon.supervisor_pid());
    // The next worker is in the group, and takes half of its limit.
    stage.daemon.kill_worker().await;
    let worker = stage.daemon.worker_pid().await;
    feed(&stage).await;
    assert_eq!(stage.daemon.worker_pid().await, worker, "the worker lives");
    let status = stage.daemon.status().await;
    let budget = &status["guest_memory"]["budget_bytes"];
    assert_eq!(budget.as_u64(), Some(250 << 20), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_waits_for_memory_outlives_a_restart_and_can_be_cancelled() {
    let mut stage = stage(Some("64MiB")).await;
    stage
        .daemon
        .edit(How::Rename, |setup| setup.grace = "100ms".to_owned());
    let client = stage.client.clone();
    for id in ["first", "second", "third"] {
        client.open(id, "hostile").await;
    }
    // It holds more than half of the budget until the model is let go.
    let first = client.say("first", "hold 50 [hold=first]", None).await;
    let first = first.expect("it is acknowledged").message;
    let held = "[hold=first]";
    stage.model.wait_for(held, CallState::Running, 1).await;
    let mut waiting = Vec::new();
    for id in ["second", "third"] {
        let posted = client.say(id, &format!("feed 50 {id}"), None).await;
        waiting.push(posted.expect("it is acknowledged").message);
    }
    until("both to wait", async || {
        let status = stage.daemon.status().await;
        (status["guest_memory"]["waiting"] == 2).then_some(())
    })
    .await;
    let cancelled = client.post("/v1/sessions/third/cancel", &json!({})).await;
    cancelled.expect("an answer").expect(200);
    let generation = stage.daemon.generation().await;
    stage.daemon.restart_by_edit().await;
    assert!(stage.daemon.generation().await > generation);
    stage.model.release("first");
    for (id, message) in [("first", first), ("second", waiting.remove(0))] {
        let events = client.events_once_ended(id, &message).await;
        let end = events.iter().find(|event| event.ends(&message));
        let status = end.and_then(|event| event.status.as_deref());
        assert_eq!(status, Some("completed"), "{id}: {events:?}");
    }
    for (token, times) in [
        ("second-before", 1),
        ("second-after", 1),
        ("third-after", 0),
    ] {
        assert_eq!(stage.executions(token).len(), times, "{token}");
    }
    // The budget is changed without a restart.
    let worker = stage.daemon.worker_pid().await;
    stage.daemon.edit(How::Rename, |setup| {
        setup.daemon = vec!["guest_memory = \"70MiB\"".to_owned()];
    });
    until("the new budget", async || {
        let status = stage.daemon.status().await;
        let budget = status["guest_memory"]["budget_bytes"].as_u64();
        (budget == Some(70 << 20)).then_some(())
    })
    .await;
    assert_eq!(stage.daemon.worker_pid().await, worker);
}
