//! A new component is rolled out in steps: which sessions take it first, what becomes of a turn that fails
//! on it, and how the roll-out ends.

use abide_tests::{How, until};
use serde_json::{Value, json};

use super::fall_back::{Changing, done};
use crate::stage::acts;

/// Sends a script to a session and waits for its turn's end. Returns its outcome, and what it said last.
async fn ask(it: &Changing, session: &str, script: &str, acts: Value) -> (String, String) {
    let text = json!({"id": script, "acts": acts}).to_string();
    let posted = it.stage.client.ask(session, &text, None).await;
    let posted = posted.expect("it is accepted");
    let said = posted.said().last().copied().unwrap_or_default().to_owned();
    (posted.outcome.unwrap_or_default(), said)
}

/// Sends a script that some components fail on.
async fn brittle(it: &Changing, session: &str, acts: Value) -> (String, String) {
    ask(it, session, "brittle", acts).await
}

fn completed(turn: u64) -> (String, String) {
    ("completed".to_owned(), format!("done brittle #{turn}"))
}

/// Returns the plugin's roll-out.
async fn rollout(it: &Changing) -> Value {
    let status = it.stage.daemon.status().await;
    let plugins = status["plugins"].as_array().expect("a list");
    let plugin = plugins.iter().find(|plugin| plugin["name"] == "scripted");
    plugin.expect("it is loaded")["rollout"].clone()
}

/// Waits until the roll-out has this status. Returns it.
async fn until_rollout(it: &Changing, status: &str) -> Value {
    until(&format!("the roll-out to be {status}"), async || {
        let rollout = rollout(it).await;
        (rollout["status"] == status).then_some(rollout)
    })
    .await
}

/// Waits for the one call that a human is to approve, and approves it.
async fn approve(it: &Changing) {
    let asked = until("the call to wait for a human", async || {
        let asked = it.stage.client.get("/v1/approvals").await.ok()?;
        let asked = asked.body["items"][0]["id"].as_str();
        asked.map(str::to_owned)
    })
    .await;
    let approve = json!({"decision": "approve"});
    let decided = it.stage.client.decide(&asked, &approve).await;
    decided.expect("an answer").expect(200);
}

/// Waits until a failure is counted. Returns the roll-out.
async fn until_failure(it: &Changing) -> Value {
    until("a failure", async || {
        let rollout = rollout(it).await;
        (rollout["failures"] != json!([])).then_some(rollout)
    })
    .await
}

/// Returns the components that sessions last ran on.
async fn components(it: &Changing, sessions: &[&str]) -> Vec<String> {
    let mut components = Vec::new();
    for id in sessions {
        let session = it.session(id).await;
        components.push(session["component"].as_str().expect("a digest").to_owned());
    }
    components
}

/// A session of which a turn fails under the component `to`, and is answered by the one before it.
async fn is_answered_by_the_one_before(to: &str, reason: &str) {
    let it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    let old = components(&it, &["s"]).await;
    it.change(to).await;
    assert_eq!(it.turn("s").await, done(2));
    assert_ne!(components(&it, &["s"]).await, old, "it is a canary");
    let model = json!([{"act": "llm", "text": "once"}]);
    let asked = it.stage.model.calls().len();
    assert_eq!(brittle(&it, "s", model).await, completed(3));
    // The journal has the model's answer.
    assert_eq!(it.stage.model.calls().len(), asked + 1);
    let session = it.session("s").await;
    assert_eq!(session["component"], old[0].as_str());
    assert_eq!(session["dead"], 0, "{session}");
    let why = session["pinned"]["reason"]
        .as_str()
        .expect("it stays there");
    assert!(why.contains("turn 3") && why.contains(reason), "{why}");
    let rollout = until_failure(&it).await;
    assert_eq!(rollout["status"], "running", "{rollout}");
    assert_eq!(rollout["failures"][0]["session"], "s", "{rollout}");
    assert_eq!(rollout["turns"], 0, "{rollout}");
    // A worker that knows of it from the log goes on in the same way.
    it.stage.daemon.kill_worker().await;
    assert_eq!(it.turn("s").await, done(4));
    assert_eq!(components(&it, &["s"]).await, old);
}

macro_rules! answered {
    ($($name:ident: $to:literal, $reason:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                is_answered_by_the_one_before($to, $reason).await;
            }
        )*
    };
}

answered! {
    a_turn_that_traps_is_answered_by_the_component_before: "brittle", "unreachable";
    a_turn_without_end_is_answered_by_the_component_before: "endless", "limits.compute";
    a_turn_of_much_memory_is_answered_by_the_component_before: "hungry", "limits.memory";
    a_turn_that_is_refused_is_answered_by_the_component_before: "refuses", "it refuses";
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_three_sessions_roll_it_back_until_its_bytes_change() {
    let it = Changing::start("plain", &[]).await;
    let (daemon, client) = (&it.stage.daemon, &it.stage.client);
    let all = ["s", "t", "u", "v"];
    for id in &all[1..] {
        client.open(id, "scripted").await;
    }
    for id in all {
        assert_eq!(it.turn(id).await, done(1));
    }
    let old = components(&it, &["s"]).await.remove(0);
    it.change("brittle").await;
    for id in all {
        assert_eq!(it.turn(id).await, done(2));
    }
    for id in ["s", "t", "u"] {
        assert_eq!(brittle(&it, id, json!([])).await, completed(3), "{id}");
    }
    let ended = until_rollout(&it, "rolled_back").await;
    assert_eq!(ended["proven"], old.as_str(), "{ended}");
    let failures = ended["failures"].as_array().expect("a list");
    assert_eq!(failures.len(), 3, "{ended}");
    // One that had no failure goes back as well, with its state; so does one that is new.
    assert_eq!(it.turn("v").await, done(3));
    client.open("w", "scripted").await;
    assert_eq!(it.turn("w").await, done(1));
    assert_eq!(
        components(&it, &["s", "t", "u", "v", "w"]).await,
        vec![old.clone(); 5]
    );
    for id in ["s", "v"] {
        assert_eq!(it.session(id).await.get("pinned"), None, "{id}");
    }
    let status = until("the finding", async || {
        let status = daemon.abide_says(&["status"]);
        status.contains("other bytes are tried").then_some(status)
    })
    .await;
    for part in ["was rolled back, 3 of 3", "unreachable", "daemon.canary"] {
        assert!(status.contains(part), "{part}: {status}");
    }

    // The next worker has not forgotten it, and neither has one that is asked to restart.
    daemon.kill_worker().await;
    assert_eq!(brittle(&it, "v", json!([])).await, completed(4));
    let generation = daemon.generation().await;
    daemon.abide_says(&["restart"]);
    daemon.after_generation(generation).await;
    assert_eq!(brittle(&it, "w", json!([])).await, completed(2));
    assert_eq!(rollout(&it).await["status"], "rolled_back");

    it.change("added").await;
    assert_eq!(rollout(&it).await["proven"], old.as_str());
    assert_eq!(brittle(&it, "s", json!([])).await, completed(4));
    assert_ne!(components(&it, &["s"]).await, [old]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_has_made_a_call_is_held() {
    let it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    let old = components(&it, &["s"]).await;
    it.change("brittle").await;
    assert_eq!(it.turn("s").await, done(2));
    let call = json!([{"act": "call", "tool": "record", "token": "once"}]);
    it.stage.send("brittle", call).await;
    approve(&it).await;
    it.stage.client.until_idle("s").await;
    assert_eq!(it.stage.executions("once").len(), 1);
    let letters = it.stage.client.dead_letters("s").await;
    let reason = letters[0]["reason"]["text"].as_str().expect("a text");
    assert!(reason.contains("must not be made again"), "{reason}");
    assert_eq!(until_failure(&it).await["failures"][0]["turn"], 3);
    // What comes next need not fail as well.
    assert_eq!(brittle(&it, "s", json!([])).await, completed(3));
    assert_eq!(components(&it, &["s"]).await, old);
    let daemon = &it.stage.daemon;
    let refused = daemon.abide(&["sessions", "retry", "s"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("force"), "{text}");
    daemon.abide_says(&["sessions", "retry", "s", "--force"]);
    approve(&it).await;
    it.stage.client.until_idle("s").await;
    assert_eq!(it.stage.executions("once").len(), 2, "by force alone");
    assert_eq!(it.session("s").await["dead"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_the_component_before_fails_on_too_is_the_inputs_fault() {
    let it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    let old = components(&it, &["s"]).await;
    it.change("brittle").await;
    let (outcome, _) = ask(&it, "s", "x", json!([{"act": "trap"}])).await;
    assert_eq!(outcome, "failed");
    let session = it.session("s").await;
    assert_eq!(
        (session["dead"].as_u64(), session.get("pinned")),
        (Some(1), None)
    );
    assert_eq!(rollout(&it).await["failures"], json!([]));
    assert_eq!(it.turn("s").await, done(2));
    assert_ne!(components(&it, &["s"]).await, old, "it is a canary still");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_asked_otherwise_is_held() {
    let it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    it.change("hasty").await;
    let (outcome, _) = brittle(&it, "s", json!([{"act": "llm", "text": "q"}])).await;
    assert_eq!(outcome, "failed");
    let letters = it.stage.client.dead_letters("s").await;
    assert_eq!(letters[0]["reason"]["code"], "divergence", "{letters:?}");
    assert_eq!(until_failure(&it).await["failures"][0]["session"], "s");
    assert!(it.session("s").await.get("pinned").is_some());
    it.stage.daemon.abide_says(&["sessions", "retry", "s"]);
    it.stage.client.until_idle("s").await;
    assert_eq!(it.session("s").await["dead"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timers_turn_is_answered_as_any_other() {
    let it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    it.change("brittle").await;
    let again = json!([{"act": "say", "text": "ticked"}]);
    let script = json!({"id": "brittle", "acts": again});
    let timer = json!([{"act": "timer", "name": "tick", "after_ms": 100, "script": script}]);
    ask(&it, "s", "x", timer).await;
    let events = it
        .stage
        .events_when("the timer's turn", |events| {
            acts(events).contains(&"say  ok".to_owned())
        })
        .await;
    let said = events.iter().filter(|event| event.kind == "timer");
    assert_eq!(said.count(), 0, "{events:?}");
    it.stage.client.until_idle("s").await;
    let session = it.session("s").await;
    assert_eq!(session["dead"], 0, "{session}");
    assert!(session.get("pinned").is_some(), "{session}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_follow_once_it_has_proven_itself() {
    let it = Changing::with_daemon("plain", &["canary_turns = 12"]).await;
    let names: Vec<String> = (0..13).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for id in &names {
        it.stage.client.open(id, "scripted").await;
        assert_eq!(it.turn(id).await, done(1));
    }
    let old = components(&it, &["s0"]).await.remove(0);
    it.change("added").await;
    for id in &names[..11] {
        assert_eq!(it.turn(id).await, done(2));
    }
    let ran_on = components(&it, &names).await;
    let canaries = ran_on.iter().filter(|component| **component != old);
    assert_eq!(canaries.count(), 10, "the eleventh that ran is none");
    assert_eq!(ran_on[10], old);
    until("ten canaries, with a turn each", async || {
        let running = rollout(&it).await;
        (running["canaries"] == 10 && running["turns"] == 10).then_some(())
    })
    .await;
    let status = it.stage.daemon.abide_says(&["status"]);
    assert!(status.contains("10 of at most 10 sessions"), "{status}");
    // Another one that is created waits for it, too.
    it.stage.client.open("late", "scripted").await;
    assert_eq!(components(&it, &["late"]).await[0], old);
    for id in &names[..2] {
        assert_eq!(it.turn(id).await, done(3));
    }
    let proven = until_rollout(&it, "completed").await;
    assert_eq!(proven["proven"], proven["component"]);
    for id in &names[10..] {
        it.turn(id).await;
    }
    let ran_on = components(&it, &names).await;
    assert_eq!(
        ran_on,
        vec![proven["component"].as_str().expect("a digest"); 13]
    );
    for id in &names {
        assert_eq!(it.session(id).await.get("pinned"), None, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_canaries_all_take_it_at_once() {
    let it = Changing::with_daemon("plain", &["canary = \"off\""]).await;
    assert_eq!(it.turn("s").await, done(1));
    it.change("brittle").await;
    assert_eq!(rollout(&it).await["status"], "completed");
    let (outcome, _) = brittle(&it, "s", json!([])).await;
    assert_eq!(outcome, "failed");
    assert_eq!(it.session("s").await.get("pinned"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_created_on_it_begins_on_the_one_before() {
    let it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    let old = components(&it, &["s"]).await;
    it.change("shut").await;
    it.stage.client.open("new", "scripted").await;
    assert_eq!(components(&it, &["new"]).await, old);
    let session = it.session("new").await;
    let why = session["pinned"]["reason"]
        .as_str()
        .expect("it stays there");
    assert!(why.contains("it is shut"), "{why}");
    assert_eq!(it.turn("new").await, done(1));
    assert_eq!(until_failure(&it).await["failures"][0]["session"], "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_bytes_replace_those_that_have_not_proven_themselves() {
    let it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    let old = components(&it, &["s"]).await.remove(0);
    it.change("brittle").await;
    assert_eq!(it.turn("s").await, done(2));
    it.change("added").await;
    let running = rollout(&it).await;
    assert_eq!(
        (&running["status"], &running["proven"]),
        (&json!("running"), &json!(old))
    );
    assert_eq!(brittle(&it, "s", json!([])).await, completed(3));
    // Back to the proven ones: there is nothing to prove.
    it.change("plain").await;
    assert_eq!(rollout(&it).await["status"], "completed");
    assert_eq!(it.turn("s").await, done(4));
    assert_eq!(components(&it, &["s"]).await, [old]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_after_a_roll_back_holds_on_the_component_that_sessions_went_back_to() {
    let mut it = Changing::start("plain", &["snapshot = \"64KiB\""]).await;
    for id in ["t", "u"] {
        it.stage.client.open(id, "scripted").await;
    }
    it.change("brittle").await;
    for id in ["s", "t", "u"] {
        assert_eq!(brittle(&it, id, json!([])).await, completed(1), "{id}");
    }
    until_rollout(&it, "rolled_back").await;
    let hold = json!([{"act": "hold", "bytes": 100_000}]);
    assert_eq!(ask(&it, "s", "x", hold.clone()).await.0, "failed");
    it.stage.daemon.edit(How::Rename, |setup| {
        let plugin = setup.plugins.iter_mut().find(|it| it.name == "scripted");
        let limits = &mut plugin.expect("the stage has it").limits;
        limits.retain(|limit| !limit.starts_with("snapshot"));
    });
    until("the larger limit to hold", async || {
        let (outcome, _) = ask(&it, "s", "x", hold.clone()).await;
        (outcome == "completed").then_some(())
    })
    .await;
    assert_eq!(rollout(&it).await["status"], "rolled_back");
}
