//! Data folders as earlier versions of Abide have left them, by `kill -9`: the present one opens each,
//! misses nothing, works on, and raises its format after its probation. They are in
//! `golden/store-FORMAT`, one for each format, and never change. `ABIDE_BLESS_STORE=BINARY` writes the
//! one of that binary's format, if there is none.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use abide_tests::{CallState, How, guest, until};
use reqwest::Method;
use serde_json::{Value, json};

use self::packed::{pack, unpack};
use self::stage::{GoldenStage, HELD};
use crate::stage::acts;

mod packed;
mod stage;

/// What the API said of the folder just before it was left.
const FACTS: &str = "facts.json";
/// The sessions of a golden folder: one for each state that a session can be left in.
const SESSIONS: [&str; 6] = ["talk", "dead", "timer", "asks", "open", "closed"];
/// Ten years: the timer is there as long as the folder is kept.
const FAR_MS: u64 = 315_360_000_000;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn say(text: &str) -> Value {
    json!([{"act": "say", "text": text}])
}

/// Writes the golden folder of that binary's format, unless it exists.
async fn bless(binary: PathBuf) {
    let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let mut stage = GoldenStage::start(folder, Some(binary)).await;
    let format = stage.format();
    let format = format.split_whitespace().nth(1).expect("a version");
    let target = golden().join(format!("store-{format}"));
    if target.exists() {
        return;
    }
    let client = stage.daemon.client();
    for id in SESSIONS {
        client.open(id, "scripted").await;
    }
    for n in 1..=3 {
        stage
            .perform("talk", &format!("talk {n}"), say("talk"))
            .await;
    }
    stage.perform("closed", "closed", say("once")).await;
    let delete = client.request(Method::DELETE, "/v1/sessions/closed");
    client.send(delete).await.expect("an answer").expect(200);
    let fail = json!([{"act": "fail", "reason": "it was told to"}]);
    stage.perform("dead", "dead", fail).await;
    // What follows is not in tables. No change of the configuration, which would name paths.
    let generation = stage.daemon.generation().await;
    let restart = client.post("/v1/daemon/restart", &json!({})).await;
    restart.expect("an answer").expect(202);
    stage.daemon.after_generation(generation).await;
    let later = json!({"id": "later", "acts": say("later")});
    let timer = json!([{"act": "timer", "name": "later", "after_ms": FAR_MS, "script": later}]);
    stage.perform("timer", "timer", timer).await;
    let asks = json!([{"act": "call", "tool": "note", "token": "asked"}]);
    stage.send("asks", "asks", asks).await;
    stage.approval().await;
    // A second log, which the next worker begins, for it flushes nothing when it starts.
    let generation = stage.daemon.generation().await;
    stage.daemon.kill_worker().await;
    stage.daemon.after_generation(generation).await;
    stage.perform("talk", "talk 4", say("talk")).await;
    let open = json!([
        {"act": "call", "tool": "record", "token": "once"},
        {"act": "llm", "text": format!("open [hold={HELD}]")},
    ]);
    stage.send("open", "open", open).await;
    stage.model.wait_for("open", CallState::Running, 1).await;
    assert_eq!(stage.executions("once"), 1);
    for n in 1..=2 {
        stage
            .send("open", &format!("queued {n}"), say("queued"))
            .await;
    }
    let facts = facts(&stage).await;
    stage.kill().await;
    let component = fs::read(guest("scripted")).expect("the guest is there");
    pack(&stage.daemon.folder().join("data"), &target, &component).await;
    let facts = serde_json::to_string_pretty(&facts).expect("facts are JSON");
    fs::write(target.join(FACTS), facts + "\n").expect("the repository can be written");
}

async fn facts(stage: &GoldenStage) -> Value {
    let mut facts = json!({"sessions": {}, "events": {}});
    for id in SESSIONS.iter().filter(|id| **id != "closed") {
        facts["sessions"][id] = stage.get(&format!("/v1/sessions/{id}")).await;
        facts["events"][id] = stage.events(id).await;
    }
    facts["dead"] = stage.get("/v1/sessions/dead/dead").await["items"].clone();
    facts["approvals"] = stage.get("/v1/approvals").await["items"].clone();
    facts["restarts"] = stage.get("/v1/daemon/restarts").await["items"].clone();
    facts
}

/// Returns whether `now` holds all that `was` holds: a later version may say more.
fn includes(now: &Value, was: &Value) -> bool {
    match (now, was) {
        (Value::Object(now), Value::Object(was)) => was.iter().all(|(key, was)| {
            let now = now.get(key).unwrap_or(&Value::Null);
            includes(now, was)
        }),
        (Value::Array(now), Value::Array(was)) => {
            now.len() == was.len() && now.iter().zip(was).all(|(now, was)| includes(now, was))
        }
        _ => now == was,
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// Checks that nothing of the golden folder is missing.
async fn check(stage: &GoldenStage, facts: &Value) {
    for id in SESSIONS.iter().filter(|id| **id != "closed") {
        let events = stage.events(id).await;
        let was = items(&facts["events"][id]);
        for (n, was) in was.iter().enumerate() {
            assert!(includes(&events[n], was), "{id}: {} was {was}", events[n]);
        }
        let session = stage.get(&format!("/v1/sessions/{id}")).await;
        let turns = |session: &Value| session["turns"].as_u64();
        let was = &facts["sessions"][id];
        assert!(turns(&session) >= turns(was), "{session} was {was}");
    }
    let timer = stage.get("/v1/sessions/timer").await;
    assert_eq!(timer["timers"], 1, "{timer}");
    let gone = stage.daemon.client().get("/v1/sessions/closed").await;
    gone.expect("an answer").problem(410);
    let closed = stage.get("/v1/sessions?state=closed").await;
    assert_eq!(closed["items"][0]["id"], "closed");
    let restarts = stage.get("/v1/daemon/restarts").await;
    // The latest was in probation, and is over now.
    for was in items(&facts["restarts"]).iter().skip(1) {
        let mut restarts = items(&restarts["items"]).iter();
        let now = restarts.find(|now| now["generation"] == was["generation"]);
        assert!(
            now.is_some_and(|now| includes(now, was)),
            "{now:?} was {was}"
        );
    }
}

/// Checks that each session of a golden folder goes on.
async fn work_on(stage: &GoldenStage, facts: &Value) {
    let client = stage.daemon.client();
    // The open turn's call is not done again, and what waited comes after it.
    stage.model.wait_for("open", CallState::Running, 1).await;
    stage.model.release(HELD);
    let session = client.until_idle("open").await;
    assert_eq!(session["turns"], 3, "{session}");
    let ended: Vec<_> = client.events("open", 0).await;
    let scripts: Vec<String> = ended
        .iter()
        .filter(|event| event.is_from("assistant"))
        .filter_map(|event| event.said().strip_prefix("done ").map(str::to_owned))
        .collect();
    assert_eq!(scripts, ["open #1", "queued 1 #2", "queued 2 #3"]);
    assert!(
        acts(&ended).contains(&"call once ok".to_owned()),
        "{ended:?}"
    );
    assert_eq!(stage.executions("once"), 0);

    let letters = client.dead_letters("dead").await;
    let was = items(&facts["dead"]);
    assert!(
        letters.len() == 1 && includes(&letters[0], &was[0]),
        "{letters:?}"
    );
    let message = &letters[0]["message"]["id"];
    let retry = json!({"message": message});
    let reply = client.post("/v1/sessions/dead/retry", &retry).await;
    let reply = reply.expect("an answer");
    assert!(reply.status < 300, "{reply:?}");
    until("it to fail again", async || {
        let letters = client.dead_letters("dead").await;
        let again = letters.first()?["turn"] != was[0]["turn"];
        again.then_some(())
    })
    .await;

    let approval = stage.approval().await;
    assert_eq!(facts["approvals"][0]["id"], approval.as_str());
    assert_eq!(client.session("asks").await["state"], "parked");
    assert_eq!(stage.executions("asked"), 0);
    let decision = json!({"decision": "approve"});
    let answer = client.decide(&approval, &decision).await;
    answer.expect("an answer").expect(200);
    client.until_idle("asks").await;
    assert_eq!(stage.executions("asked"), 1);

    let turns = facts["sessions"]["talk"]["turns"]
        .as_u64()
        .expect("a count");
    let events = stage.perform("talk", "more", say("more")).await;
    let done = format!("done more #{}", turns + 1);
    assert!(
        events.iter().any(|event| event.said() == done),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_of_all_formats_are_opened_and_go_on() {
    if let Some(binary) = env::var_os("ABIDE_BLESS_STORE") {
        bless(PathBuf::from(binary)).await;
    }
    let folders = fs::read_dir(golden()).expect("golden files are there");
    let folders = folders.map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.join(FACTS).exists()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "there is no golden store");
    for golden in folders {
        let facts = fs::read(golden.join(FACTS)).expect("it is there");
        let facts: Value = serde_json::from_slice(&facts).expect("facts are JSON");
        let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
        unpack(&golden, &folder.path().join("data")).await;
        let before = fs::read_to_string(folder.path().join("data/FORMAT")).expect("a format");
        let mut stage = GoldenStage::start(folder, None).await;
        check(&stage, &facts).await;
        work_on(&stage, &facts).await;
        // In probation, so that the version before can still open it.
        assert_eq!(stage.format(), before);
        stage.kill().await;
        stage.daemon.start_again().await;
        assert_eq!(stage.format(), before);
        check(&stage, &facts).await;

        let old = stage.daemon.generation().await;
        stage.daemon.edit(How::Rename, |setup| {
            setup.daemon = vec!["probation = \"100ms\"".to_owned()];
            setup.spare += 1;
        });
        let generation = stage.daemon.after_generation(old).await;
        let is_over = |record: &Value| record["status"] == "completed";
        stage.daemon.restart_record_when(generation, is_over).await;
        assert_eq!(stage.format(), "abide-store 2 control components points\n");
        stage.kill().await;
        stage.daemon.start_again().await;
        check(&stage, &facts).await;
        let events = stage.perform("talk", "last", say("last")).await;
        assert!(
            events
                .iter()
                .any(|event| event.said().starts_with("done last"))
        );
    }
}
