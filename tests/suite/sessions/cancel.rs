//! Cancelling: what each scope ends, when nothing runs, during a drain, and whatever dies next.

use std::time::Duration;

use abide_tests::{CallState, How, Reply, Setup, until};
use serde_json::{Value, json};

use crate::stage::Stage;

const LONG_MS: u64 = 3_600_000;

/// Cancels, with retries while one worker hands over to the next.
async fn cancel(stage: &Stage, query: &str) -> Reply {
    let path = format!("/v1/sessions/s/cancel{query}");
    until("an answer that is not of a restart", async || {
        let reply = stage.client.post(&path, &json!({})).await.ok()?;
        (reply.status != 503).then_some(reply)
    })
    .await
}

/// Cancels, and returns what was stopped: the turn, the messages.
async fn stopped(stage: &Stage, query: &str) -> (Value, Value) {
    let body = cancel(stage, query).await.expect(200);
    assert_eq!(body["id"], "s", "beside the session: {body}");
    (body["turn"].clone(), body["messages"].clone())
}

/// Starts a turn that waits for the model after a tool's effect. Returns its message.
async fn busy(stage: &Stage, token: &str) -> String {
    let message = stage.send(token, working(token)).await;
    stage.model.wait_for(token, CallState::Running, 1).await;
    message
}

fn working(token: &str) -> Value {
    json!([
        {"act": "call", "tool": "record", "token": token},
        {"act": "llm", "text": format!("{token} [hold=never]")},
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_stops_what_it_says_and_tells_it() {
    let stage = Stage::start(|setup| setup).await;
    let first = busy(&stage, "one").await;
    let second = stage.send("two", working("two")).await;
    let third = stage.send("three", json!([])).await;
    let fourth = stage.send("four", json!([])).await;

    let one = stopped(&stage, &format!("?scope=message&message={third}")).await;
    assert_eq!(one, (Value::Null, json!([third])));
    assert_eq!(stopped(&stage, "").await, (json!(1), json!([first])));
    stage.model.wait_for("two", CallState::Running, 1).await;
    let fifth = stage.send("five", json!([])).await;
    let running = stopped(&stage, &format!("?message={second}")).await;
    assert_eq!(running, (json!(2), json!([second])));
    // The messages that were not cancelled are answered.
    for message in [&fourth, &fifth] {
        let events = stage.end_of(message).await;
        assert!(events.iter().any(|e| e.is_turn("completed")), "{events:?}");
    }
    let letters = stage.client.dead_letters("s").await;
    let reasons: Vec<_> = letters
        .iter()
        .map(|letter| {
            (
                letter["message"]["id"].clone(),
                letter["reason"]["code"].clone(),
            )
        })
        .collect();
    let expected = [&first, &second, &third].map(|id| (json!(id), json!("cancelled")));
    assert_eq!(reasons, expected);
    // A letter that never had a turn is retried like any other.
    let body = json!({"message": third});
    let retried = stage.client.post("/v1/sessions/s/retry", &body).await;
    retried.expect("an answer").expect(202);
    stage.end_of(&third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_goes_as_a_whole_and_those_who_wait_hear_of_it() {
    let stage = Stage::start(|setup| setup).await;
    let first = busy(&stage, "one").await;
    let client = stage.client.clone();
    let script = json!({"id": "two", "acts": []}).to_string();
    let again = script.clone();
    let waiting = tokio::spawn(async move { client.ask("s", &script, Some("k")).await });
    until("the second message to wait", async || {
        (stage.client.session("s").await["queued"] == 1).then_some(())
    })
    .await;
    let (turn, messages) = stopped(&stage, "?scope=queue").await;
    assert_eq!((turn, messages[0].clone()), (json!(1), json!(first)));
    let posted = waiting.await.expect("no panic").expect("it was accepted");
    assert_eq!(messages[1], posted.message);
    assert_eq!(posted.outcome.as_deref(), Some("failed"));
    // A later request under the key receives the same outcome, and after a retry the answer.
    let late = stage.client.ask("s", &again, Some("k")).await;
    let late = late.expect("it is known");
    assert!(late.duplicate && late.message == posted.message);
    assert_eq!(late.outcome.as_deref(), Some("failed"));
    let session = stage.client.session("s").await;
    assert_eq!(
        (&session["state"], &session["queued"]),
        (&json!("idle"), &json!(0))
    );
    assert_eq!(
        stopped(&stage, "?scope=queue").await,
        (Value::Null, json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_stop_and_nonsense_are_answered_in_words() {
    let stage = Stage::start(|setup| setup).await;
    let message = stage.send("m", json!([])).await;
    stage.end_of(&message).await;
    for query in ["", "?scope=turn"] {
        let refused = cancel(&stage, query).await.problem(409);
        assert!(refused.contains("scope=queue"), "{refused}");
    }
    for query in [
        "?scope=queue".to_owned(),
        format!("?scope=message&message={message}"),
        "?message=m999".to_owned(),
        "?message=%20".to_owned(),
    ] {
        assert_eq!(
            stopped(&stage, &query).await,
            (Value::Null, json!([])),
            "{query}"
        );
    }
    for (query, word) in [
        ("?scope=message", "message=ID"),
        ("?scope=queue&message=m1", "scope=message"),
        ("?scope=all", "scope"),
        ("?scop=turn", "scop"),
    ] {
        let refused = cancel(&stage, query).await.problem(400);
        assert!(refused.contains(word), "{query}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_twice_and_at_once_is_cancelled_once() {
    let stage = Stage::start(|setup| setup).await;
    for round in 0..10 {
        // Sometimes before the end of the turn, sometimes after it, sometimes at the same time.
        let wait = 8 * round;
        let script = json!([{"act": "call", "tool": "record", "token": format!("t{round}"),
            "sleep_after_ms": 40}]);
        let message = stage.send("m", script).await;
        stage.tools("started", round + 1).await;
        tokio::time::sleep(Duration::from_millis(wait as u64)).await;
        let (one, two) = tokio::join!(cancel(&stage, ""), cancel(&stage, ""));
        let done = [&one, &two]
            .iter()
            .filter(|reply| reply.status == 200)
            .count();
        let refused = [&one, &two]
            .iter()
            .filter(|reply| reply.status == 409)
            .count();
        assert!(done <= 1 && done + refused == 2, "{one:?} {two:?}");
        let events = stage.end_of(&message).await;
        let ends = events.iter().filter(|event| event.ends(&message)).count();
        assert_eq!(ends, 1, "{events:?}");
        assert_eq!(
            events.iter().any(|e| e.is_turn("failed")),
            done == 1,
            "{events:?}"
        );
        assert!(stage.executions(&format!("t{round}")).len() <= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_during_a_drain_does_not_come_back() {
    // Frozen before its next step; in a step; and, once the grace period is over, aborted.
    for (grace, in_step) in [("30s", false), ("30s", true), ("50ms", true)] {
        let mut stage = Stage::start(|setup: Setup| setup.grace(grace)).await;
        // A step of another session keeps the drain going.
        stage.client.open("other", "scripted").await;
        let other = json!({"id": "o", "acts": [{"act": "llm", "text": "other [hold=o]"}]});
        stage
            .client
            .say("other", &other.to_string(), None)
            .await
            .expect("accepted");
        stage.model.wait_for("other", CallState::Running, 1).await;
        let call = json!({"act": "call", "tool": "record", "token": "a",
            "sleep_after_ms": if in_step { LONG_MS } else { 1500 }});
        let never = match grace {
            // The turn is resumed before it can be cancelled.
            "50ms" => json!({"act": "llm", "text": "never [hold=never]"}),
            _ => json!({"act": "call", "tool": "record", "token": "never"}),
        };
        let script = json!([call, never]);
        let message = stage.send("m", script).await;
        stage.executed("a").await;
        let old = stage.daemon.generation().await;
        stage.daemon.edit(How::Rename, |setup| setup.spare += 1);
        if grace == "50ms" {
            stage.daemon.after_generation(old).await;
        } else {
            until("the drain", async || {
                let daemon = stage.client.get("/v1/daemon").await.ok()?.body;
                (daemon["state"] == "draining").then_some(())
            })
            .await;
        }
        if !in_step {
            stage.tools("done", 1).await;
        }
        let (turn, messages) = stopped(&stage, "?scope=queue").await;
        assert_eq!(
            (turn, messages),
            (json!(1), json!([message])),
            "{grace} {in_step}"
        );
        stage.model.release("o");
        stage.daemon.after_generation(old).await;
        stage.client.until_idle("s").await;
        let next = stage.perform("next", json!([])).await;
        let text = next.iter().filter(|event| event.kind == "notice");
        let text: String = text.map(|event| event.said()).collect();
        assert!(
            text.contains("\"token\":\"a\""),
            "{grace} {in_step}: {text}"
        );
        assert_eq!(text.contains("Nobody knows"), in_step, "{text}");
        let made = ["a", "never"].map(|token| stage.executions(token).len());
        assert_eq!(made, [1, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_was_acknowledged_outlives_whatever_dies_next() {
    let stage = Stage::start(|setup| setup).await;
    for round in 1..=5 {
        let token = format!("t{round}");
        busy(&stage, &token).await;
        let behind = stage.send("behind", json!([])).await;
        let (turn, messages) = stopped(&stage, "?scope=queue").await;
        stage.daemon.kill_worker().await;
        assert!(turn.is_u64());
        assert_eq!(messages[1], json!(behind));
        stage.client.until_idle("s").await;
        let events = stage.client.events("s", 0).await;
        let ends = events.iter().filter(|event| event.ends(&behind)).count();
        assert_eq!(ends, 0, "it had no turn");
        assert_eq!(stage.client.dead_letters("s").await.len(), 2 * round);
        assert_eq!(stage.executions(&token).len(), 1);
    }
    let next = stage.perform("next", json!([])).await;
    let text = next.iter().filter(|event| event.kind == "notice");
    let text: String = text.map(|event| event.said()).collect();
    for round in 1..=5 {
        assert!(text.contains(&format!("recorded t{round}")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_that_fired_go_with_the_queue_and_others_stay() {
    let stage = Stage::start(|setup| setup).await;
    let script = json!({"id": "tick", "acts": []});
    let set = json!([
        {"act": "timer", "name": "soon", "after_ms": 1500, "script": script},
        {"act": "timer", "name": "late", "after_ms": LONG_MS, "script": script},
    ]);
    // A turn is waiting after the one that sets the timers.
    stage.send("set", set).await;
    busy(&stage, "one").await;
    until("the timer to wait", async || {
        let session = stage.client.session("s").await;
        (session["queued"] == 1 && session["timers"] == 1).then_some(())
    })
    .await;
    let (turn, messages) = stopped(&stage, "?scope=queue").await;
    assert_eq!(
        (turn, messages.as_array().map(Vec::len)),
        (json!(2), Some(2))
    );
    let session = stage.client.session("s").await;
    assert_eq!(
        (&session["state"], &session["timers"]),
        (&json!("idle"), &json!(1))
    );
}
