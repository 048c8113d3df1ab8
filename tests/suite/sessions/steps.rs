//! Turns with steps, interrupted at every moment: completed steps are not repeated, and an unknown
//! outcome is reported as unknown.

use std::fs;

use abide_tests::{CallState, How, Signal, guest, signal, until};
use serde_json::{Value, json};

use crate::stage::{Stage, acts, notices};

/// A step that takes far longer than any test.
const LONG_MS: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_told_and_run_once() {
    let stage = Stage::start(|setup| setup).await;
    let events = stage
        .perform(
            "m",
            json!([
                {"act": "call", "tool": "record", "token": "a"},
                {"act": "call_all", "calls": [
                    {"tool": "record", "token": "b"}, {"tool": "note", "token": "c"},
                ]},
                {"act": "llm", "text": "hello"},
                {"act": "say", "text": "there"},
            ]),
        )
        .await;
    assert_eq!(
        acts(&events),
        [
            "call a ok",
            "call_all b ok",
            "call_all c ok",
            "llm  ok",
            "say  ok"
        ]
    );
    let tools = events.iter().filter(|event| event.kind == "tool");
    let mut tools: Vec<_> = tools
        .map(|e| {
            [e.name.clone(), e.status.clone()]
                .map(Option::unwrap_or_default)
                .join(" ")
        })
        .collect();
    // The two concurrent calls end in either order.
    tools[4..6].sort();
    assert_eq!(
        tools,
        [
            "t__record started",
            "t__record done",
            "t__record started",
            "t__note started",
            "t__note done",
            "t__record done",
        ]
    );
    for (token, place) in [("a", "s/1/1/0/"), ("b", "s/1/2/0/"), ("c", "s/1/2/1/")] {
        let keys = stage.executions(token);
        assert!(keys.len() == 1 && keys[0].starts_with(place), "{keys:?}");
    }

    // The turn can be inspected, and replayed without a trace.
    let turn = stage
        .client
        .get("/v1/sessions/s/turn")
        .await
        .expect("an answer")
        .expect(200);
    assert_eq!((&turn["turn"], &turn["open"]), (&json!(1), &json!(false)));
    let kinds: Vec<_> = turn["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| step["kind"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(kinds, ["tools.call", "tools.call-all", "llm"]);
    assert_eq!(turn["steps"][1]["parts"][1]["repeatable"], true);
    assert_eq!(turn["steps"][2]["parts"][0]["result"], "re: hello");
    let replayed = stage.client.post("/v1/sessions/s/replay", &json!({})).await;
    let replayed = replayed.expect("an answer").expect(200);
    assert_eq!(replayed["verdict"], "deterministic", "{replayed}");
    assert_eq!(stage.executions("a").len(), 1);
    assert_eq!(stage.model.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_in_flight_at_a_death_is_done_once_or_said_to_be_unknown() {
    // When the tool sleeps, whether its effect has happened when the worker dies, and the result
    // that the guest receives.
    for (token, sleep, done_at_death, result, executions) in [
        ("before", "sleep_ms", false, "unknown", 0),
        ("after", "sleep_after_ms", true, "unknown", 1),
    ] {
        let stage = Stage::start(|setup| setup).await;
        let script = json!([
            {"act": "call", "tool": "record", "token": token, sleep: LONG_MS},
            {"act": "call", "tool": "record", "token": "next"},
        ]);
        let message = stage.send("m", script).await;
        stage.tools("started", 1).await;
        if done_at_death {
            stage.executed(token).await;
        }
        stage.daemon.kill_worker().await;
        let events = stage.end_of(&message).await;
        assert_eq!(
            acts(&events),
            [format!("call {token} {result}"), "call next ok".into()]
        );
        assert_eq!(stage.executions(token).len(), executions, "{token}");
        assert_eq!(stage.executions("next").len(), 1);
        // The next turn receives the notice, because this one never reads its inbox.
        let next = stage.perform("next", json!([])).await;
        let [notice] = &notices(&next)[..] else {
            panic!("one recovery message was expected: {next:?}");
        };
        assert_eq!(notice["cause"], "crash");
        assert_eq!(notice["interruption"], "resumed");
        assert_eq!(notice["unknown_steps"], json!(["tools.call t__record"]));
        let after = stage.perform("after that", json!([])).await;
        assert_eq!(notices(&after), [] as [Value; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_repeated_is_repeated_under_its_key() {
    let stage = Stage::start(|setup| setup).await;
    let script = json!([
        {"act": "call", "tool": "record", "token": "first"},
        {"act": "call", "tool": "note", "token": "again", "sleep_after_ms": 1500},
    ]);
    let message = stage.send("m", script).await;
    stage.executed("again").await;
    // The first result is on disk, or the death would make it unknown.
    stage.tools("done", 1).await;
    stage.daemon.kill_worker().await;
    let events = stage.end_of(&message).await;
    assert_eq!(acts(&events), ["call first ok", "call again ok"]);
    assert_eq!(stage.executions("first").len(), 1);
    let keys = stage.executions("again");
    assert_eq!(
        keys,
        [keys[0].as_str(), keys[0].as_str()],
        "twice, under one key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_before_a_death_is_not_done_again() {
    let stage = Stage::start(|setup| setup).await;
    let script = json!([
        {"act": "random"},
        {"act": "clock"},
        {"act": "call_all", "calls": [
            {"tool": "record", "token": "a"}, {"tool": "record", "token": "b"},
        ]},
        {"act": "llm", "text": "wait [hold=m]"},
        {"act": "receive"},
        {"act": "call", "tool": "record", "token": "c"},
    ]);
    let message = stage.send("m", script).await;
    for deaths in 1..=3 {
        stage.model.wait_for("wait", CallState::Running, 1).await;
        // A guest goes on before the results of its tools are on disk; until then a death makes them
        // unknown.
        stage.tools("done", 2).await;
        let calls = stage.model.calls().len();
        stage.daemon.kill_worker().await;
        until("the model to be asked again", async || {
            (stage.model.calls().len() > calls).then_some(())
        })
        .await;
        // The record of the attempt's beginning may still be on its way to the disk while the model
        // is called.
        until("the next attempt to be told", async || {
            let open = stage.client.get("/v1/sessions/s/turn").await;
            let open = open.expect("an answer").expect(200);
            assert_eq!(open["open"], true);
            (open["attempt"] == deaths + 1).then_some(())
        })
        .await;
    }
    let replayed = stage.client.post("/v1/sessions/s/replay", &json!({})).await;
    let replayed = replayed.expect("an answer").expect(200);
    assert_eq!(replayed["verdict"], "deterministic", "{replayed}");
    let text = replayed["text"].as_str().unwrap_or_default();
    assert!(text.contains("under way is step 2"), "{text}");
    let steering = stage
        .send("steering", json!([{"act": "say", "text": "steered"}]))
        .await;
    stage.model.release("m");
    let events = stage.end_of(&message).await;
    assert_eq!(
        acts(&events),
        [
            "random  ok",
            "clock  ok",
            "call_all a ok",
            "call_all b ok",
            "llm  ok",
            "receive  ok",
            "say  ok",
            "call c ok",
        ]
    );
    let [notice] = &notices(&events)[..] else {
        panic!("one recovery message for three deaths: {events:?}");
    };
    assert_eq!(
        (
            &notice["cause"],
            &notice["interruption"],
            &notice["unknown_steps"]
        ),
        (&json!("crash"), &json!("resumed"), &json!([]))
    );
    let end = events
        .iter()
        .find(|event| event.ends(&message))
        .expect("it ended");
    assert_eq!(
        end.received,
        [steering],
        "the message that steered it is consumed"
    );
    for token in ["a", "b", "c"] {
        assert_eq!(stage.executions(token).len(), 1, "{token}");
    }
    assert_eq!(
        notices(&stage.perform("next", json!([])).await),
        [] as [Value; 0]
    );
    assert_eq!(stage.client.session("s").await["turns"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_the_step_in_flight_and_freezes_the_turn_before_the_next() {
    let mut stage = Stage::start(|setup| setup.grace("30s")).await;
    let script = json!([
        {"act": "call", "tool": "record", "token": "in flight", "sleep_ms": 4000},
        {"act": "call", "tool": "record", "token": "next"},
    ]);
    let message = stage.send("m", script).await;
    stage.tools("started", 1).await;
    let generation = stage.daemon.restart_by_edit().await;
    let events = stage.end_of(&message).await;
    assert_eq!(acts(&events), ["call in flight ok", "call next ok"]);
    assert_eq!(stage.executions("in flight").len(), 1);
    assert_eq!(stage.executions("next").len(), 1);
    let record = stage
        .daemon
        .restart_record(generation)
        .await
        .expect("it is there");
    let drain = &record["drain"];
    assert_eq!(
        (&drain["frozen"], &drain["cut"], &drain["waited_for"]),
        (&json!(1), &json!(0), &json!(0)),
        "{record}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_longer_than_the_grace_period_is_cut_and_unknown() {
    let mut stage = Stage::start(|setup| setup.grace("200ms")).await;
    let script = json!([
        {"act": "call", "tool": "record", "token": "long", "sleep_ms": LONG_MS},
        {"act": "llm", "text": "go on"},
    ]);
    let message = stage.send("m", script).await;
    stage.tools("started", 1).await;
    let generation = stage.daemon.restart_by_edit().await;
    let events = stage.end_of(&message).await;
    assert_eq!(acts(&events), ["call long unknown", "llm  ok"]);
    assert_eq!(stage.executions("long").len(), 0);
    let record = stage
        .daemon
        .restart_record(generation)
        .await
        .expect("it is there");
    assert_eq!(record["drain"]["cut"], 1, "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tool_server_outlives_its_worker() {
    let stage = Stage::start(|setup| setup).await;
    let script = json!([{"act": "call", "tool": "record", "token": "x", "sleep_ms": LONG_MS}]);
    stage.send("m", script).await;
    stage.tools("started", 1).await;
    let worker = stage.daemon.worker_pid().await;
    let servers = abide_tests::descendants(worker);
    assert_eq!(servers.len(), 1, "the tool server");
    stage.daemon.kill_worker().await;
    until("the end of the tool server", async || {
        (!servers
            .iter()
            .any(|pid| signal(*pid, Signal::from_named_raw(0).unwrap_or(Signal::WINCH))))
        .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_replaced_in_the_middle_of_a_turn_does_not_disturb_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scripted.wasm");
    fs::copy(guest("scripted"), &path).expect("the folder is ours");
    let mut stage = Stage::start(|mut setup| {
        setup.plugins[1].path = path.clone();
        setup
    })
    .await;
    let component = async |stage: &Stage| {
        let turn = stage
            .client
            .get("/v1/sessions/s/turn")
            .await
            .expect("an answer")
            .expect(200);
        turn["component"].as_str().expect("a digest").to_owned()
    };
    let script = json!([
        {"act": "call", "tool": "record", "token": "a"},
        {"act": "llm", "text": "wait [hold=m]"},
    ]);
    let message = stage.send("m", script).await;
    stage.model.wait_for("wait", CallState::Running, 1).await;
    let began_on = component(&stage).await;
    // Another component by its digest, but the same to a session: it has one more custom section.
    let mut bytes = fs::read(&path).expect("it is there");
    bytes.extend([0, 3, 1, b'x', b'y']);
    let old = stage.daemon.generation().await;
    fs::write(path.with_extension("new"), bytes).expect("the folder is ours");
    fs::rename(path.with_extension("new"), &path).expect("the folder is ours");
    stage
        .daemon
        .edit(How::Rename, |setup| setup.grace = "100ms".into());
    stage.daemon.after_generation(old).await;
    stage.model.wait_for("wait", CallState::Running, 1).await;
    assert_eq!(
        component(&stage).await,
        began_on,
        "the open turn stays on it"
    );
    stage.model.release("m");
    let events = stage.end_of(&message).await;
    assert_eq!(acts(&events), ["call a ok", "llm  ok"]);
    assert_eq!(stage.executions("a").len(), 1);
    stage.perform("next", json!([])).await;
    assert_ne!(
        component(&stage).await,
        began_on,
        "the next turn runs on the new one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn results_over_the_journal_limit_fail_the_turn_and_a_retry_needs_force() {
    let stage = Stage::start(|mut setup| {
        let scripted = &mut setup.plugins[1];
        scripted.limits.push("journal = \"64B\"".into());
        setup
    })
    .await;
    let long = "x".repeat(100);
    let script = json!([
        {"act": "call", "tool": "record", "token": "a"},
        {"act": "call", "tool": "look", "token": long},
        {"act": "say", "text": "never"},
    ]);
    let events = stage.perform("m", script).await;
    let failed = events
        .iter()
        .find(|event| event.is_turn("failed"))
        .expect("it failed");
    let reason = failed.reason.as_deref().unwrap_or_default();
    assert!(
        reason.contains("plugins.scripted.limits.journal"),
        "{reason}"
    );
    let retry = async |body: Value| {
        stage
            .client
            .post("/v1/sessions/s/retry", &body)
            .await
            .expect("an answer")
    };
    let refused = retry(json!({})).await.problem(409);
    assert!(
        refused.contains("1 call(s)") && refused.contains("force"),
        "{refused}"
    );
    retry(json!({"force": true})).await.expect(202);
    until("the second failure", async || {
        (stage.executions("a").len() == 2).then_some(())
    })
    .await;
}
