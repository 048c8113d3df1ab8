//! Violated invariants are reported, counted, and reported as resolved: in the status, the log and
//! the metrics.

use abide::domain::{ActiveSession, Generation, SessionId};
use abide::store::{Store, StoreOptions};
use abide_tests::{Client, Daemon, How, Setup, until};
use reqwest::{Method, header};
use serde_json::{Value, json};

async fn call(
    client: &Client,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: Value,
) -> Value {
    let mut request = client
        .request(method, path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string());
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let reply = client.send(request).await.expect("it is answered");
    json!({"status": reply.status, "body": reply.body})
}

/// Returns the findings of a kind in the daemon's status.
fn findings(status: &Value, kind: &str) -> Vec<Value> {
    let all = status["watchdog"].as_array().expect("a list").iter();
    all.filter(|finding| finding["kind"] == kind)
        .cloned()
        .collect()
}

/// Returns a metric's value, by its name and labels exactly as in the output.
async fn metric(client: &Client, name: &str) -> Option<f64> {
    let request = client.request(Method::GET, "/metrics");
    let text = request.send().await.ok()?.text().await.ok()?;
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_refuses_what_is_new_and_nothing_else() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    let messages = "/v1/sessions/s/messages";
    client.open("s", "echo").await;
    let one = json!({"text": "one"});
    let first = call(&client, Method::POST, messages, Some("k1"), one.clone()).await;
    assert_eq!(first["status"], 202);

    // More than any disk has. The restart itself must be recorded, and is.
    let old = daemon.generation().await;
    daemon.edit(How::Rename, |setup| {
        setup.daemon.push("disk_reserve = \"1PiB\"".to_owned());
    });
    let low = until("the disk to be found nearly full", async || {
        let status = daemon.status().await;
        let found = findings(&status, "disk_nearly_full");
        (status["state"] == "serving" && !found.is_empty()).then_some(found)
    })
    .await;
    assert!(daemon.generation().await >= old);
    assert!(
        low[0]["remedy"]
            .as_str()
            .is_some_and(|r| r.contains("daemon.disk_reserve"))
    );
    let two = json!({"text": "two"});
    let refused = call(&client, Method::POST, messages, None, two.clone()).await;
    assert_eq!(refused["status"], 507, "{refused}");
    let problem = &refused["body"];
    assert_eq!(problem["type"], "urn:abide:problem:disk-nearly-full");
    assert_eq!(problem["reserve_bytes"], 1_u64 << 50);
    assert!(problem["free_bytes"].as_u64().is_some_and(|free| free > 0));
    let echo = json!({"plugin": "echo"});
    let new = call(&client, Method::PUT, "/v1/sessions/new", None, echo.clone()).await;
    assert_eq!(new["status"], 507, "{new}");
    // What exists already needs no space.
    let same = call(&client, Method::PUT, "/v1/sessions/s", None, echo).await;
    assert_eq!(same["status"], 200, "{same}");
    let again = call(&client, Method::POST, messages, Some("k1"), one).await;
    assert_eq!(
        (&again["status"], &again["body"]["duplicate"]),
        (&json!(202), &json!(true))
    );
    let gauge = "abide_watchdog_findings{kind=\"disk_nearly_full\"}";
    until("the gauge", async || {
        (metric(&client, gauge).await? == 1.0).then_some(())
    })
    .await;
    daemon.logged("disk_nearly_full").await;

    daemon.edit(How::Rename, |setup| setup.daemon.clear());
    until("messages to be accepted again", async || {
        let accepted = call(&client, Method::POST, messages, None, two.clone()).await;
        (accepted["status"] == 202).then_some(())
    })
    .await;
    until("the finding to go", async || {
        let status = daemon.status().await;
        findings(&status, "disk_nearly_full")
            .is_empty()
            .then_some(())
    })
    .await;
    until("the turns to end", async || {
        let view = client.get("/v1/sessions/s").await.ok()?.body;
        (view["turns"] == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_comes_back_with_less_than_was_recorded_is_told_aloud() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    for id in ["whole", "lesser"] {
        client.open(id, "echo").await;
        client.chat(id, "one").await;
    }
    daemon.stop().await;
    // Simulates a damaged store: the record has a turn that is missing from the log, and a session
    // that does not exist at all.
    let generation = {
        let folder = daemon.folder().join("data");
        let store = Store::open(&folder, StoreOptions::default()).expect("the daemon has left it");
        let last = store.last_generation().expect("it can be read");
        let generation = last.expect("the stop was written down");
        let mut recorded = store.active_sessions(generation).expect("it can be read");
        assert_eq!(recorded.len(), 2, "both had been active");
        for session in recorded.iter_mut().filter(|s| s.id.as_str() == "lesser") {
            session.turns += 1;
            session.seq += 3;
        }
        recorded.push(ActiveSession {
            id: SessionId::new("gone").expect("a plain name"),
            turns: 7,
            seq: 30,
            cursor: 21,
            subscribers: 0,
        });
        let written = store.put_active_sessions(generation, &recorded);
        written.expect("it can be written");
        store.close();
        generation
    };
    daemon.start_again().await;
    let status = until("the sessions' return", async || {
        let status = daemon.status().await;
        (!findings(&status, "session_lesser").is_empty()).then_some(status)
    })
    .await;
    assert_eq!(status["generation"], json!(generation));
    let found = findings(&status, "session_lesser");
    let subjects: Vec<&Value> = found.iter().map(|finding| &finding["subject"]).collect();
    assert!(subjects.contains(&&json!("lesser")) && subjects.contains(&&json!("gone")));
    assert_eq!(found.len(), 2, "{found:?}");
    let Generation(number) = generation;
    let record = daemon
        .restart_record_when(number, |record| {
            record["relaunch"]["lesser"]
                .as_array()
                .is_some_and(|l| l.len() == 2)
        })
        .await;
    let lacks = record["relaunch"]["shortfalls"].as_array().expect("a list");
    let of = |id: &str| {
        lacks
            .iter()
            .find(|lacks| lacks["id"] == id)
            .expect("it is told")
    };
    assert_eq!(of("lesser")["recorded"]["turns"], 2);
    assert_eq!(of("lesser")["found"]["turns"], 1);
    assert_eq!(of("gone")["found"], Value::Null);
    assert_eq!(
        metric(&client, "abide_sessions_lesser_total").await,
        Some(2.0)
    );
    daemon.logged("LESS than was recorded").await;
    // Its state is kept, and it continues.
    let posted = client.chat("lesser", "two").await;
    assert_eq!(posted.said().last(), Some(&"#2 user: two"));

    // A crash is checked against the same record: "gone" is still missing; "lesser" has caught up.
    daemon.kill_worker().await;
    until("the next worker's word", async || {
        let status = daemon.status().await;
        let found = findings(&status, "session_lesser");
        let is_next = status["generation"].as_u64()? > number;
        (is_next && found.iter().any(|finding| finding["subject"] == "gone")).then_some(())
    })
    .await;
}
