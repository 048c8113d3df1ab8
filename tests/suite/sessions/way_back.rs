//! The ways back of a session: it is rewound to an earlier state, and forked.

use abide_tests::{Client, Event, until, variant};
use serde_json::{Value, json};

use super::approvals::asking;
use super::exports::{export, snapshot};
use super::fall_back::{Changing, Then, done, whatever_they_were_doing};
use crate::stage::Stage;

/// Returns the cursor of the restore point after a turn.
async fn point(client: &Client, id: &str, turn: u64) -> u64 {
    let listed = client.get(&format!("/v1/sessions/{id}/points")).await;
    let listed = listed.expect("an answer").expect(200);
    let points = listed["items"].as_array().expect("a list");
    let found = points.iter().find(|point| point["turn"] == turn);
    let found = found.unwrap_or_else(|| panic!("no point of turn {turn}: {listed}"));
    found["cursor"].as_u64().expect("a cursor")
}

async fn rewind(client: &Client, id: &str, turn: u64) -> Value {
    let to = point(client, id, turn).await.to_string();
    let path = format!("/v1/sessions/{id}/rewind");
    let reply = client.post(&path, &json!({ "to": to })).await;
    reply.expect("an answer").expect(200)
}

/// Returns the only recovery message, as the guest reported it in the last turn.
pub(super) fn told(events: &[Event]) -> String {
    let last = events.last().and_then(|event| event.turn);
    let of_last = events.iter().filter(|event| event.turn == last);
    let mut notices = of_last.filter(|event| event.kind == "notice");
    let notice = notices.next().expect("it was told");
    assert!(notices.next().is_none(), "it was told twice");
    notice.text.clone().expect("a text")
}

pub(super) async fn past_probation() -> Stage {
    let stage = Stage::start(|mut setup| {
        setup.daemon.push("probation = \"100ms\"".to_owned());
        asking(setup.grace("30s"), "")
    })
    .await;
    stage.daemon.until_past_probation().await;
    stage
}

pub(super) fn call(token: &str) -> Value {
    json!([{"act": "call", "tool": "note", "token": token}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_back_and_its_guest_is_told_what_cannot_be_undone() {
    let it = past_probation().await;
    let client = &it.client;
    for token in ["a", "b", "c"] {
        it.perform(token, call(token)).await;
    }
    let before = client.events("s", 0).await;
    let kept = snapshot(&export(
        &it,
        &["s", "--at", &point(client, "s", 1).await.to_string()],
    ));

    let said = it.daemon.abide_says(&[
        "sessions",
        "rewind",
        "s",
        "--to",
        &point(client, "s", 1).await.to_string(),
    ]);
    assert!(said.contains("as it was after turn 1"), "{said}");
    assert!(
        said.contains("2 undone turns did something outside"),
        "{said}"
    );
    assert_eq!(snapshot(&export(&it, &["s"])), kept, "the same bytes");
    // A death comes between.
    it.daemon.kill_worker().await;
    let after = it.perform("d", json!([])).await;
    let mut said = after.iter().filter_map(|event| event.text.as_deref());
    assert_eq!(said.next_back(), Some("done d #2"));
    let text = told(&after);
    for part in ["as it was after turn 1", "note", "\"b\"", "\"c\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("\"a\""), "{text}");
    // Nothing was done twice, and what clients have seen stays.
    for token in ["a", "b", "c"] {
        assert_eq!(it.executions(token).len(), 1, "{token}");
    }
    let events = client.events("s", 0).await;
    assert_eq!(events[..before.len()], before[..]);
    assert_eq!(events[before.len()].kind, "rewound");
    let cursors: Vec<u64> = events.iter().map(|event| event.cursor).collect();
    assert!(cursors.into_iter().eq(1..=events.len() as u64));
    let session = client.session("s").await;
    assert_eq!(
        (&session["turns"], &session["dead"]),
        (&json!(4), &json!(0))
    );

    // The way back from the way back.
    rewind(client, "s", 3).await;
    let again = it.perform("e", json!([])).await;
    let mut said = again.iter().filter_map(|event| event.text.as_deref());
    assert_eq!(said.next_back(), Some("done e #4"));
    let none = client
        .post("/v1/sessions/s/rewind", &json!({"to": "1"}))
        .await;
    let text = none.expect("an answer").problem(404);
    assert!(text.contains("points"), "{text}");
    let present = client.session("s").await["cursor"].to_string();
    let none = client
        .post("/v1/sessions/s/rewind", &json!({ "to": present }))
        .await;
    none.expect("an answer").problem(409);
    let points = it.daemon.abide_says(&["sessions", "points", "s"]);
    assert!(
        points.contains("before a rewind") && points.contains("present"),
        "{points}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_turn_and_a_parked_one_end_and_what_waits_stays() {
    let it = past_probation().await;
    let client = &it.client;
    it.perform("first", json!([])).await;
    it.perform("second", json!([])).await;
    let slow = json!([
        {"act": "call", "tool": "note", "token": "slow", "sleep_ms": 30000},
    ]);
    let open = it.send("open", slow).await;
    let waiting = it.send("waiting", json!([])).await;
    it.events_when("the call to begin", |events| {
        events.iter().any(|event| event.kind == "tool")
    })
    .await;
    let answer = rewind(client, "s", 1).await;
    assert_eq!(answer["rewound"]["cancelled"], 3, "{answer}");
    let events = client.events_once_ended("s", &waiting).await;
    let of_open: Vec<_> = events.iter().filter(|event| event.ends(&open)).collect();
    assert_eq!(of_open.len(), 1);
    assert_eq!(of_open[0].status.as_deref(), Some("failed"));
    assert!(told(&events).contains("Nobody knows"), "{}", told(&events));
    let mut said = events.iter().filter_map(|event| event.text.as_deref());
    assert_eq!(said.next_back(), Some("done waiting #2"));

    let record = json!([{"act": "call", "tool": "record", "token": "asked"}]);
    it.send("parked", record).await;
    until("the call to wait for a human", async || {
        (client.session("s").await["state"] == "parked").then_some(())
    })
    .await;
    rewind(client, "s", 1).await;
    assert_eq!(client.session("s").await["state"], "idle");
    let waits = client.get("/v1/approvals").await;
    let waits = waits.expect("an answer").expect(200);
    assert_eq!(waits["items"], json!([]));
    let last = it.perform("last", json!([])).await;
    assert!(
        last.iter()
            .any(|event| event.text.as_deref() == Some("done last #2"))
    );
    assert_eq!(it.executions("asked").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_go_back_with_the_state() {
    let it = past_probation().await;
    let client = &it.client;
    let timer = |name: &str, after_ms: u64| {
        let script = json!({"id": name, "acts": []});
        json!({"act": "timer", "name": name, "after_ms": after_ms, "script": script})
    };
    it.perform("one", json!([timer("fires", 1), timer("stays", 3_600_000)]))
        .await;
    until("the timer's turn", async || {
        (client.session("s").await["turns"] == 2).then_some(())
    })
    .await;
    it.perform("three", json!([timer("later", 3_600_000)]))
        .await;
    let answer = rewind(client, "s", 1).await["rewound"].clone();
    let names = |of: &str| -> Vec<String> {
        let timers = answer[of].as_array().expect("a list").iter();
        timers
            .map(|timer| timer["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names("dropped_timers"), ["later"], "{answer}");
    assert_eq!(names("fired_timers"), ["fires"], "{answer}");
    assert_eq!(client.session("s").await["timers"], 1);
    let text = told(&it.perform("four", json!([])).await);
    assert!(text.contains("later") && text.contains("fires"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_lost_the_state_is_gone_back_behind() {
    let it = Changing::start("plain", &[]).await;
    for turn in 1..=3 {
        assert_eq!(it.turn("s").await, done(turn));
    }
    it.change("renamed").await;
    assert_eq!(it.turn("s").await, done(4));
    let forced = it.stage.daemon.abide(&["plugin", "adopt", "s", "--force"]);
    assert!(forced.status.success(), "{forced:?}");
    assert_eq!(it.turn("s").await, done(1));
    for turn in 2..=20 {
        assert_eq!(it.turn("s").await, done(turn));
    }
    // The last turns are not enough for that.
    let client = &it.stage.client;
    let answer = rewind(client, "s", 4).await;
    assert!(answer["session"].get("pinned").is_some(), "{answer}");
    assert_eq!(it.turn("s").await, done(5));
    it.stage.daemon.kill_worker().await;
    assert_eq!(it.turn("s").await, done(6));
    let repaired = variant("added");
    it.replace(&repaired).await;
    assert_eq!(
        it.turn("s").await,
        done(7),
        "the repaired one takes it over"
    );
    assert_eq!(it.session("s").await.get("pinned"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_sessions_were_doing_they_are_gone_back_behind_it() {
    let renamed = variant("renamed");
    let (it, ended) = whatever_they_were_doing("plain", &renamed, Then::StayWithState).await;
    let adopted = ["plugin", "adopt", "--all", "--force"];
    it.stage.daemon.abide_says(&adopted);
    for (id, turns) in ended {
        assert_eq!(it.turn(id).await, done(1), "{id}");
        let answer = rewind(&it.stage.client, id, turns).await;
        assert!(answer["session"].get("pinned").is_some(), "{answer}");
        assert_eq!(it.turn(id).await, done(turns + 1), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_goes_on_apart() {
    let it = past_probation().await;
    let client = &it.client;
    let label = json!({"plugin": "scripted", "labels": {"team": "x"}});
    client
        .put("s", &label)
        .await
        .expect("an answer")
        .expect(200);
    for token in ["a", "b"] {
        it.perform(token, call(token)).await;
    }
    let tick = json!({"id": "tick", "acts": []});
    let timer = json!([{"act": "timer", "name": "tick", "after_ms": 3_600_000, "script": tick}]);
    it.perform("c", timer).await;
    let at = point(client, "s", 1).await;
    let body = json!({"id": "from/one", "at": at.to_string()});
    let forked = client.post("/v1/sessions/s/fork", &body).await;
    let forked = forked.expect("an answer").expect(201);
    assert_eq!(forked["session"]["labels"]["team"], "x");
    assert_eq!(
        (&forked["session"]["turns"], &forked["oldest"]),
        (&json!(1), &json!(1))
    );
    let whole = it.daemon.abide_says(&["sessions", "fork", "s", "whole"]);
    assert!(whole.contains("timer tick"), "{whole}");
    let source = client.events("s", 0).await;
    for (id, upto, turns) in [("from%2Fone", at as usize, 2), ("whole", source.len(), 4)] {
        let events = client.events(&id.replace("%2F", "/"), 0).await;
        assert_eq!(events[..upto], source[..upto], "{id}");
        assert_eq!(
            (events.len(), events[upto].kind.as_str()),
            (upto + 1, "origin"),
            "{id}"
        );
        let id = id.replace("%2F", "/");
        let script = json!({"id": "x", "acts": call(&format!("of {id}"))}).to_string();
        let posted = client.chat(&id, &script).await;
        assert_eq!(posted.said().last(), Some(&&*done(turns)), "{id}");
    }
    let events = client.events("from/one", 0).await;
    let text = told(&events);
    for part in ["fork", "session s was after turn 1", "\"b\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("\"a\""), "{text}");
    let text = told(&client.events("whole", 0).await);
    assert!(text.contains("tick") && !text.contains("\"b\""), "{text}");
    // The source is as it was.
    assert_eq!(client.events("s", 0).await, source);
    let taken = client
        .post("/v1/sessions/s/fork", &json!({"id": "whole"}))
        .await;
    let text = taken.expect("an answer").problem(409);
    assert!(text.contains("another id"), "{text}");
    it.daemon.kill_worker().await;
    let posted = client
        .chat("whole", &json!({"id": "x", "acts": []}).to_string())
        .await;
    assert_eq!(posted.said().last(), Some(&&*done(5)));
}
