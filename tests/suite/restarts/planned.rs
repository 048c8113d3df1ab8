//! The effects of a restart on sessions, and the notices that their guests receive.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use abide_tests::{
    Account, CallState, Client, Daemon, FakeModel, How, Plugin, Posted, Sent, Setup, Signal,
    signal, until,
};
use serde_json::json;

const NOTICE: &str = "[system] The daemon restarted due to a configuration change. Your session \
                      state has been recovered from the last checkpoint.";

/// Returns the number of notices among a session's events.
async fn notices(client: &Client, id: &str) -> usize {
    let events = client.events(id, 0).await;
    events.iter().filter(|event| event.kind == "notice").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_session_is_told_exactly_once_and_a_new_one_never() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("active", "echo").await;
    client.open("never spoke", "echo").await;
    assert_eq!(client.chat("active", "one").await.said(), ["#1 user: one"]);

    let generation = daemon.restart_by_edit().await;
    client.open("new", "echo").await;
    assert_eq!(
        client.chat("active", "two").await.said(),
        [format!("#2 system: {NOTICE}"), "#2 user: two".to_owned()]
    );
    assert_eq!(
        client.chat("active", "three").await.said(),
        ["#3 user: three"]
    );
    assert_eq!(client.chat("new", "one").await.said(), ["#1 user: one"]);
    // It had neither work nor a committed turn: nothing was interrupted.
    assert_eq!(
        client.chat("never spoke", "one").await.said(),
        ["#1 user: one"]
    );
    let events = client.events("active", 0).await;
    let kinds: Vec<_> = events
        .iter()
        .filter(|event| event.turn == Some(2))
        .map(|event| event.kind.as_str())
        .collect();
    assert_eq!(kinds, ["turn", "notice", "message", "message", "turn"]);
    let notice = events.iter().find(|event| event.kind == "notice");
    assert_eq!(
        notice.and_then(|notice| notice.generation),
        Some(generation)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_restarts_without_traffic_make_one_message() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "one").await;
    let mut last = daemon.generation().await;
    for _ in 0..10 {
        let next = daemon.restart_by_edit().await;
        assert!(next > last);
        last = next;
    }
    assert_eq!(
        client.chat("s", "two").await.said(),
        [format!("#2 system: {NOTICE}"), "#2 user: two".to_owned()]
    );
    let events = client.events("s", 0).await;
    let notice = events.iter().find(|event| event.kind == "notice");
    let notice = notice.expect("it was seen above");
    assert_eq!(notice.generation, Some(last), "of several, the last");
    assert_eq!(client.chat("s", "three").await.said(), ["#3 user: three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_alone_cost_no_model_call() {
    let model = FakeModel::start().await;
    let mut daemon = Daemon::start(Setup::default().assistant(&model)).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    client.chat("s", "one").await;
    for _ in 0..3 {
        daemon.restart_by_edit().await;
    }
    assert_eq!(model.calls().len(), 1, "nobody said anything");
    client.chat("s", "two").await;
    let [_, second] = &model.calls()[..] else {
        panic!("one call for each message: {:?}", model.calls());
    };
    let notices = second.messages.iter().filter(|line| line.contains(NOTICE));
    assert_eq!(notices.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_turn_gives_the_message_back() {
    let model = FakeModel::start().await;
    let mut daemon = Daemon::start(Setup::default().assistant(&model)).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    client.chat("s", "one").await;
    daemon.restart_by_edit().await;

    // 401: an error that no provider's client retries by itself.
    let failed = client.ask("s", "two [status=401]", None).await;
    let failed = failed.expect("the message is accepted");
    assert_eq!(failed.outcome.as_deref(), Some("failed"), "{failed:?}");
    assert_eq!(notices(&client, "s").await, 0, "nothing of it is kept");

    client.chat("s", "three").await;
    let asked = model.calls_about("three");
    assert_eq!(
        asked[0].messages,
        [
            "user: one".to_owned(),
            "assistant: re: one".to_owned(),
            format!("system: {NOTICE}"),
            "user: three".to_owned()
        ]
    );
    assert_eq!(notices(&client, "s").await, 1);
    assert_eq!(client.dead_letters("s").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ignores_changes_does_not_restart() {
    let mut daemon = Daemon::start(Setup::default().on_change("ignore")).await;
    let before = daemon.status().await;
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    // No event shows that a change was ignored, but the log does.
    until("the change to be noticed", async || {
        daemon.log().contains("ignore").then_some(())
    })
    .await;
    let after = daemon.status().await;
    assert_eq!(before["generation"], after["generation"]);
    assert_eq!(before["config"]["digest"], after["config"]["digest"]);
    // The running configuration governs, not the one that it ignores; an explicit request restarts.
    let reply = daemon.client().post("/v1/daemon/restart", &json!({})).await;
    let plan = reply.expect("the daemon serves").expect(202);
    let generation = plan["generation"].as_u64();
    let old = before["generation"].as_u64().unwrap_or_default();
    assert_eq!(generation, Some(daemon.after_generation(old).await));
    let record = daemon.restart_record(old + 1).await;
    assert_eq!(
        record.map(|record| record["cause"].clone()),
        Some(json!("operator"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_without_meaning_restarts_nothing_and_two_quick_ones_end_at_the_last() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let first = daemon.generation().await;
    let worker = daemon.worker_pid().await;
    daemon.edit(How::Rename, |setup| {
        setup.comment = "another comment".to_owned();
    });
    daemon.edit(How::Truncate, |setup| {
        setup.comment = "and another".to_owned();
    });
    // The next real change comes after them, so they have been processed once it is served.
    daemon.edit(How::Rename, |setup| setup.spare = 1);
    daemon.edit(How::Rename, |setup| setup.spare = 2);
    let generation = daemon.after_generation(first).await;
    assert_eq!(generation, first + 1, "one restart for all of it");
    assert_ne!(daemon.worker_pid().await, worker);
    let reply = daemon.client().put("s", &json!({"plugin": "spare2"})).await;
    reply.expect("the daemon serves").expect(201);
    let reply = daemon.client().put("t", &json!({"plugin": "spare1"})).await;
    let problem = reply.expect("the daemon serves").problem(422);
    assert!(problem.contains("spare1"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_alone_is_no_change() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let before = daemon.status().await;
    let worker = daemon.worker_pid().await;
    daemon.edit(How::Rename, |setup| {
        setup.comment = "only a comment".to_owned();
    });
    // The digest of the effective bytes changes without a restart.
    until("the new bytes to be taken over", async || {
        let now = daemon.status().await;
        (now["config"]["digest"] != before["config"]["digest"]).then_some(())
    })
    .await;
    assert_eq!(daemon.status().await["generation"], before["generation"]);
    assert_eq!(daemon.worker_pid().await, worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_drain_are_accepted_and_answered_after_it() {
    let model = FakeModel::start().await;
    let mut daemon = Daemon::start(Setup::default().assistant(&model).grace("20s")).await;
    let client = daemon.client();
    client.open("busy", "assistant").await;
    client.open("other", "echo").await;
    client.chat("other", "before").await;
    let old = daemon.generation().await;
    let busy = client.say("busy", "wait [hold=w]", None).await;
    let busy = busy.expect("messages are accepted");
    model.wait_for("wait", CallState::Running, 1).await;
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    until("the drain", async || {
        (!daemon.status().await["drain"].is_null()).then_some(())
    })
    .await;

    let ready = client.get("/readyz").await;
    ready.expect("the daemon serves").expect(200);
    let mut sent = Vec::new();
    for n in 0..5 {
        let text = format!("held {n}");
        let posted = client.say("other", &text, Some(&text)).await;
        let posted = posted.expect("messages are accepted");
        assert_eq!(posted.status, 202);
        let message = posted.message;
        sent.push(Sent { message, text });
    }
    // Sessions can be created and deleted meanwhile.
    client.open("made during the drain", "echo").await;
    let gone = client.request(
        reqwest::Method::DELETE,
        "/v1/sessions/made%20during%20the%20drain",
    );
    let gone = client.send(gone).await.expect("the daemon serves");
    assert!(matches!(gone.status, 200 | 202 | 204), "{gone:?}");
    // Held: no turn begins.
    assert_eq!(client.session("other").await["turns"], 1);
    assert_eq!(client.session("other").await["queued"], 5);

    model.release("w");
    let generation = daemon.after_generation(old).await;
    let mut account = Account::default();
    account.take(&client, "other", &sent).await;
    let waited = Sent {
        message: busy.message,
        text: "wait [hold=w]".to_owned(),
    };
    account.take(&client, "busy", &[waited]).await;
    account.assert_clean();
    let record = daemon.restart_record(generation).await;
    let record = record.expect("the restart left a record");
    assert_eq!(record["drain"]["held"], 5, "{record}");
    assert_eq!(record["drain"]["waited_for"], 1, "{record}");
    assert_eq!(client.tally.troubles(), 0, "{}", client.tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_keys_outlive_restarts() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    let first = client.ask("s", "once", Some("key")).await;
    let first = first.expect("messages are accepted");
    assert!(!first.duplicate);
    daemon.restart_by_edit().await;
    daemon.kill_worker().await;
    daemon.client().get("/readyz").await.expect("it is back");
    let again = daemon.client().ask("s", "once", Some("key")).await;
    let again = again.expect("messages are accepted");
    assert!(again.duplicate);
    assert_eq!(again.message, first.message);
    assert_eq!(again.output, first.output, "the first one's turn");
    let client = daemon.client();
    assert_eq!(client.session("s").await["turns"], 1);
    match client.ask("s", "twice", Some("key")).await {
        Err(abide_tests::Refused::Status(reply)) => drop(reply.problem(422)),
        other => panic!("another body under the same key: {other:?}"),
    }
}

/// Starts a daemon with a turn of `s` that waits for the model to `release("w")`. Returns the turn's message.
pub(super) async fn with_last_words() -> (FakeModel, Daemon, Posted) {
    let model = FakeModel::start().await;
    let setup = Setup::default().assistant(&model).grace("20s");
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    let posted = client.say("s", "last words [hold=w]", None).await;
    let posted = posted.expect("messages are accepted");
    model.wait_for("last words", CallState::Running, 1).await;
    (model, daemon, posted)
}

/// Waits until a daemon says that it stops.
pub(super) async fn stops(daemon: &Daemon) {
    let client = daemon.client();
    until("readyz to say that it stops", async || {
        let reply = client.get("/readyz").await.ok()?;
        (reply.status == 503).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_ends_well() {
    let (model, mut daemon, posted) = with_last_words().await;
    signal(daemon.supervisor_pid(), Signal::TERM);
    // A stop is announced to load balancers; a restart is not.
    stops(&daemon).await;
    model.release("w");
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(
        model.calls_about("last words")[0].state,
        CallState::Answered
    );

    daemon.start_again().await;
    let client = daemon.client();
    let events = client.events("s", 0).await;
    assert!(
        events
            .iter()
            .any(|event| event.ends(&posted.message) && event.is_turn("completed")),
        "the turn was waited for: {events:?}"
    );
    assert_eq!(model.calls_about("last words").len(), 1);
}

/// Sends one request on a connection that stays open. Returns the status line and the body.
fn exchange(stream: &mut BufReader<TcpStream>, path: &str) -> std::io::Result<(String, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let mut status = String::new();
    stream.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        assert_ne!(line, "connection: close", "the connection is to stay");
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length is a number");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_passed_on() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let mut idle: Vec<_> = (0..20).map(|_| BufReader::new(daemon.connect())).collect();
    let generation_on = |stream: &mut BufReader<TcpStream>| {
        let (status, body) = exchange(stream, "/v1/daemon").expect("the connection lives");
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        body["generation"].as_u64()
    };
    let old = daemon.generation().await;
    for stream in &mut idle {
        assert_eq!(generation_on(stream), Some(old));
    }
    for _ in 0..3 {
        let new = daemon.restart_by_edit().await;
        for stream in &mut idle {
            assert_eq!(generation_on(stream), Some(new), "on the same connection");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_leave_records() {
    let mut daemon = Daemon::start(Setup::default().plugin(Plugin::new("assistant"))).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "one").await;
    let before = daemon.status().await;
    let generation = daemon.restart_by_edit().await;
    let record = daemon
        .restart_record_when(generation, |record| record["relaunch"]["restored"] == 1)
        .await;
    assert_eq!(record["cause"], "config");
    assert_eq!(record["active"], 1, "{record}");
    assert_eq!(record["drain"]["idle"], 1, "{record}");
    assert_eq!(record["config_from"], before["config"]["digest"]);
    let after = daemon.status().await;
    assert_eq!(record["config_to"], after["config"]["digest"]);
    assert_eq!(after["config"]["last_error"], json!(null));
    assert!(
        record["trigger"]
            .as_str()
            .is_some_and(|text| text.contains("plugins")),
        "it names what changed: {record}"
    );
    let list = client.get("/v1/daemon/restarts").await;
    let list = list.expect("the daemon serves").expect(200);
    let items = list["items"].as_array().cloned().unwrap_or_default();
    assert!(
        items.iter().any(|item| item["generation"] == generation),
        "{list}"
    );
    let unknown = client.get("/v1/daemon/restarts/999999").await;
    unknown.expect("the daemon serves").problem(404);
    // The final status comes at the end of the probation.
    let record = daemon
        .restart_record_when(generation, |record| record["status"] == "completed")
        .await;
    assert!(record["phases"]["pause_ms"].is_u64(), "{record}");

    daemon.kill_worker().await;
    let crash = daemon.after_generation(generation).await;
    let record = daemon.restart_record(crash).await;
    let record = record.expect("a crash leaves a record too");
    assert_eq!(record["cause"], "crash", "{record}");
    let answer = client.chat("s", "two").await;
    assert!(
        answer.said()[0].starts_with("#2 system: [system] The daemon restarted after a crash."),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_supervisor_takes_its_workers_with_it() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "one").await;
    let worker = daemon.worker_pid().await;
    signal(daemon.supervisor_pid(), Signal::KILL);
    daemon.ended().await;
    until("the worker to end", async || {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
    daemon.start_again().await;
    let answer = daemon.client().chat("s", "two").await;
    assert_eq!(answer.said().last(), Some(&"#2 user: two"));
}
