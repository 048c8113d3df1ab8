//! A new component is tried on copies of sessions before it counts: what that foretells, and that nothing
//! of it takes effect.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use abide_tests::{How, Setup, until, variant};
use serde_json::{Value, json};

use super::fall_back::{Changing, done};

/// Returns what the trial of a restart has found.
async fn trial(it: &Changing, generation: u64) -> Value {
    let record = it.stage.daemon.restart_record(generation).await;
    record.expect("it is recorded")["trial"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_foretold_in_words_and_taken_only_by_force() {
    let it = Changing::start("plain", &[]).await;
    let (daemon, client) = (&it.stage.daemon, &it.stage.client);
    client.open("t", "scripted").await;
    client.open("other", "hostile").await;
    assert_eq!((it.turn("s").await, it.turn("t").await), (done(1), done(1)));
    let generation = it.change("renamed").await;

    let found = trial(&it, generation).await;
    assert_eq!(found[0]["plugin"], "scripted", "{found}");
    assert_eq!(
        (&found[0]["sessions"], &found[0]["suspect"]),
        (&json!(2), &json!(2)),
        "{found}"
    );
    assert_eq!(found[1], Value::Null, "{found}");
    let said = daemon.abide_says(&["restarts", &generation.to_string()]);
    for part in [
        "of 2 sessions",
        "lose a part of their state",
        "`turns`",
        "schema",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // As it was foretold, and in the same words.
    assert_eq!(it.turn("s").await, done(2));
    let session = it.session("s").await;
    let reason = session["pinned"]["reason"].as_str().expect("it is pinned");
    let text = found[0]["stay"][0]["text"].as_str().expect("a text");
    assert_eq!(reason, text);
    let refused = daemon.abide(&["plugin", "adopt", "s"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(
        text.contains("`turns`") && text.contains("`force`"),
        "{text}"
    );

    let forced = daemon.abide_says(&["plugin", "adopt", "s", "--force"]);
    assert!(!forced.contains("faulted"), "{forced}");
    // What an operator has decided outlives the worker.
    daemon.kill_worker().await;
    assert_eq!(it.turn("s").await, done(1));
    assert_eq!(it.session("s").await.get("pinned"), None);
    assert_eq!(it.turn("t").await, done(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_not_all_survive_is_refused_where_that_is_asked_for() {
    let refuse = ["on_failed_trial = \"refuse\""];
    let it = Changing::with_daemon("plain", &refuse).await;
    let daemon = &it.stage.daemon;
    assert_eq!(it.turn("s").await, done(1));
    let generation = daemon.generation().await;
    it.put(&variant("retyped"));
    let refused = until("the refusal", async || {
        let record = daemon.restart_record(generation + 1).await?;
        (record["status"] == "refused").then_some(record)
    })
    .await;
    let reason = refused["reason"].as_str().expect("a reason");
    for part in ["scripted", "expected a string", "on_failed_trial"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert_eq!(refused["trial"][0]["failed"], 1, "{refused}");
    // Nothing was drained, and turns go on.
    assert_eq!(daemon.generation().await, generation);
    assert_eq!(it.turn("s").await, done(2));
    assert_eq!(it.session("s").await.get("pinned"), None);
    let status = daemon.abide_says(&["status"]);
    assert!(status.contains("expected a string"), "{status}");

    it.change("added").await;
    assert_eq!(it.turn("s").await, done(3));
    assert_eq!(it.session("s").await.get("pinned"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_turn_that_fails_now_keeps_its_session_where_it_is() {
    let it = Changing::start("plain", &[]).await;
    let call = json!([{"act": "call", "tool": "note", "token": "once"}]);
    it.stage.perform("m", call).await;
    let generation = it.change("bad-turns").await;
    let found = trial(&it, generation).await;
    assert_eq!(found[0]["failed"], 1, "{found}");
    assert_eq!(it.turn("s").await, done(2));
    let session = it.session("s").await;
    let reason = session["pinned"]["reason"].as_str().expect("it is pinned");
    assert!(reason.contains("its last turn"), "{reason}");
    // Neither trial has made its call.
    assert_eq!(it.stage.executions("once").len(), 1);
    assert_eq!(session["dead"], 0, "{session}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_steps_than_before_are_told_and_hinder_nothing() {
    let it = Changing::start("plain", &[]).await;
    let calls = json!([
        {"act": "call", "tool": "note", "token": "first"},
        {"act": "call", "tool": "note", "token": "second"},
    ]);
    it.stage.perform("m", calls).await;
    let generation = it.change("other-turns").await;
    let found = trial(&it, generation).await;
    assert_eq!(
        (&found[0]["passed"], &found[0]["differ"]),
        (&json!(1), &json!(1)),
        "{found}"
    );
    let said = it
        .stage
        .daemon
        .abide_says(&["restarts", &generation.to_string()]);
    assert!(said.contains("with other steps than before"), "{said}");
    it.turn("s").await;
    assert_eq!(it.session("s").await.get("pinned"), None);
    for token in ["first", "second"] {
        assert_eq!(it.stage.executions(token).len(), 1, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_budget_each_session_is_tried_before_its_turn() {
    let it = Changing::with_daemon("plain", &["trial_budget = \"0s\""]).await;
    assert_eq!(it.turn("s").await, done(1));
    let generation = it.change("renamed").await;
    assert_eq!(trial(&it, generation).await, json!([]));
    assert_eq!(it.turn("s").await, done(2));
    let session = it.session("s").await;
    let reason = session["pinned"]["reason"].as_str().expect("it is pinned");
    assert!(reason.contains("`turns`"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_tried_on_sessions_before_it_is_deployed() {
    let mut it = Changing::start("plain", &[]).await;
    it.stage.client.open("t", "scripted").await;
    assert_eq!((it.turn("s").await, it.turn("t").await), (done(1), done(1)));
    let folder = it.stage.daemon.folder().to_owned();
    for name in ["renamed", "added"] {
        fs::write(folder.join(name), variant(name)).expect("the folder is ours");
    }
    it.stage.daemon.abide_says(&["backup", "saved"]);
    it.stage
        .daemon
        .abide_says(&["sessions", "export", "s", "s.abide"]);
    let check = |it: &Changing, file: &str, against: &str| {
        let args = [
            "plugin",
            "check",
            file,
            "--plugin",
            "scripted",
            "--against",
            against,
        ];
        let checked = it.stage.daemon.abide(&args);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        (checked.status.code(), said)
    };
    let compare = |it: &Changing, against: &str, sessions: &[&str]| {
        let (code, said) = check(it, "renamed", against);
        assert_eq!(code, Some(1), "{against}: {said}");
        let count = sessions.len();
        let of = format!("of {count} session");
        let lose = format!("{count} would lose a part of their state");
        for part in [&of, &lose, "`turns`"] {
            assert!(said.contains(part), "{against}: {part}: {said}");
        }
        for id in sessions {
            // Those of one reason share a line.
            let names = |line: &str| {
                let ids = line.split_once("suspect").map(|(ids, _)| ids);
                ids.is_some_and(|ids| ids.split([',', ' ']).any(|word| word == *id))
            };
            assert!(said.lines().any(names), "{against}: {said}");
        }
        let (code, said) = check(it, "added", against);
        assert_eq!(code, Some(0), "{against}: {said}");
        assert!(
            said.contains(&format!("it carries on {count}")),
            "{against}: {said}"
        );
    };
    let url = format!("http://127.0.0.1:{}", it.stage.daemon.setup.port);
    compare(&it, &url, &["s", "t"]);
    compare(&it, "saved", &["s", "t"]);
    compare(&it, "s.abide", &["s"]);
    let (code, _) = check(&it, "added", "data");
    assert_eq!(code, Some(1), "a daemon uses it");
    // Nothing came of it.
    assert_eq!(it.turn("s").await, done(2));
    assert_eq!(it.session("s").await.get("pinned"), None);

    it.stage.daemon.stop().await;
    let before = files(&folder.join("data"));
    compare(&it, "data", &["s", "t"]);
    assert_eq!(files(&folder.join("data")), before);
    it.stage.daemon.start_again().await;
    assert_eq!(it.turn("s").await, done(3));
}

/// Returns the content of all files in a folder and below, but for its lock.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.ends_with("LOCK") => {}
            false => drop(found.insert(path.clone(), fs::read(&path).expect("it can be read"))),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn who_retires_a_component_has_not_given_up_a_state() {
    let it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    let session = it.session("s").await;
    let old = session["component"].as_str().expect("a digest").to_owned();
    it.change("renamed").await;
    assert_eq!(it.turn("s").await, done(2));
    let retired = it
        .stage
        .daemon
        .abide_says(&["plugin", "retire", &old[..12]]);
    assert!(retired.contains("faulted"), "{retired}");
    assert_eq!(it.session("s").await["state"], "faulted");
    it.stage.daemon.abide_says(&["resume", "s"]);
    assert_eq!(it.turn("s").await, done(3));
    assert!(it.session("s").await.get("pinned").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_turn_that_fails_now_can_be_passed_over() {
    // Else the component before would answer in its place.
    let it = Changing::with_daemon("plain", &["canary = \"off\""]).await;
    assert_eq!(it.turn("s").await, done(1));
    it.change("bad-turns").await;
    assert_eq!(it.turn("s").await, done(2));
    let refused = it.stage.daemon.abide(&["plugin", "adopt", "s"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let forced = it
        .stage
        .daemon
        .abide_says(&["plugin", "adopt", "s", "--force"]);
    assert!(!forced.contains("faulted"), "{forced}");
    assert_eq!(it.session("s").await["state"], "idle");
    // It runs there, such as it is.
    let failed = it
        .stage
        .client
        .ask("s", "{\"id\":\"x\",\"acts\":[]}", None)
        .await;
    assert_eq!(failed.expect("accepted").outcome.as_deref(), Some("failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_edit_brings_a_component_and_what_is_to_become_of_sessions() {
    let mut it = Changing::with_daemon("plain", &["on_failed_trial = \"refuse\""]).await;
    assert_eq!(it.turn("s").await, done(1));
    let generation = it.stage.daemon.generation().await;
    let path = it.stage.daemon.folder().join("retyped.wasm");
    fs::write(&path, variant("retyped")).expect("the folder is ours");
    it.stage.daemon.edit(How::Rename, |setup| {
        setup
            .daemon
            .retain(|line| !line.contains("on_failed_trial"));
        let plugin = setup.plugins.iter_mut().find(|it| it.name == "scripted");
        plugin.expect("the stage has it").path = path;
    });
    it.stage.daemon.after_generation(generation).await;
    assert_eq!(it.turn("s").await, done(2));
    assert!(it.session("s").await.get("pinned").is_some());
}

/// Returns what the daemon would do about a file.
async fn plan(it: &Changing, setup: &Setup) -> Value {
    let config = json!({"config": setup.toml()});
    let planned = it.stage.client.post("/v1/daemon/plan", &config).await;
    planned.expect("an answer").expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_tells_beforehand_what_the_restart_record_says() {
    let mut it = Changing::start("plain", &[]).await;
    it.stage.daemon.edit(How::Rename, |setup| {
        setup.on_change = "ignore".to_owned();
    });
    let (daemon, client) = (&it.stage.daemon, &it.stage.client);
    let keep = daemon.setup.clone();
    until("the rule to be in force", async || {
        (plan(&it, &keep).await["on_config_change"] == "ignore").then_some(())
    })
    .await;
    client.open("fresh", "scripted").await;
    client.open("other", "hostile").await;
    assert_eq!(it.turn("s").await, done(1));
    let old = it.session("s").await["component"].clone();
    let generation = daemon.generation().await;
    it.put(&variant("bad-turns"));

    let planned = plan(&it, &keep).await;
    assert_eq!(planned["verdict"], "ignored", "{planned}");
    let trial = planned["trial"].clone();
    let counts = ["sessions", "passed", "failed", "untried"].map(|key| &trial[0][key]);
    assert_eq!(
        counts,
        [&json!(2), &json!(1), &json!(1), &json!(0)],
        "{planned}"
    );
    assert_eq!(trial[0]["stay"][0]["id"], "s", "{planned}");
    assert_eq!(trial[1], Value::Null, "{planned}");
    let said = daemon.abide_says(&["config", "plan"]);
    for part in [
        "on_config_change",
        "of 2 sessions it carries on 1",
        "1 it cannot carry on",
        "its last turn",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Nothing came of it.
    assert_eq!(daemon.generation().await, generation);
    let session = it.session("s").await;
    assert_eq!((&session["component"], session.get("pinned")), (&old, None));

    let mut refuse = keep.clone();
    refuse
        .daemon
        .push("on_failed_trial = \"refuse\"".to_owned());
    let refused = plan(&it, &refuse).await;
    assert_eq!(refused["verdict"], "refused", "{refused}");
    assert_eq!(refused["trial"], trial);
    daemon.write_config(&refuse.toml(), How::Rename);
    let restarted = daemon.abide(&["restart"]);
    assert_eq!(restarted.status.code(), Some(1), "{restarted:?}");
    let record = daemon.restart_record(generation + 1).await;
    let record = record.expect("it is recorded");
    assert_eq!(record["status"], "refused", "{record}");
    assert_eq!(record["reason"], refused["problems"][0]["text"], "{record}");
    assert_eq!(record["trial"], trial, "{record}");

    daemon.write_config(&keep.toml(), How::Rename);
    daemon.abide_says(&["restart"]);
    let generation = daemon.after_generation(generation).await;
    let record = daemon.restart_record(generation).await;
    let record = record.expect("it is recorded");
    assert_eq!(record["trial"], trial, "{record}");
    assert_eq!(it.turn("s").await, done(2));
    assert_eq!(it.session("s").await["component"], old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_leaves_out_what_the_restart_would_and_refuses_what_does_not_load() {
    let mut it = Changing::start("plain", &[]).await;
    assert_eq!(it.turn("s").await, done(1));
    let folder = it.stage.daemon.folder().to_owned();
    let with = |setup: &Setup, name: &str, component: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, component).expect("the folder is ours");
        let mut setup = setup.clone();
        let plugin = setup.plugins.iter_mut().find(|it| it.name == "scripted");
        plugin.expect("the stage has it").path = path;
        setup
    };
    let now = it.stage.daemon.setup.clone();
    let mut hasty = with(&now, "retyped.wasm", &variant("retyped"));
    assert_eq!(plan(&it, &hasty).await["trial"][0]["failed"], 1);
    hasty.daemon.retain(|line| !line.contains("trial_budget"));
    hasty.daemon.push("trial_budget = \"0s\"".to_owned());
    let planned = plan(&it, &hasty).await;
    assert_eq!(planned["verdict"], "restart", "{planned}");
    assert_eq!(planned["trial"], json!([]), "{planned}");

    // It has the first bytes of a component, and nothing else.
    let broken = with(&now, "broken.wasm", b"\0asm\x0d\0\x01\0");
    let planned = plan(&it, &broken).await;
    assert_eq!(planned["verdict"], "refused", "{planned}");
    assert_eq!(planned["trial"], json!([]), "{planned}");
    let text = planned["problems"][0]["text"].as_str().expect("a text");
    assert!(text.contains("plugins.scripted.path"), "{text}");
    it.stage
        .daemon
        .edit(How::Rename, |setup| *setup = broken.clone());
    until("the same refusal", async || {
        let status = it.stage.daemon.status().await;
        let error = status["config"]["last_error"].as_str()?;
        error.contains(text).then_some(())
    })
    .await;
    assert_eq!(it.turn("s").await, done(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_shows_how_far_a_trial_is() {
    let it = Changing::start("plain", &[]).await;
    let daemon = &it.stage.daemon;
    for id in ["t", "u", "v"] {
        it.stage.client.open(id, "scripted").await;
    }
    let generation = daemon.generation().await;
    // Each takes the second that its guest may compute.
    it.put(&variant("loop"));
    until("a trial that goes on", async || {
        let status = daemon.status().await;
        let restart = &status["restart"];
        let trial = &restart["trial"][0];
        let goes_on = restart["status"] == "running" && trial["untried"].as_u64()? > 0;
        if !goes_on || trial["sessions"] != 4 {
            return None;
        }
        let said = String::from_utf8(daemon.abide(&["status"]).stdout).ok()?;
        let line = said.lines().find(|line| line.contains("trying:"))?;
        assert!(line.contains("plugin `scripted`"), "{said}");
        line.contains("were not tried yet").then_some(())
    })
    .await;
    let generation = daemon.after_generation(generation).await;
    assert_eq!(trial(&it, generation).await[0]["failed"], 4);
}
