//! Tool calls that wait for a human: requested, answered days and restarts later, and made once.

use std::fs;

use abide_tests::{Event, How, Reply, Setup, guest, until};
use serde_json::{Value, json};

use crate::stage::{Stage, acts};

const ID: &str = "s:1.1.0";

async fn stage(keys: &str) -> Stage {
    Stage::start(|setup| asking(setup, keys)).await
}

/// A daemon that asks about calls of `record`, with further keys of its tools.
pub(super) fn asking(mut setup: Setup, keys: &str) -> Setup {
    let tools = setup.rest.last_mut().expect("the stage has tools");
    tools.push_str("\nask = [\"record\"]\n");
    tools.push_str(keys);
    setup
}

pub(super) fn record(token: &str) -> Value {
    json!([{"act": "call", "tool": "record", "token": token}])
}

async fn waiting(stage: &Stage) -> Vec<Value> {
    let page = stage.client.get("/v1/approvals").await;
    let page = page.expect("an answer").expect(200);
    page["items"].as_array().cloned().expect("items")
}

/// Waits until `s` is parked. Returns its status.
pub(super) async fn parked(stage: &Stage) -> Value {
    until("the session to be parked", async || {
        let session = stage.client.session("s").await;
        (session["state"] == "parked").then_some(session)
    })
    .await
}

async fn answer(stage: &Stage, id: &str, body: Value) -> Reply {
    stage.client.decide(id, &body).await.expect("an answer")
}

pub(super) fn statuses(events: &[Event]) -> Vec<&str> {
    let approvals = events.iter().filter(|event| event.kind == "approval");
    approvals.filter_map(|e| e.status.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_call_is_made_once_and_the_answer_stands() {
    let stage = stage("").await;
    let message = stage.send("m", record("a")).await;
    let session = parked(&stage).await;
    assert_eq!(session["reason"]["code"], "approval");
    let action = session["reason"]["action"].as_str().expect("an action");
    assert!(
        action.contains(&format!("abide approvals approve {ID}")),
        "{action}"
    );
    let text = session["reason"]["text"].as_str().expect("a text");
    assert!(
        text.contains("t__record") && text.contains("\"a\""),
        "{text}"
    );
    let status = until("the status to count it", async || {
        let status = stage.daemon.status().await;
        (status["sessions"]["parked"] == 1).then_some(status)
    });
    assert_eq!(status.await["sessions"]["idle"], 0);
    let asked = waiting(&stage).await;
    assert_eq!(
        (&asked[0]["id"], &asked[0]["status"]),
        (&json!(ID), &json!("asked"))
    );
    assert_eq!(stage.executions("a").len(), 0);

    let yes = json!({"decision": "approve"});
    assert_eq!(
        answer(&stage, ID, yes.clone()).await.expect(200)["status"],
        "approved"
    );
    let events = stage.end_of(&message).await;
    assert_eq!(acts(&events), ["call a ok"]);
    assert_eq!(statuses(&events), ["asked", "approved"]);
    assert_eq!(stage.executions("a").len(), 1);
    assert!(waiting(&stage).await.is_empty());

    // The same decision again, another one, and one that was never requested.
    assert_eq!(
        answer(&stage, ID, yes.clone()).await.expect(200)["status"],
        "approved"
    );
    answer(&stage, ID, json!({"decision": "deny"}))
        .await
        .problem(409);
    for id in ["s:1.1.9", "nobody:1.1.0", "what"] {
        answer(&stage, id, yes.clone()).await.problem(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_call_is_shown_and_lists_say_what_they_cut() {
    let stage = stage("").await;
    let token = format!("{}end", "x".repeat(5000));
    let message = stage.send("m", record(&token)).await;
    parked(&stage).await;
    let listed = waiting(&stage).await.remove(0);
    assert_eq!(listed["arguments_cut"], true);
    let arguments = |of: &Value| of["arguments"].as_str().expect("a text").to_owned();
    assert!(!arguments(&listed).contains(&token));
    let show = async |id: &str| {
        let path = format!("/v1/approvals/{id}");
        stage.client.get(&path).await.expect("an answer")
    };
    let shown = show(ID).await.expect(200);
    assert!(arguments(&shown).contains(&token), "{shown}");
    assert_eq!(shown["arguments_cut"], Value::Null);
    for unknown in ["s:1.1.9", "nobody:1.1.0", "what"] {
        show(unknown).await.problem(404);
    }
    let list = stage.daemon.abide_says(&["approvals"]);
    assert!(list.contains("`abide approvals show ID`"), "{list}");
    let text = stage.daemon.abide_says(&["approvals", "show", ID]);
    assert!(
        text.contains(&token) && text.contains("t__record"),
        "{text}"
    );

    let denied = stage
        .daemon
        .abide_says(&["approvals", "deny", ID, "--reason", "too long"]);
    assert!(denied.contains("denied"), "{denied}");
    stage.end_of(&message).await;
    let after = stage.daemon.abide_says(&["approvals", "show", ID]);
    assert!(
        after.contains("@local") && after.contains("too long"),
        "{after}"
    );
    assert!(after.contains("(cut"), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_asked_for_a_token_only_a_local_command_decides() {
    let mut stage = stage("").await;
    let message = stage.send("m", record("a")).await;
    parked(&stage).await;
    let yes = json!({"decision": "approve"});
    let refuse = async |stage: &Stage| {
        let path = format!("/v1/approvals/{ID}");
        let reply = stage.client.post(&path, &yes).await.expect("an answer");
        let text = reply.problem(403);
        assert!(
            text.contains("`abide approvals`") && text.contains("token_env"),
            "{text}"
        );
        reply.body["socket"].as_str().expect("a name").to_owned()
    };
    let socket = refuse(&stage).await;
    // It is one socket for all workers of a supervisor, so that no command misses it in a restart.
    stage.daemon.kill_worker().await;
    stage.daemon.restart_by_edit().await;
    assert_eq!(refuse(&stage).await, socket);
    let name = socket.strip_prefix('@').expect("an abstract name");
    let local = stage.client.by_local_socket(name);
    // Whoever comes that way is who they are in other things, too.
    local.open("other", "scripted").await;
    assert_eq!(stage.executions("a").len(), 0);
    let approved = stage.daemon.abide_says(&["approvals", "approve", ID]);
    assert!(approved.contains("approved"), "{approved}");
    stage.end_of(&message).await;
    assert_eq!(stage.executions("a").len(), 1);
    let path = format!("/v1/approvals/{ID}");
    let decided = stage.client.get(&path).await.expect("an answer");
    assert_eq!(decided.expect(200)["by"], "@local");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_reaches_the_guest_with_its_reason() {
    let stage = stage("").await;
    let message = stage.send("m", record("a")).await;
    parked(&stage).await;
    let no = json!({"decision": "deny", "reason": "not today"});
    answer(&stage, ID, no.clone()).await.expect(200);
    let events = stage.end_of(&message).await;
    assert_eq!(acts(&events), ["call a error:denied"]);
    assert_eq!(statuses(&events), ["asked", "denied"]);
    answer(&stage, ID, no).await.expect(200);
    let turn = stage.client.get("/v1/sessions/s/turn").await;
    let turn = turn.expect("an answer").expect(200).to_string();
    assert!(
        turn.contains("a human denied") && turn.contains("not today"),
        "{turn}"
    );
    assert_eq!(stage.executions("a").len(), 0);
    let replayed = stage.client.post("/v1/sessions/s/replay", &json!({})).await;
    let replayed = replayed.expect("an answer").expect(200);
    assert_eq!(replayed["verdict"], "deterministic", "{replayed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_is_a_denial() {
    let stage = stage("ask_timeout = \"1s\"").await;
    let events = stage.perform("m", record("a")).await;
    assert_eq!(acts(&events), ["call a error:denied"]);
    assert_eq!(statuses(&events), ["asked", "expired"]);
    answer(&stage, ID, json!({"decision": "approve"}))
        .await
        .problem(410);
    assert_eq!(stage.executions("a").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_changes_lose_no_approval_and_make_no_call_twice() {
    let mut stage = stage("").await;
    let script = json!([
        {"act": "call", "tool": "note", "token": "before"},
        {"act": "call", "tool": "record", "token": "a"},
    ]);
    let message = stage.send("m", script).await;
    let before = parked(&stage).await["reason"].clone();
    stage.daemon.kill_worker().await;
    assert_eq!(parked(&stage).await["reason"], before);
    // The tool does not require approval any more, and the plugin is another one.
    let copy = stage.daemon.folder().join("other.wasm");
    fs::copy(guest("echo"), &copy).expect("the guest is copied");
    let old = stage.daemon.generation().await;
    stage.daemon.edit(How::Rename, |setup| {
        let tools = setup.rest.last_mut().expect("the stage has tools");
        *tools = tools.replace("ask = [\"record\"]", "");
        let plugin = setup
            .plugins
            .iter_mut()
            .find(|plugin| plugin.name == "scripted");
        plugin.expect("the stage has it").path = copy.clone();
    });
    stage.daemon.after_generation(old).await;
    assert_eq!(parked(&stage).await["reason"], before);
    assert_eq!(stage.executions("a").len(), 0);
    let yes = json!({"decision": "approve"});
    answer(&stage, "s:1.2.0", yes.clone()).await.expect(200);
    // Between the decision and the call, or in the middle of the call.
    stage.daemon.kill_worker().await;
    let events = stage.end_of(&message).await;
    let acts = acts(&events);
    assert_eq!(acts[0], "call before ok");
    assert!(
        acts[1] == "call a ok" || acts[1] == "call a unknown",
        "{acts:?}"
    );
    assert!(stage.executions("a").len() <= 1);
    assert_eq!(stage.executions("before").len(), 1);
    assert_eq!(statuses(&events), ["asked", "approved"]);
    answer(&stage, "s:1.2.0", yes).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_and_closing_end_an_approval() {
    let stage = stage("").await;
    let message = stage.send("m", record("a")).await;
    parked(&stage).await;
    let cancelled = stage.client.post("/v1/sessions/s/cancel", &json!({})).await;
    cancelled.expect("an answer").expect(200);
    let events = stage.end_of(&message).await;
    assert_eq!(statuses(&events), ["asked", "cancelled"]);
    let yes = json!({"decision": "approve"});
    let problem = answer(&stage, ID, yes.clone()).await.problem(409);
    assert!(problem.contains("cancelled"), "{problem}");

    stage.send("n", record("b")).await;
    parked(&stage).await;
    let delete = stage
        .client
        .request(reqwest::Method::DELETE, "/v1/sessions/s");
    stage
        .client
        .send(delete)
        .await
        .expect("an answer")
        .expect(200);
    assert!(waiting(&stage).await.is_empty());
    answer(&stage, "s:2.1.0", yes).await.problem(410);
    assert!(stage.executions("a").is_empty() && stage.executions("b").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_calls_each_has_its_own_answer_and_lists_have_pages() {
    let stage = stage("").await;
    let calls = json!([{"act": "call_all", "calls": [
        {"tool": "record", "token": "a"},
        {"tool": "note", "token": "b"},
        {"tool": "record", "token": "c"},
    ]}]);
    let message = stage.send("m", calls).await;
    parked(&stage).await;
    stage.client.open("r", "scripted").await;
    let script = json!({"id": "r", "acts": record("d")}).to_string();
    stage
        .client
        .say("r", &script, None)
        .await
        .expect("it is acknowledged");
    until("both to be listed", async || {
        (waiting(&stage).await.len() == 3).then_some(())
    })
    .await;
    let page = stage.client.get("/v1/approvals?limit=1").await;
    let page = page.expect("an answer").expect(200);
    assert_eq!(
        (&page["items"][0]["id"], &page["next"]),
        (&json!("r:1.1.0"), &json!("r"))
    );
    let rest = stage.client.get("/v1/approvals?limit=1&after=r").await;
    let rest = rest.expect("an answer").expect(200);
    assert_eq!(
        (rest["items"].as_array().map(Vec::len), &rest["next"]),
        (Some(2), &Value::Null)
    );

    answer(&stage, "s:1.1.0", json!({"decision": "deny"}))
        .await
        .expect(200);
    parked(&stage).await;
    answer(&stage, "s:1.1.2", json!({"decision": "approve"}))
        .await
        .expect(200);
    let events = stage.end_of(&message).await;
    assert_eq!(
        acts(&events),
        ["call_all a error:denied", "call_all b ok", "call_all c ok"]
    );
    let made = ["a", "b", "c"].map(|token| stage.executions(token).len());
    assert_eq!(made, [0, 1, 1]);
}
