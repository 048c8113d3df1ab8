//! What has to complete a probation, and what happens if it does not; and changes that need no
//! restart.

use std::fs;

use abide_tests::{Daemon, How, Setup, Signal, guest, signal, until};
use serde_json::{Value, json};

/// Starts a daemon whose configuration has completed its probation, with a session that has had a
/// turn.
async fn proven() -> Daemon {
    let mut setup = Setup::default();
    setup.daemon.push("probation = \"100ms\"".to_owned());
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    assert_eq!(
        client.chat("s", "hi").await.said().last(),
        Some(&"#1 user: hi")
    );
    completed(&daemon, 1).await;
    daemon
}

async fn completed(daemon: &Daemon, generation: u64) {
    let is_over = |record: &Value| record["status"] == "completed";
    daemon.restart_record_when(generation, is_over).await;
}

/// Makes a change that needs a restart and whose probation is long.
async fn put_on_trial(daemon: &mut Daemon) -> u64 {
    let old = daemon.generation().await;
    daemon.edit(How::Rename, |setup| {
        setup.daemon.retain(|line| !line.starts_with("probation"));
        setup.daemon.push("probation = \"10m\"".to_owned());
        setup.spare += 1;
    });
    daemon.after_generation(old).await
}

async fn error_that_names(daemon: &Daemon, what: &str) -> String {
    until("the error to be told", async || {
        let status = daemon.status().await;
        let error = status["config"]["last_error"].as_str()?.to_owned();
        error.contains(what).then_some(error)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_within_its_probation_is_rolled_back_and_not_tried_again() {
    let mut daemon = proven().await;
    let good = daemon.status().await["config"]["digest"].clone();
    let tried = put_on_trial(&mut daemon).await;
    signal(daemon.worker_pid().await, Signal::ABORT);
    let after = daemon.after_generation(tried).await;
    assert_eq!(after, tried + 1);
    assert_eq!(daemon.status().await["config"]["digest"], good);
    let record = daemon.restart_record(tried).await.expect("its record");
    assert_eq!(record["status"], "rolled_back");
    let reason = record["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("SIGABRT"), "{reason}");
    error_that_names(&daemon, "rolled back").await;
    let answer = daemon.client().chat("s", "ho").await;
    assert_eq!(answer.said().last(), Some(&"#2 user: ho"));

    // A start of the whole daemon does not help either: the worker dies of it once more, and the
    // daemon returns to the persisted configuration.
    daemon.stop().await;
    daemon.start_again().await;
    let old = daemon.generation().await;
    signal(daemon.worker_pid().await, Signal::ABORT);
    let again = daemon.after_generation(old).await;
    assert_eq!(daemon.status().await["config"]["digest"], good);
    error_that_names(&daemon, "rolled back").await;

    // A corrected file is applied.
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    daemon.after_generation(again).await;
    let answer = daemon.client().chat("s", "hu").await;
    assert_eq!(answer.said().last(), Some(&"#3 user: hu"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_from_outside_rolls_nothing_back() {
    let mut daemon = proven().await;
    let tried = put_on_trial(&mut daemon).await;
    let digest = daemon.status().await["config"]["digest"].clone();
    daemon.kill_worker().await;
    daemon.after_generation(tried).await;
    assert_eq!(daemon.status().await["config"]["digest"], digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_brings_back_the_component_that_ran_whatever_lies_in_its_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("spare.wasm");
    fs::copy(guest("echo"), &path).expect("a copy");
    let setup = Setup {
        spare_path: Some(path.clone()),
        ..Setup::default()
    };
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("s", "spare0").await;
    client.chat("s", "hi").await;
    for content in [Some(&b"\0asm\x0d\0\x01\0 no component"[..]), None] {
        match content {
            Some(content) => fs::write(&path, content).expect("it is ours"),
            None => fs::remove_file(&path).expect("it is ours"),
        }
        let old = daemon.generation().await;
        daemon.kill_worker().await;
        daemon.after_generation(old).await;
        let answer = daemon.client().chat("s", "ho").await;
        assert!(
            answer
                .said()
                .last()
                .is_some_and(|text| text.ends_with("user: ho"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_limits_is_applied_at_once_and_outlives_a_crash() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "hi").await;
    let (generation, worker) = (daemon.generation().await, daemon.worker_pid().await);
    daemon.edit(How::Rename, |setup| {
        let echo = setup
            .plugins
            .iter_mut()
            .find(|plugin| plugin.name == "echo");
        let echo = echo.expect("it is there by default");
        echo.limits.push("message = \"4KiB\"".to_owned());
    });
    let long = json!({"text": "x".repeat(5000)});
    let refused = async |daemon: &Daemon| {
        until("the new limit", async || {
            let client = daemon.client();
            let reply = client.post("/v1/sessions/s/messages", &long).await.ok()?;
            (reply.status == 413).then_some(())
        })
        .await;
    };
    refused(&daemon).await;
    assert_eq!(daemon.generation().await, generation);
    assert_eq!(daemon.worker_pid().await, worker);
    daemon.kill_worker().await;
    daemon.after_generation(generation).await;
    refused(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_read_is_told_of_until_it_can() {
    let daemon = Daemon::start(Setup::default()).await;
    let file = daemon.folder().join("abide.toml");
    let away = daemon.folder().join("away.toml");
    let digest = daemon.status().await["config"]["digest"].clone();
    fs::rename(&file, &away).expect("it is ours");
    error_that_names(&daemon, "abide.toml cannot be read now").await;
    // SIGHUP makes the daemon read the file again; it continues unchanged.
    signal(daemon.supervisor_pid(), Signal::HUP);
    fs::rename(&away, &file).expect("it is ours");
    until("the error to be over", async || {
        let status = daemon.status().await;
        status["config"]["last_error"].is_null().then_some(())
    })
    .await;
    assert_eq!(daemon.status().await["config"]["digest"], digest);
    assert_eq!(daemon.generation().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_of_the_data_folder_is_raised_after_a_probation_and_not_before() {
    let mut setup = Setup::default();
    setup.daemon.push("probation = \"10m\"".to_owned());
    let mut daemon = Daemon::start(setup).await;
    daemon.client().open("s", "echo").await;
    let format = |daemon: &Daemon| {
        let file = daemon.folder().join("data/FORMAT");
        fs::read_to_string(file).expect("a store has a format")
    };
    // Neither by a start, nor by deaths in the probation, nor by a restart that ends it early.
    assert_eq!(format(&daemon), "abide-store 1\n");
    for what in [Signal::ABORT, Signal::KILL] {
        let old = daemon.generation().await;
        daemon.signal_worker(what).await;
        daemon.after_generation(old).await;
        assert_eq!(format(&daemon), "abide-store 1\n", "after {what:?}");
    }
    daemon.restart_by_edit().await;
    assert_eq!(format(&daemon), "abide-store 1\n");
    assert_eq!(daemon.status().await["format"], 1);

    let old = daemon.generation().await;
    daemon.edit(How::Rename, |setup| {
        setup.daemon = vec!["probation = \"100ms\"".to_owned()];
        setup.spare += 1;
    });
    let generation = daemon.after_generation(old).await;
    completed(&daemon, generation).await;
    assert_eq!(format(&daemon), "abide-store 2 control components points\n");
    until("the status to say so", async || {
        (daemon.status().await["format"] == 2).then_some(())
    })
    .await;
    daemon.kill_worker().await;
    daemon.after_generation(generation).await;
    assert_eq!(
        daemon.client().chat("s", "hi").await.said().last(),
        Some(&"#1 user: hi")
    );
    assert_eq!(format(&daemon), "abide-store 2 control components points\n");
}
