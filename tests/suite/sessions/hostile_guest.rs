//! A guest that misbehaves harms its own session, and no other.

use abide_tests::{CallState, Client, Daemon, Event, FakeModel, Plugin, Setup};
use serde_json::json;

/// Starts the daemon with a guest that does whatever it is asked for, and a well-behaved one.
async fn daemon() -> (Daemon, Client) {
    let hostile = Plugin::new("hostile")
        .limit("turn_timeout = \"3s\"")
        .limit("events = 1000")
        .limit("snapshot = \"1MiB\"")
        .limit("memory = \"64MiB\"");
    let daemon = Daemon::start(Setup::default().plugin(hostile)).await;
    let client = daemon.client();
    client.open("victim", "hostile").await;
    client.open("neighbour", "echo").await;
    (daemon, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misdeed_ends_its_turn_and_nothing_else() {
    let (daemon, client) = daemon().await;
    let worker = daemon.worker_pid().await;
    let mut well = 0;
    let mut dead = 0;
    for (deed, code, named) in [
        ("trap", "trap", ""),
        ("panic because I say so", "trap", ""),
        ("exit", "trap", ""),
        ("fail with this reason", "guest", "with this reason"),
        ("loop", "timeout", "turn_timeout"),
        ("alloc", "", "memory"),
        ("recurse", "", "stack"),
        ("events 5000", "", ""),
        ("snapshot 5000000", "limit", "snapshot"),
    ] {
        let trouble = {
            let client = client.clone();
            let deed = deed.to_owned();
            tokio::spawn(async move { client.ask("victim", &deed, None).await })
        };
        // Meanwhile the other session answers.
        well += 1;
        let answer = client.chat("neighbour", deed).await;
        assert_eq!(answer.said(), [format!("#{well} user: {deed}")]);

        let posted = trouble.await.expect("the client does not panic");
        let posted = posted.unwrap_or_else(|refused| panic!("{deed}: {refused:?}"));
        assert_eq!(posted.outcome.as_deref(), Some("failed"), "{deed}");
        assert!(posted.output.is_empty(), "{deed}: nothing of it is kept");
        let events = client.events_once_ended("victim", &posted.message).await;
        let reason = events
            .iter()
            .find(|event| event.ends(&posted.message))
            .and_then(|event| event.reason.clone())
            .unwrap_or_default();
        assert!(
            !reason.is_empty() && reason.contains(named),
            "{deed}: {named:?} is not named: {reason:?}"
        );
        dead += 1;
        let letters = client.dead_letters("victim").await;
        assert_eq!(letters.len(), dead, "{deed}: {letters:?}");
        let letter = letters
            .iter()
            .find(|letter| letter["message"]["text"] == deed)
            .unwrap_or_else(|| panic!("{deed}: no dead letter of it in {letters:?}"));
        assert!(
            letter["reason"].to_string().contains(code),
            "{deed}: {letter}"
        );
        // The state is that before the turn, and the session continues.
        let answer = client.chat("victim", &format!("after {deed}")).await;
        assert_eq!(answer.said(), [format!("ok after {deed}")]);
        assert_eq!(client.session("victim").await["state"], "idle");
    }
    assert_eq!(daemon.worker_pid().await, worker, "the worker lives");
    assert_eq!(client.tally.troubles(), 0, "{}", client.tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_below_the_limits_are_delivered_and_logs_are_dropped() {
    let (_daemon, client) = daemon().await;
    let posted = client.chat("victim", "events 900").await;
    let flood: Vec<_> = posted
        .output
        .iter()
        .filter(|event| event.kind == "custom")
        .map(|event| event.data.clone())
        .collect();
    let expected: Vec<_> = (0..900).map(|n| Some(json!(n))).collect();
    assert_eq!(flood, expected);
    // Lines over the limit are dropped, without harm to the turn.
    client.chat("victim", "logs 100000").await;
    let answer = client.chat("victim", "done").await;
    assert_eq!(answer.said(), ["ok done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_emits_no_more_than_its_output_may_weigh() {
    let hostile = Plugin::new("hostile").limit("output = \"100B\"");
    let daemon = Daemon::start(Setup::default().plugin(hostile)).await;
    let client = daemon.client();
    client.open("victim", "hostile").await;
    // An event is its name and its data: five and up to two bytes.
    client.chat("victim", "events 15").await;
    let posted = client.ask("victim", "events 20", None).await;
    let posted = posted.expect("it is acknowledged");
    assert_eq!(posted.outcome.as_deref(), Some("failed"));
    let letters = client.dead_letters("victim").await;
    let reason = letters[0]["reason"].to_string();
    assert!(reason.contains("plugins.hostile.limits.output"), "{reason}");
    let answer = client.chat("victim", "after").await;
    assert_eq!(answer.said(), ["ok after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_compute_without_end_are_ended_and_hold_up_nobody() {
    const GUESTS: usize = 8;
    let hostile = Plugin::new("hostile").limit("compute = \"300ms\"");
    let daemon = Daemon::start(Setup::default().plugin(hostile)).await;
    let client = daemon.client();
    client.open("neighbour", "echo").await;
    let mut loops = tokio::task::JoinSet::new();
    for n in 0..GUESTS {
        let client = client.clone();
        loops.spawn(async move {
            let session = format!("busy{n}");
            client.open(&session, "hostile").await;
            let posted = client.ask(&session, "loop", None).await;
            (session, posted.expect("it is acknowledged"))
        });
    }
    // They take turns with the others all the while.
    let mut ended = 0;
    while ended < GUESTS {
        let answer = client.chat("neighbour", "hello").await;
        assert_eq!(answer.outcome.as_deref(), Some("completed"));
        while let Some(done) = loops.try_join_next() {
            let (session, posted) = done.expect("the client does not panic");
            assert_eq!(posted.outcome.as_deref(), Some("failed"));
            let letters = client.dead_letters(&session).await;
            let reason = letters[0]["reason"].to_string();
            assert!(
                reason.contains("limit") && reason.contains("plugins.hostile.limits.compute"),
                "{reason}"
            );
            ended += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_granted_by_default() {
    let (_daemon, client) = daemon().await;
    for deed in ["llm hello", "tools", "call ls {}", "http http://127.0.0.1/"] {
        let answer = client.chat("victim", deed).await;
        let text = answer.said().join("");
        // An empty list of tools reveals nothing.
        assert!(
            text.starts_with("Denied") || (deed == "tools" && text.is_empty()),
            "{deed}: {text:?}"
        );
    }
    let answer = client.chat("victim", "env").await;
    let text = answer.said().join("");
    assert!(text.contains("env=0") && !text.contains("opened"), "{text}");
    // An hour of sleep takes no time.
    let answer = client.chat("victim", "time").await;
    assert!(answer.said()[0].contains("before="), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_open_is_not_made() {
    let (_daemon, client) = daemon().await;
    for (args, named) in [
        (json!({"fail": "not today"}), "not today"),
        (json!({"trap_in": "open"}), ""),
        (json!({"trap_in": "snapshot"}), ""),
        (json!({"unknown": 1}), "unknown"),
    ] {
        let body = json!({"plugin": "hostile", "args": args});
        let reply = client.put("stillborn", &body).await.expect("an answer");
        let problem = reply.problem(422);
        assert!(problem.contains(named), "{problem}");
        let reply = client.get("/v1/sessions/stillborn").await;
        reply.expect("an answer").problem(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_restored_is_faulted_alone() {
    let (_daemon, client) = daemon().await;
    for (id, args) in [
        ("refuses", json!({"refuse": "I do not know this"})),
        ("traps", json!({"trap_in": "restore"})),
        ("newer", json!({"schema": 9})),
    ] {
        let body = json!({"plugin": "hostile", "args": args});
        let reply = client.put(id, &body).await.expect("an answer");
        if reply.status != 201 {
            // A host may check the round trip before it creates the session.
            reply.problem(422);
            continue;
        }
        let posted = client.say(id, "hello", None).await;
        posted.expect("faulted sessions accept and hold");
        let view = abide_tests::until(&format!("{id} to be faulted"), async || {
            let view = client.session(id).await;
            (view["state"] == "faulted").then_some(view)
        })
        .await;
        for key in ["code", "text", "action"] {
            let text = view["reason"][key].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{view}");
        }
        assert_eq!(view["queued"], 1, "the message is held, not lost: {view}");
        let answer = client.chat("neighbour", "hi").await;
        assert_eq!(answer.outcome.as_deref(), Some("completed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_turn_can_be_cancelled_and_its_letter_sent_again() {
    let model = FakeModel::start().await;
    let daemon = Daemon::start(Setup::default().assistant(&model)).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    let posted = client.say("s", "endless [hold=w]", None).await;
    let posted = posted.expect("accepted");
    model.wait_for("endless", CallState::Running, 1).await;
    let queued = client.say("s", "behind it", None).await;
    let queued = queued.expect("accepted");
    let cancel = client.post("/v1/sessions/s/cancel", &json!({})).await;
    let cancel = cancel.expect("an answer");
    assert!((200..300).contains(&cancel.status), "{cancel:?}");
    model.wait_for("endless", CallState::Cancelled, 1).await;
    let events = client.events_once_ended("s", &queued.message).await;
    let ended: Vec<_> = events
        .iter()
        .filter(|event| event.ends(&posted.message) || event.ends(&queued.message))
        .map(|event: &Event| event.status.clone().unwrap_or_default())
        .collect();
    assert_eq!(ended, ["failed", "completed"]);
    assert_eq!(client.dead_letters("s").await.len(), 1);

    // A retry puts the message into the queue again, under its old id.
    model.release("w");
    let body = json!({"message": posted.message});
    let retry = client.post("/v1/sessions/s/retry", &body).await;
    let retry = retry.expect("an answer");
    assert!((200..300).contains(&retry.status), "{retry:?}");
    abide_tests::until("the second try to end well", async || {
        let events = client.events("s", 0).await;
        events
            .iter()
            .any(|event| event.ends(&posted.message) && event.is_turn("completed"))
            .then_some(())
    })
    .await;
    assert_eq!(client.dead_letters("s").await.len(), 0);
}
