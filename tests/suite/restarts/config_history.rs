//! The history of configurations: what the daemon has run on, and the way back from an edit.

use std::fs;
use std::process::Output;

use abide_tests::{Daemon, How, Setup, until};
use serde_json::{Value, json};

fn history(daemon: &Daemon) -> Vec<Value> {
    let output = daemon.abide(&["config", "history", "--json"]);
    if !output.status.success() {
        return Vec::new();
    }
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

/// Waits until the history has that many entries.
async fn history_of(daemon: &Daemon, count: usize) -> Vec<Value> {
    until("the history to be as long", async || {
        let history = history(daemon);
        (history.len() == count).then_some(history)
    })
    .await
}

fn shown(output: &Output) -> String {
    let both = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(both).expect("it writes UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_configuration_is_kept_and_can_be_gone_back_to() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    let file = daemon.folder().join("abide.toml");
    let first = fs::read_to_string(&file).expect("it is there");
    history_of(&daemon, 1).await;

    // At once, then by a restart, then in vain.
    daemon.edit(How::Rename, |setup| setup.grace = "7s".to_owned());
    history_of(&daemon, 2).await;
    daemon.restart_by_edit().await;
    let kept = history_of(&daemon, 3).await;
    let causes: Vec<&str> = kept.iter().filter_map(|it| it["cause"].as_str()).collect();
    assert!(causes[1].contains("shutdown_grace_period"), "{causes:?}");
    assert!(causes[2].contains("plugins.spare"), "{causes:?}");
    assert_eq!(kept[0]["text"], first);
    daemon.write_config("[daemon]\nnonsense = 1\n", How::Rename);
    until("the edit to be refused", async || {
        let status = daemon.status().await;
        status["config"]["last_error"].is_string().then_some(())
    })
    .await;

    let listed = shown(&daemon.abide(&["config", "history"]));
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let second = shown(&daemon.abide(&["config", "history", "2"]));
    assert!(
        second.contains("\n-shutdown_grace_period = \"5s\"\n+shutdown_grace_period = \"7s\"\n"),
        "{second}"
    );
    let text = daemon.abide(&["config", "history", "1", "--text"]);
    assert_eq!(String::from_utf8_lossy(&text.stdout), first);

    let generation = daemon.generation().await;
    let back = daemon.abide(&["config", "rollback", "1"]);
    assert!(back.status.success(), "{}", shown(&back));
    daemon.after_generation(generation).await;
    assert_eq!(fs::read_to_string(&file).expect("it is there"), first);
    let replaced = fs::read_to_string(daemon.folder().join("abide.toml.replaced"));
    assert!(
        replaced
            .expect("what no history has is kept")
            .contains("nonsense")
    );
    let kept = history_of(&daemon, 4).await;
    assert_eq!(kept[3]["text"], first);
    client.chat("s", "still here").await;
    let again = shown(&daemon.abide(&["config", "rollback", "4"]));
    assert!(again.contains("already"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_gone_back_to_is_refused_with_the_reason() {
    let mut daemon = Daemon::start(Setup::default()).await;
    history_of(&daemon, 1).await;
    let plugin = daemon.folder().join("gone.wasm");
    fs::copy(abide_tests::guest("echo"), &plugin).expect("the folder is ours");
    daemon.edit(How::Rename, |setup| setup.spare_path = Some(plugin.clone()));
    history_of(&daemon, 2).await;
    daemon.edit(How::Rename, |setup| setup.spare_path = None);
    history_of(&daemon, 3).await;
    fs::remove_file(&plugin).expect("it is there");
    let before = fs::read(daemon.folder().join("abide.toml")).expect("it is there");
    for (args, reason) in [
        (&["config", "rollback", "2"], "gone.wasm"),
        (&["config", "rollback", "9"], "abide config history"),
    ] {
        let refused = daemon.abide(args);
        assert!(!refused.status.success());
        let text = shown(&refused);
        assert!(text.contains(reason), "{text}");
    }
    let after = fs::read(daemon.folder().join("abide.toml")).expect("it is there");
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_comes_back_whoever_has_the_secrets() {
    let setup = Setup {
        // In the daemon's environment alone.
        token: Some("a-token".to_owned()),
        data_dir: "elsewhere".to_owned(),
        ..Setup::default()
    };
    let daemon = Daemon::start(setup).await;
    let file = daemon.folder().join("abide.toml");
    until("the history to begin", async || {
        (!history(&daemon).is_empty()).then_some(())
    })
    .await;
    let before = fs::read(&file).expect("it is there");
    fs::remove_file(&file).expect("it is there");
    let text = shown(&daemon.abide(&["config", "rollback", "1"]));
    assert!(text.contains("--data-dir"), "{text}");
    let back = daemon.abide(&["config", "rollback", "1", "--data-dir", "elsewhere"]);
    assert!(back.status.success(), "{}", shown(&back));
    assert_eq!(fs::read(&file).expect("it is there again"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_for_a_restart_is_in_the_history_and_the_record() {
    let setup = Setup {
        token: Some("a-token".to_owned()),
        on_change: "ignore".to_owned(),
        ..Setup::default()
    };
    let mut daemon = Daemon::start(setup).await;
    history_of(&daemon, 1).await;
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    let old = daemon.generation().await;
    let asked = daemon.client().post("/v1/daemon/restart", &json!({})).await;
    asked.expect("an answer").expect(202);
    let generation = daemon.after_generation(old).await;
    let kept = history_of(&daemon, 2).await;
    let cause = kept[1]["cause"].as_str().expect("a cause");
    assert!(cause.contains("`config`"), "{cause}");
    let record = daemon.restart_record(generation).await.expect("a record");
    assert!(
        cause.ends_with(record["trigger"].as_str().expect("a trigger")),
        "{record}"
    );
}
