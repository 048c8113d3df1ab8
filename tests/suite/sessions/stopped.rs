//! A turn that was stopped is not forgotten: the next one receives a report of what it had done,
//! whatever stopped it.

use abide_tests::{
    Answer, AskedCall, CallState, Event, FakeModel, How, Setup, message_text, until,
};
use serde_json::{Value, json};

use crate::stage::{Stage, acts, notices};

/// A step that takes far longer than any test.
const LONG_MS: u64 = 3_600_000;

/// Returns the report of stopped turns that a turn's guest received; its events must have the same.
fn told(events: &[Event]) -> Option<String> {
    let by_guest = events.iter().find(|e| e.name.as_deref() == Some("stopped"));
    let by_guest = by_guest.and_then(|event| event.data.clone());
    let by_guest = by_guest.and_then(|data| data["text"].as_str().map(str::to_owned));
    let by_host: Vec<&Event> = events.iter().filter(|e| e.kind == "notice").collect();
    let text = by_host.iter().map(|event| event.said().to_owned()).next();
    assert_eq!(by_guest, text, "{events:?}");
    if let [notice] = &by_host[..] {
        assert_eq!(notice.cause.as_deref(), Some("stopped"));
    }
    by_guest
}

/// Asserts that the next turn's report contains all of `parts` and none of `absent`, and is sent
/// once.
async fn check_next(stage: &Stage, parts: &[&str], absent: &[&str]) {
    let next = stage.perform("next", json!([])).await;
    let text = told(&next).unwrap_or_else(|| panic!("it is told nothing: {next:?}"));
    for part in parts {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    for part in absent {
        assert!(!text.contains(part), "{part:?} in {text}");
    }
    let after = stage.perform("after that", json!([])).await;
    assert_eq!(told(&after), None, "it has been told");
}

async fn cancel(stage: &Stage) -> Value {
    let cancelled = stage.client.post("/v1/sessions/s/cancel", &json!({})).await;
    cancelled.expect("an answer").expect(200)
}

fn limited(limit: &str) -> impl FnOnce(Setup) -> Setup {
    move |mut setup| {
        setup.plugins[1].limits.push(limit.to_owned());
        setup
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_turn_is_told_with_what_was_in_flight() {
    let stage = Stage::start(|setup| setup).await;
    let script = json!([
        {"act": "call", "tool": "look", "token": "read"},
        {"act": "call", "tool": "record", "token": "done"},
        {"act": "call_all", "calls": [
            {"tool": "record", "token": "one"},
            {"tool": "record", "token": "flying", "sleep_ms": LONG_MS},
        ]},
    ]);
    stage.send("m", script).await;
    stage.tools("done", 3).await;
    let cancelled = cancel(&stage).await;
    assert_eq!(cancelled["turn"], 1);
    check_next(
        &stage,
        &[
            "[system] Work of this session was stopped",
            "Turn 1, on the message \"{\"acts\":",
            "the turn was cancelled on request.",
            "- t__record {\"token\":\"done\"} -> recorded done",
            "- t__record {\"token\":\"one\"} -> recorded one",
            "Nobody knows whether",
            "\"token\":\"flying\"",
        ],
        &["-> recorded flying", "- t__look"],
    )
    .await;
    assert_eq!(stage.executions("done").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_failures_and_traps_are_told() {
    let record = json!({"act": "call", "tool": "record", "token": "a"});
    let done = "- t__record {\"token\":\"a\"} -> recorded a";
    let any = "step_timeout = \"1m\"";
    for (limit, then, why) in [
        (
            "turn_timeout = \"4s\"",
            json!({"act": "llm", "text": "[hold=x]"}),
            "turn_timeout",
        ),
        (
            "journal = \"8B\"",
            json!({"act": "llm", "text": "hi"}),
            "limits.journal",
        ),
        (
            "steps = 1",
            json!({"act": "llm", "text": "hi"}),
            "limits.steps",
        ),
        // An error that the guest itself returns: a text that is too long for an event.
        (
            "event = \"1KiB\"",
            json!({"act": "say", "text": "x".repeat(2000)}),
            "limits.event",
        ),
        (
            any,
            json!({"act": "fail", "reason": "no more of it"}),
            "no more of it",
        ),
        (any, json!({"act": "trap"}), "trap"),
    ] {
        let stage = Stage::start(limited(limit)).await;
        let events = stage.perform("m", json!([record, then])).await;
        let end = events.last().expect("it ended");
        assert!(end.is_turn("failed"), "{limit}: {end:?}");
        // The limits leave room only for an empty script.
        check_next(&stage, &[done, why, "took effect"], &["Nobody knows"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_stopped_over_a_restart_is_told_with_both() {
    let stage = Stage::start(|setup| setup).await;
    let script = json!([
        {"act": "call", "tool": "record", "token": "a"},
        {"act": "call", "tool": "record", "token": "flying", "sleep_ms": LONG_MS},
        {"act": "llm", "text": "wait [hold=m]"},
    ]);
    let message = stage.send("m", script).await;
    stage.tools("started", 2).await;
    // The first result is on disk, or the death would make it unknown.
    stage.tools("done", 1).await;
    stage.daemon.kill_worker().await;
    stage.model.wait_for("wait", CallState::Running, 1).await;
    cancel(&stage).await;
    let events = stage.end_of(&message).await;
    assert!(events.iter().any(|event| event.is_turn("failed")));
    let next = stage.perform("next", json!([])).await;
    let [notice] = &notices(&next)[..] else {
        panic!("one recovery message was expected: {next:?}");
    };
    assert_eq!(notice["cause"], "crash", "the restart's cause stays");
    let stopped = notice["stopped"].as_str().unwrap_or_default();
    for part in [
        "{\"token\":\"a\"} -> recorded a",
        "Nobody knows",
        "\"flying\"",
    ] {
        assert!(stopped.contains(part), "{part} in {stopped}");
    }
    let after = stage.perform("after that", json!([])).await;
    assert_eq!((told(&after), notices(&after).len()), (None, 0));
    assert_eq!(stage.executions("a").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_divergence_is_told() {
    let mut stage = Stage::start(|setup| setup.grace("100ms")).await;
    stage.client.open("fickle", "hostile").await;
    let posted = stage.client.say("fickle", "fickle 30", None).await;
    let message = posted.expect("it is acknowledged").message;
    stage.model.wait_for("wait", CallState::Running, 1).await;
    let old = stage.daemon.generation().await;
    stage.daemon.edit(How::Rename, |setup| {
        setup.plugins[2].limits.push("memory = \"8MiB\"".into());
        setup.spare += 1;
    });
    stage.daemon.after_generation(old).await;
    stage.client.events_once_ended("fickle", &message).await;
    let posted = stage.client.ask("fickle", "hello", None).await;
    let message = posted.expect("accepted").message;
    let events = stage.client.events_once_ended("fickle", &message).await;
    let notice = events.iter().find(|event| event.kind == "notice");
    let text = notice.map(Event::said).unwrap_or_default();
    for part in ["not deterministic", "took effect", "-> recorded much"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn word_of_a_stopped_turn_survives_failures_kills_and_replays() {
    let mut stage = Stage::start(|setup| setup).await;
    let script = json!([
        {"act": "call", "tool": "record", "token": "a"},
        {"act": "llm", "text": "wait [hold=m]"},
    ]);
    stage.send("m", script).await;
    stage.model.wait_for("wait", CallState::Running, 1).await;
    cancel(&stage).await;
    // Notified, killed in the middle, resumed with the same input, and stopped as well.
    let script = json!([
        {"act": "call", "tool": "record", "token": "b"},
        {"act": "llm", "text": "wait again [hold=n]"},
    ]);
    stage.send("n", script).await;
    stage
        .model
        .wait_for("wait again", CallState::Running, 1)
        .await;
    // Both results are on disk, or the death would make the second unknown.
    stage.tools("done", 2).await;
    stage.daemon.kill_worker().await;
    until("the model to be asked again", async || {
        (stage.model.calls().len() > 2).then_some(())
    })
    .await;
    cancel(&stage).await;
    // No turn runs when the daemon stops.
    assert!(stage.daemon.stop().await.success());
    stage.daemon.start_again().await;
    let next = stage.perform("next", json!([])).await;
    let notices = notices(&next);
    let text = notices[0]["stopped"].as_str().unwrap_or_default();
    let places = ["Turn 1,", "recorded a", "Turn 2,", "recorded b"];
    let places: Vec<_> = places.iter().map(|part| text.find(part)).collect();
    assert!(
        places.is_sorted() && places[0].is_some(),
        "in order: {text}"
    );
    for token in ["a", "b"] {
        assert_eq!(stage.executions(token).len(), 1, "{token}");
    }
    let replayed = stage.client.post("/v1/sessions/s/replay", &json!({})).await;
    let replayed = replayed.expect("an answer").expect(200);
    assert_eq!(replayed["verdict"], "deterministic", "{replayed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_told_and_a_turn_that_did_nothing_leaves_no_word() {
    let stage = Stage::start(|setup| setup).await;
    let idle = json!([{"act": "list"}, {"act": "llm", "text": "wait [hold=m]"}]);
    stage.send("m", idle).await;
    stage.model.wait_for("wait", CallState::Running, 1).await;
    cancel(&stage).await;
    let next = stage.perform("next", json!([])).await;
    assert_eq!(told(&next), None);

    let script = json!([
        {"act": "call", "tool": "record", "token": "a"},
        {"act": "llm", "text": "wait too [hold=n]"},
    ]);
    let message = stage.send("n", script).await;
    stage
        .model
        .wait_for("wait too", CallState::Running, 1)
        .await;
    cancel(&stage).await;
    stage.model.release("n");
    let retried = stage
        .client
        .post("/v1/sessions/s/retry", &json!({"force": true}))
        .await;
    retried.expect("an answer").expect(202);
    let events = stage
        .events_when("the retry's end", |events| {
            events.iter().filter(|e| e.ends(&message)).count() == 2
        })
        .await;
    let turn = events.last().expect("it ended").turn;
    let again: Vec<Event> = events.into_iter().filter(|e| e.turn == turn).collect();
    assert_eq!(acts(&again), ["call a ok", "llm  ok"]);
    let text = told(&again).expect("it is told of its first try");
    assert!(text.contains("recorded a"), "{text}");
}

/// The scripted model of an agent that orders what, according to the conversation, is not ordered
/// yet.
fn order(messages: &[Value]) -> Answer {
    let all: Vec<String> = messages.iter().map(message_text).collect();
    let known = |token: &str| all.iter().any(|text| text.contains(token));
    let order = |calls: Vec<AskedCall>, text: &str| Answer {
        text: text.to_owned(),
        calls,
    };
    if known("recorded screws") {
        return order(
            Vec::new(),
            "it is ordered already, as far as I can see from here",
        );
    }
    let call = AskedCall {
        id: "c1".to_owned(),
        name: "t__record".to_owned(),
        arguments: json!({"token": "screws"}),
    };
    order(vec![call], "I order it")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_stopped_after_ordering_does_not_order_again() {
    let model = FakeModel::scripted(order).await;
    let stage = Stage::with_assistant(&model, &[]).await;
    let client = &stage.client;
    client
        .say("a", "Order the screws [pace=300]", None)
        .await
        .expect("accepted");
    stage.executed("screws").await;
    // The second request, with the result, is answered word by word.
    until("the result to be shown to the model", async || {
        (model.calls().len() == 2).then_some(())
    })
    .await;
    let cancelled = client.post("/v1/sessions/a/cancel", &json!({})).await;
    cancelled.expect("an answer").expect(200);
    let question = "Is it ordered? If not, order it";
    let answer = client.chat("a", question).await;
    assert!(answer.said()[0].contains("ordered already"), "{answer:?}");
    assert_eq!(stage.executions("screws").len(), 1);
    let last = model.calls().pop().expect("it was asked");
    let messages = last.messages.join("\n");
    for part in ["Turn 1", "Order the screws", "cancelled", question] {
        assert!(messages.contains(part), "{part} in {messages}");
    }
    // The report remains in the conversation.
    client.chat("a", "And now?").await;
    assert_eq!(stage.executions("screws").len(), 1);
}
