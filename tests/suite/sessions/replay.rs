//! Uses of a turn's journal besides resuming: a damaged snapshot is rebuilt, and a nondeterministic
//! guest is detected. Also timers that are late.

use std::path::Path;
use std::time::Duration;

use abide_tests::{CallState, How};
use rocksdb::{DB, IteratorMode, Options};
use serde_json::json;

use crate::stage::{Stage, acts};

/// Flips a bit of each of the last `count` snapshots of a session, whose daemon does not run.
fn damage(data: &Path, id: &str, count: usize) {
    let families = ["default", "log", "snapshots", "sessions", "index"];
    let db = DB::open_cf(&Options::default(), data.join("db"), families);
    let db = db.expect("nobody else has it open");
    let snapshots = db.cf_handle("snapshots").expect("it was named");
    let prefix = [id.as_bytes(), &[0]].concat();
    let all = db.iterator_cf(snapshots, IteratorMode::Start);
    let mut own: Vec<_> = all
        .map(|entry| entry.expect("it can be read"))
        .filter(|(key, _)| key.starts_with(&prefix))
        .collect();
    assert!(own.len() >= count, "{} snapshots", own.len());
    for (key, value) in own.drain(own.len() - count..) {
        let mut value = value.into_vec();
        *value.last_mut().expect("it has a header at least") ^= 1;
        db.put_cf(snapshots, key, value).expect("the disk has room");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_made_again() {
    let mut stage = Stage::start(|setup| setup).await;
    stage.perform("one", json!([])).await;
    let script = json!([
        {"act": "random"},
        {"act": "call", "tool": "record", "token": "a"},
        {"act": "llm", "text": "hello"},
    ]);
    stage.perform("two", script).await;
    assert!(stage.daemon.stop().await.success());
    damage(&stage.daemon.folder().join("data"), "s", 1);
    stage.daemon.start_again().await;
    let events = stage.perform("three", json!([])).await;
    let answer = events.iter().find(|event| event.is_from("assistant"));
    assert_eq!(
        answer.expect("it answered").said(),
        "done three #3",
        "no turn is forgotten"
    );
    assert_eq!(stage.executions("a").len(), 1, "nothing was done for it");
    assert_eq!(stage.model.calls().len(), 1);
    stage.daemon.logged("it was made again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_made_again_faults_its_session_alone() {
    let mut stage = Stage::start(|setup| setup).await;
    stage.client.open("other", "echo").await;
    stage.client.chat("other", "one").await;
    stage.perform("one", json!([])).await;
    stage.perform("two", json!([])).await;
    assert!(stage.daemon.stop().await.success());
    damage(&stage.daemon.folder().join("data"), "s", 2);
    stage.daemon.start_again().await;
    stage.client.chat("other", "two").await;
    stage.send("three", json!([])).await;
    let session = abide_tests::until("the fault", async || {
        let session = stage.client.session("s").await;
        (session["state"] == "faulted").then_some(session)
    })
    .await;
    let reason = session["reason"]["text"].as_str().unwrap_or_default();
    assert!(
        reason.contains("damaged") && reason.contains("cannot be made again"),
        "{session}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_not_deterministic_diverges() {
    let mut stage = Stage::start(|setup| setup.grace("100ms")).await;
    stage.client.open("fickle", "hostile").await;
    let posted = stage.client.say("fickle", "fickle 30", None).await;
    let message = posted.expect("it is acknowledged").message;
    stage.model.wait_for("wait", CallState::Running, 1).await;
    assert_eq!(stage.executions("much").len(), 1);
    // A replayed guest sees the same inputs, but the operator may change its limits, here its
    // memory.
    let old = stage.daemon.generation().await;
    stage.daemon.edit(How::Rename, |setup| {
        setup.plugins[2].limits.push("memory = \"8MiB\"".into());
        setup.spare += 1;
    });
    stage.daemon.after_generation(old).await;
    let events = abide_tests::until("the turn's end", async || {
        let events = stage.client.events("fickle", 0).await;
        events.iter().any(|e| e.ends(&message)).then_some(events)
    })
    .await;
    let end = events.iter().find(|event| event.ends(&message));
    let end = end.expect("it was waited for");
    let reason = end.reason.as_deref().unwrap_or_default();
    assert!(end.is_turn("failed"), "{end:?}");
    for part in ["not deterministic", "\"much\"", "\"little\""] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    assert_eq!(stage.executions("little").len(), 0, "nothing is guessed");
    let letters = stage.client.dead_letters("fickle").await;
    assert_eq!(letters[0]["effects"], 1, "{letters:?}");
    assert_eq!(letters[0]["reason"]["code"], "divergence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_lowered_in_the_middle_of_a_turn_does_not_disturb_it() {
    let mut stage = Stage::start(|setup| setup.grace("100ms")).await;
    let long = "x".repeat(2000);
    let script = json!([
        {"act": "call", "tool": "record", "token": "a"},
        {"act": "say", "text": long},
        {"act": "llm", "text": "wait [hold=m]"},
    ]);
    let message = stage.send("m", script).await;
    stage.model.wait_for("wait", CallState::Running, 1).await;
    let old = stage.daemon.generation().await;
    stage.daemon.edit(How::Rename, |setup| {
        setup.plugins[1].limits.push("event = \"1KiB\"".into());
        setup.spare += 1;
    });
    stage.daemon.after_generation(old).await;
    stage.model.release("m");
    let events = stage.end_of(&message).await;
    assert_eq!(acts(&events), ["call a ok", "say  ok", "llm  ok"]);
    assert_eq!(stage.executions("a").len(), 1);
    let next = stage
        .perform("next", json!([{"act": "say", "text": long}]))
        .await;
    let failed = next.iter().find(|event| event.is_turn("failed"));
    let reason = failed.and_then(|event| event.reason.clone());
    assert!(reason.is_some_and(|reason| reason.contains("limits.event")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_came_due_while_nobody_ran_is_delivered_once_and_says_how_late() {
    let mut stage = Stage::start(|setup| setup).await;
    let script = json!({"id": "later", "acts": [{"act": "say", "text": "late"}]});
    let set = json!([
        {"act": "timer", "name": "tea", "after_ms": 400, "script": script},
        {"act": "timer", "name": "never", "after_ms": 400, "script": script},
        {"act": "timer", "name": "never", "after_ms": 86_400_000, "script": script},
    ]);
    stage.perform("set", set).await;
    assert!(stage.daemon.stop().await.success());
    // Time has to pass here; there is no event to wait for.
    tokio::time::sleep(Duration::from_millis(600)).await;
    stage.daemon.start_again().await;
    let events = stage
        .events_when("the timer's turn", |events| {
            events.iter().any(|event| event.said() == "late")
        })
        .await;
    let fired: Vec<_> = events.iter().filter(|e| e.is_from("timer")).collect();
    let [timer] = fired[..] else {
        panic!("one timer was due: {events:?}");
    };
    assert_eq!(timer.name.as_deref(), Some("tea"));
    let report = events
        .iter()
        .find(|e| e.kind == "custom" && e.name.as_deref() == Some("timer"))
        .and_then(|event| event.data.clone())
        .expect("the guest told of it");
    let ms = |key: &str| report[key].as_u64().unwrap_or_default();
    assert!(ms("at_ms") >= ms("due_ms") + 100, "{report}");
    let next = stage.perform("next", json!([])).await;
    assert_eq!(acts(&next), [] as [String; 0]);
    assert_eq!(stage.client.session("s").await["timers"], 1);
}
