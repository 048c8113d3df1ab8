//! A session whose history was cut, as clients and operators meet it: here a backup comes back.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use abide_tests::{
    CallState, Client, Daemon, Event, PATIENCE, Posted, Reply, Setup, Subscriber, abide_binary,
    until,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::backup::{abide, back_up, restore};
use crate::stage::{Stage, acts, notices};

/// Sends the lines of a program's output.
fn read(output: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

/// Requests a page of the events of a session.
async fn page(client: &Client, id: &str, query: &str) -> Reply {
    let path = format!("/v1/sessions/{id}/events{query}");
    let request = client.request(Method::GET, &path);
    let request = request.header("accept", "application/json");
    client.send(request).await.expect("an answer")
}

/// Asserts that a position is refused as one that the session's log does not reach.
fn check_ahead(reply: &Reply, last: u64, timeline: Option<&str>) {
    let text = reply.problem(410);
    assert_eq!(
        reply.body["type"], "urn:abide:problem:cursor-ahead",
        "{text}"
    );
    assert_eq!(reply.body["last"], last, "{text}");
    assert_eq!(reply.body["timeline"], json!(timeline), "{text}");
}

fn last(events: &[Event]) -> u64 {
    events.last().map_or(0, |event| event.cursor)
}

async fn say(stage: &Stage, id: &str, key: Option<&str>) -> Posted {
    let script = json!({"id": id, "acts": [{"act": "say", "text": id}]}).to_string();
    let posted = stage.client.say("s", &script, key).await;
    posted.expect("it is acknowledged")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_session_waits_for_an_operator_and_goes_on_in_a_timeline_of_its_own() {
    let mut stage = Stage::start(|mut setup: Setup| {
        setup.grace = "500ms".to_owned();
        setup
    })
    .await;
    let subscriber = Subscriber::follow(&stage.client, "s");
    stage
        .perform("one", json!([{"act": "say", "text": "one"}]))
        .await;
    let open = stage.send(
        "two",
        json!([
            {"act": "call", "tool": "record", "token": "done"},
            {"act": "llm", "text": "two [hold=never]"},
        ]),
    );
    let open = open.await;
    stage.model.wait_for("two", CallState::Running, 1).await;
    let waits = say(&stage, "three", None).await.message;
    let cut_at = last(&stage.client.events("s", 0).await);
    let backup = back_up(&stage.daemon);
    stage.daemon.stop().await;

    // What the backup does not have.
    stage.daemon.start_again().await;
    let cancelled = stage.client.post("/v1/sessions/s/cancel", &json!({})).await;
    cancelled.expect("an answer").expect(200);
    stage.end_of(&waits).await;
    let lost_message = say(&stage, "four", Some("a key")).await.message;
    stage.end_of(&lost_message).await;
    let lost = last(&stage.client.events("s", 0).await);
    let seen = |events: &[Event]| last(events) == lost;
    subscriber
        .wait_for("the history that will be lost", seen)
        .await;
    check_ahead(
        &page(&stage.client, "s", &format!("?after={}", lost + 1)).await,
        lost,
        None,
    );
    stage.daemon.stop().await;

    let timeline = restore(&stage.daemon, backup.path(), "s");
    let on = format!("&timeline={timeline}");
    stage.daemon.start_again().await;
    let client = &stage.client;
    let session = client.session("s").await;
    assert_eq!(
        (&session["state"], &session["queued"]),
        (&json!("parked"), &json!(1))
    );
    assert_eq!(session["reason"]["code"], "history_cut");
    assert_eq!(session["reason"]["action"], "abide resume s");
    assert_eq!(session["timeline"], timeline.as_str());
    let end = session["cursor"].as_u64().expect("a cursor");
    let listed = client.get("/v1/sessions?state=parked").await;
    assert_eq!(
        listed.expect("an answer").expect(200)["items"][0]["id"],
        "s"
    );

    // Positions of before the cut are good up to it, and nothing beyond the end is.
    let follow = async |id: &str| {
        let request = client.request(Method::GET, "/v1/sessions/s/events");
        let request = request.header("last-event-id", id);
        client.send(request).await.expect("an answer")
    };
    check_ahead(
        &page(client, "s", &format!("?after={lost}")).await,
        cut_at,
        Some(&timeline),
    );
    check_ahead(&follow(&lost.to_string()).await, cut_at, Some(&timeline));
    check_ahead(
        &follow(&format!("{timeline}.{}", end + 1)).await,
        end,
        Some(&timeline),
    );
    check_ahead(
        &page(client, "s", &format!("?after={}{on}", end + 1)).await,
        end,
        Some(&timeline),
    );
    let other = format!("?after={cut_at}&timeline=abcdefgh");
    check_ahead(&page(client, "s", &other).await, cut_at, Some(&timeline));
    page(client, "s", "?after=1&timeline=1").await.problem(400);
    follow("one").await.problem(400);
    let at_end = page(client, "s", &format!("?after={end}{on}"))
        .await
        .expect(200);
    assert_eq!(
        (&at_end["items"], &at_end["timeline"]),
        (&json!([]), &json!(timeline))
    );
    let since = page(client, "s", &format!("?after={cut_at}"))
        .await
        .expect(200);
    let first = &since["items"][0];
    assert_eq!(
        (&first["kind"], &first["turn"]),
        (&json!("timeline"), &Value::Null)
    );
    assert_eq!(
        (&first["timeline"], &first["cursor"]),
        (&json!(timeline), &json!(cut_at + 1))
    );
    assert_eq!(first["previous"], json!({"last": cut_at}));
    assert_eq!(first["cause"], "restore");
    assert!(
        first["text"]
            .as_str()
            .is_some_and(|text| text.contains("the backup is of"))
    );
    let before = page(client, "s", "?limit=1").await.expect(200);
    assert_eq!(before["items"][0]["timeline"], Value::Null);

    // The open turn has ended; nothing is done again by itself, or for an id that was lost.
    let letters = client.dead_letters("s").await;
    assert_eq!(
        (letters.len(), &letters[0]["message"]["id"]),
        (1, &json!(open))
    );
    assert_eq!(letters[0]["reason"]["code"], "history_cut");
    let retry = async |body: Value| client.post("/v1/sessions/s/retry", &body).await;
    let refused = retry(json!({"message": open})).await.expect("an answer");
    assert!(refused.problem(409).contains("force"), "{refused:?}");
    let number = open.trim_start_matches('m');
    for id in [&lost_message, &format!("{timeline}.m{number}")] {
        retry(json!({"message": id}))
            .await
            .expect("an answer")
            .problem(404);
    }

    // It accepts and holds, a lost message under its key as well.
    let again = say(&stage, "four", Some("a key")).await;
    assert!(
        !again.duplicate && again.message.starts_with(&format!("{timeline}.m")),
        "{again:?}"
    );
    let path = "/v1/sessions/s/messages?wait=200ms";
    let posted = client
        .post(path, &json!({"text": "{\"id\":\"w\",\"acts\":[]}"}))
        .await;
    let posted = posted.expect("an answer").expect(202);
    assert_eq!(posted["timeline"], timeline.as_str());
    assert_eq!(client.session("s").await["state"], "parked");

    let resumed = abide(&stage.daemon, &["resume", "--all"]);
    assert!(resumed.status.success(), "{resumed:?}");
    assert_eq!(
        String::from_utf8_lossy(&resumed.stdout),
        "s: it goes on, 3 queued\n"
    );
    let none = abide(&stage.daemon, &["resume", "--all"]);
    assert!(none.status.success(), "{none:?}");
    let not_again = abide(&stage.daemon, &["sessions", "resume", "s"]);
    assert_eq!(not_again.status.code(), Some(1), "{not_again:?}");

    let events = stage.events_when("the message that waited", |events| {
        events.iter().any(|event| event.ends(&waits))
    });
    let events = events.await;
    let turn = events
        .iter()
        .find(|event| event.ends(&waits))
        .expect("it ended")
        .turn;
    let events: Vec<Event> = events
        .into_iter()
        .filter(|event| event.turn == turn)
        .collect();
    let notice = events
        .iter()
        .find(|event| event.kind == "notice")
        .expect("it is told");
    assert_eq!(notice.cause.as_deref(), Some("history_cut"));
    assert!(
        notice.said().contains("it was restored from a backup"),
        "{}",
        notice.said()
    );
    assert!(
        notice.said().contains("\"done\""),
        "what the open turn did: {}",
        notice.said()
    );
    assert_eq!(notices(&events)[0]["cause"], "operator");
    assert!(acts(&events).contains(&"say  ok".to_owned()), "{events:?}");
    stage
        .end_of(posted["message"].as_str().expect("its id"))
        .await;
    assert_eq!(stage.executions("done").len(), 1);

    // The subscriber has met the cut, and follows on.
    let stored = client.events("s", 0).await;
    let followed = |events: &[Event]| events.len() == stored.len();
    let events = subscriber.wait_for("the new timeline", followed).await;
    assert_eq!(events, stored);
    assert_eq!(subscriber.cuts(), 1);
    subscriber.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_of_one_backup_are_two_timelines() {
    let mut stage = Stage::start(|setup| setup).await;
    stage
        .perform("one", json!([{"act": "say", "text": "one"}]))
        .await;
    let cut_at = last(&stage.client.events("s", 0).await);
    let backup = back_up(&stage.daemon);
    stage.daemon.stop().await;
    let mut known: Vec<Event> = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    for _ in 0..2 {
        let timeline = restore(&stage.daemon, backup.path(), "s");
        stage.daemon.start_again().await;
        assert!(abide(&stage.daemon, &["resume", "s"]).status.success());
        let call = json!([{"act": "call", "tool": "record", "token": "same"}]);
        stage.perform("two", call).await;
        let events = stage.client.events("s", 0).await;
        let position = format!("?after={}&timeline={timeline}", last(&events));
        page(&stage.client, "s", &position).await.expect(200);
        for before in &known {
            let query = match &before.timeline {
                None => format!("?after={}", before.cursor),
                Some(name) => format!("?after={}&timeline={name}", before.cursor),
            };
            check_ahead(
                &page(&stage.client, "s", &query).await,
                cut_at,
                Some(&timeline),
            );
        }
        known = events
            .into_iter()
            .filter(|e| e.timeline.is_some())
            .collect();
        // The same call at the same place is another call for the tool server.
        keys = stage.executions("same");
        assert!(
            keys.last().is_some_and(|key| key.contains(&timeline)),
            "{keys:?}"
        );
        stage.daemon.stop().await;
    }
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_of_lost_history_answer_for_nothing_else() {
    let mut stage = Stage::start(|mut setup: Setup| {
        let tools = setup.rest.last_mut().expect("the stage has tools");
        tools.push_str("\nask = [\"record\"]\n");
        setup
    })
    .await;
    let record = |token: &str| json!([{"act": "call", "tool": "record", "token": token}]);
    let asked = async |stage: &Stage| {
        until("an approval", async || {
            let page = stage.client.get("/v1/approvals").await.ok()?;
            let id = page.body["items"][0]["id"].as_str()?;
            Some(id.to_owned())
        })
        .await
    };
    let answer = async |stage: &Stage, id: &str, decision: &str| {
        let body = json!({"decision": decision});
        stage.client.decide(id, &body).await.expect("an answer")
    };
    let message = stage.send("one", record("one")).await;
    let open = asked(&stage).await;
    let backup = back_up(&stage.daemon);
    stage.daemon.stop().await;
    stage.daemon.start_again().await;
    answer(&stage, &open, "deny").await.expect(200);
    stage.end_of(&message).await;
    stage.send("lost", record("lost")).await;
    let lost = asked(&stage).await;
    assert_eq!((open.as_str(), lost.as_str()), ("s:1.1.0", "s:2.1.0"));
    stage.daemon.stop().await;

    let timeline = restore(&stage.daemon, backup.path(), "s");
    stage.daemon.start_again().await;
    let waiting = stage.client.get("/v1/approvals").await.expect("an answer");
    assert_eq!(waiting.expect(200), json!({"items": [], "next": null}));
    let void = async |stage: &Stage| {
        for id in [&open, &lost] {
            let reply = answer(stage, id, "approve").await;
            let text = reply.problem(410);
            assert_eq!(
                reply.body["type"], "urn:abide:problem:approval-void",
                "{text}"
            );
        }
    };
    void(&stage).await;
    assert!(abide(&stage.daemon, &["resume", "s"]).status.success());
    let message = stage.send("new", record("new")).await;
    let new = asked(&stage).await;
    assert_eq!(new, format!("s:{timeline}.2.1.0"));
    // The lost approval at the same place was for another call.
    void(&stage).await;
    answer(&stage, &new, "approve").await.expect(200);
    stage.end_of(&message).await;
    let executions = ["one", "lost", "new"].map(|token| stage.executions(token).len());
    assert_eq!(executions, [0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_and_openais_clients_go_on_after_a_cut() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("c", "echo").await;
    client.chat("c", "kept").await;
    let backup = back_up(&daemon);
    daemon.stop().await;
    daemon.start_again().await;

    let mut chat = Command::new(abide_binary())
        .args([
            "--url",
            &format!("http://127.0.0.1:{}", daemon.setup.port),
            "chat",
            "c",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut typed = chat.stdin.take().expect("it is piped");
    // Answers are on standard output, remarks on standard error.
    let (lines, shown) = mpsc::channel();
    read(chat.stdout.take().expect("it is piped"), lines.clone());
    read(chat.stderr.take().expect("it is piped"), lines);
    let until_shown = |what: &str| {
        let mut all = String::new();
        while !all.contains(what) {
            let line = shown.recv_timeout(PATIENCE);
            all.push_str(&line.unwrap_or_else(|_| panic!("no {what:?} in {all:?}")));
            all.push('\n');
        }
    };
    writeln!(typed, "lost").expect("it reads");
    until_shown("#2 user: lost");
    daemon.stop().await;
    let timeline = restore(&daemon, backup.path(), "c");
    daemon.start_again().await;
    let resumed = client.post("/v1/sessions/c/resume", &json!({})).await;
    assert_eq!(
        resumed.expect("an answer").expect(200)["timeline"],
        timeline.as_str()
    );
    until_shown("the session's history was cut");
    writeln!(typed, "again").expect("it reads");
    until_shown("#2 user: again");
    drop(typed);
    assert!(chat.wait().expect("it is ours").success());

    let body = json!({
        "model": "echo", "user": "c", "messages": [{"role": "user", "content": "hi"}],
    });
    // The second is a repetition by the client's library, which finds the first one's message.
    for retry in ["0", "1"] {
        let request = client.request(Method::POST, "/v1/chat/completions");
        let request = request.header("x-stainless-retry-count", retry).json(&body);
        let reply = client.send(request).await.expect("an answer").expect(200);
        assert_eq!(reply["choices"][0]["message"]["content"], "#3 user: hi");
        let id = reply["id"].as_str().expect("an id");
        assert!(id.starts_with(&format!("chatcmpl-{timeline}.m")), "{id}");
    }
    let show = abide(&daemon, &["sessions", "show", "c"]);
    let show = String::from_utf8_lossy(&show.stdout).into_owned();
    assert!(
        show.contains(&timeline) && show.contains("#3 user: hi"),
        "{show}"
    );
}
