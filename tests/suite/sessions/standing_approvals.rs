//! Calls that a human has approved for good.

use abide_tests::{Setup, until};
use serde_json::{Value, json};

use super::approvals::{asking, parked, record, statuses};
use crate::stage::{Stage, acts};

const ID: &str = "s:1.1.0";

/// A daemon past its probation, so that it can keep standing approvals.
async fn stage() -> Stage {
    let stage = Stage::start(|setup| Setup {
        daemon: vec!["probation = \"100ms\"".to_owned()],
        ..asking(setup, "")
    })
    .await;
    stage.daemon.until_past_probation().await;
    stage
}

async fn standing(stage: &Stage) -> Vec<Value> {
    let page = stage.client.get("/v1/standing-approvals").await;
    let page = page.expect("an answer").expect(200);
    page["items"].as_array().cloned().expect("items")
}

async fn approve_always(stage: &Stage, id: &str) {
    let always = json!({"decision": "approve_always"});
    let decided = stage.client.decide(id, &always).await;
    decided.expect("an answer").expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_always_approved_is_made_without_asking_until_it_is_revoked() {
    let mut stage = stage().await;
    let first = stage.send("m1", record("a")).await;
    parked(&stage).await;
    approve_always(&stage, ID).await;
    stage.end_of(&first).await;
    let list = standing(&stage).await;
    assert_eq!(list.len(), 1);
    assert_eq!(
        (&list[0]["id"], &list[0]["tool"], &list[0]["by"]),
        (&json!(ID), &json!("t__record"), &json!("@local"))
    );

    // Over a restart, too. The events tell that it was not asked this time.
    stage.daemon.restart_by_edit().await;
    let again = stage.send("m2", record("a")).await;
    let events = stage.end_of(&again).await;
    assert_eq!(acts(&events), ["call a ok"]);
    assert_eq!(statuses(&events), ["asked", "approved"]);
    assert_eq!(stage.executions("a").len(), 2);

    // Other arguments are asked about, and so is another session.
    stage.send("m3", record("b")).await;
    assert_eq!(parked(&stage).await["reason"]["code"], "approval");
    let denied = stage.daemon.abide_says(&["approvals", "deny", "s:3.1.0"]);
    assert!(denied.contains("denied"), "{denied}");
    stage.client.open("other", "scripted").await;
    let script = json!({"id": "o1", "acts": record("a")}).to_string();
    let posted = stage.client.say("other", &script, None).await;
    posted.expect("it is acknowledged");
    until("the other session to be parked", async || {
        (stage.client.session("other").await["state"] == "parked").then_some(())
    })
    .await;

    let shown = stage.daemon.abide_says(&["approvals", "standing"]);
    assert!(shown.contains(ID) && shown.contains("t__record"), "{shown}");
    // By nobody but who may decide.
    let path = format!("/v1/standing-approvals/{ID}");
    let by_network = stage.client.request(http::Method::DELETE, &path);
    let by_network = stage.client.send(by_network).await.expect("an answer");
    by_network.problem(403);
    let revoked = stage.daemon.abide_says(&["approvals", "revoke", ID]);
    assert!(revoked.contains("asked about again"), "{revoked}");
    assert!(standing(&stage).await.is_empty());
    stage.send("m4", record("a")).await;
    parked(&stage).await;
    assert_eq!(stage.executions("a").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_always_approved_ends_with_its_session() {
    let stage = stage().await;
    let message = stage.send("m", record("a")).await;
    parked(&stage).await;
    let approved = stage
        .daemon
        .abide_says(&["approvals", "approve", ID, "--always"]);
    assert!(approved.contains("abide approvals revoke"), "{approved}");
    stage.end_of(&message).await;
    assert_eq!(standing(&stage).await.len(), 1);
    let close = stage.client.request(http::Method::DELETE, "/v1/sessions/s");
    stage
        .client
        .send(close)
        .await
        .expect("an answer")
        .expect(200);
    until("it to be forgotten", async || {
        standing(&stage).await.is_empty().then_some(())
    })
    .await;
    // What was never asked for is not approved for good, either.
    for unknown in [ID, "s:9.9.9", "nobody:1.1.0"] {
        let always = json!({"decision": "approve_always"});
        let decided = stage.client.decide(unknown, &always).await;
        assert!(decided.expect("an answer").status >= 404);
    }
    assert!(standing(&stage).await.is_empty());
}
