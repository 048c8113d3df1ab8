//! A new worker that cannot take over: the old configuration runs, the daemon reports why, and
//! nothing is lost. `abide-measure boot-failures` measures how long clients wait, and also has the
//! cases that last until the supervisor's deadlines.

use std::net::TcpListener;

use abide_tests::boot_failure::{BootFailure, provoke};
use abide_tests::{Daemon, Setup, until, write_script};
use serde_json::json;

/// Checks that a failure before the hand-over changes nothing, and that one after it is rolled
/// back.
async fn check(failure: BootFailure, parts: &[&str]) {
    let after = provoke(failure).await;
    assert_eq!(
        after.runs_old_config,
        failure.blames_config(),
        "{failure}: {after:?}"
    );
    assert_eq!(after.wrong, [""; 0], "{failure}: {after:?}");
    assert_eq!(after.refused, 0, "{failure}: {after:?}");
    if failure.is_behind_the_hand_over() && failure.blames_config() {
        assert_eq!(after.record.as_deref(), Some("rolled_back"), "{after:?}");
    } else {
        assert!(
            matches!(after.record.as_deref(), None | Some("refused")),
            "{after:?}"
        );
    }
    for part in parts {
        assert!(after.told.contains(part), "{failure}: {part}: {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_compile_changes_nothing() {
    check(BootFailure::BadPlugin, &["plugins.spare1.path", "compiled"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_changes_nothing() {
    check(BootFailure::PortTaken, &["127.0.0.1:", "in use"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_hindered_is_done_once_it_is_asked_for_again() {
    let daemon = Daemon::start(Setup::default()).await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let taken_at = taken.local_addr().expect("it is bound");
    daemon.listen_also_at(taken_at);
    let error = until("the hindrance to be told", async || {
        let status = daemon.status().await;
        status["config"]["last_error"].as_str().map(str::to_owned)
    })
    .await;
    for part in [&taken_at.to_string(), "in use", "`abide restart`"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let old = daemon.generation().await;
    drop(taken);
    let asked = daemon.client().post("/v1/daemon/restart", &json!({})).await;
    asked.expect("it is answered").expect(202);
    daemon.after_generation(old).await;
    let again = abide_tests::Client::new(taken_at.port());
    let ready = again.get("/readyz").await.expect("it listens there");
    assert_eq!(ready.status, 200);
    assert!(daemon.status().await["config"]["last_error"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_dies_changes_nothing() {
    check(BootFailure::DiesBeforeReady, &["SIGABRT", "abide restart"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_opens_the_store_is_rolled_back() {
    check(BootFailure::DiesBeforeServing, &["SIGABRT", "rolled back"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_open_is_tried_until_it_does() {
    check(BootFailure::StoreDoesNotOpen, &["CURRENT"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_its_probation_is_rolled_back() {
    check(BootFailure::DiesOnTrial, &["SIGABRT", "rolled back"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_in_its_probation_is_rolled_back() {
    check(BootFailure::HangsOnTrial, &["rolled back"]).await;
}

/// A limit of address space that a host or a unit file sets: named with the key, and the number that is
/// told to fit does fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_address_space_is_told_with_what_fits() {
    let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let limited = folder.path().join("limited-abide");
    let abide = abide_tests::abide_binary();
    let script = format!("#!/bin/sh\nulimit -v {}\nexec {abide:?} \"$@\"\n", 64 << 20);
    write_script(&limited, &script);
    let setup = |turns: Option<&str>| Setup {
        binary: Some(limited.clone()),
        daemon: turns
            .map(|turns| format!("turns_max = {turns}"))
            .into_iter()
            .collect(),
        ..Setup::default()
    };
    let home = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let mut daemon = Daemon::spawn_in(home, setup(None));
    assert!(!daemon.ended().await.success());
    let log = daemon.log();
    let (_, fits) = log
        .split_once("`daemon.turns_max` to ")
        .unwrap_or_else(|| panic!("the remedy is told: {log}"));
    let fits: String = fits.chars().take_while(char::is_ascii_digit).collect();
    let daemon = Daemon::start(setup(Some(&fits))).await;
    let client = daemon.client();
    for n in 0..20 {
        let id = format!("s{n}");
        client.open(&id, "echo").await;
        client.chat(&id, "hello").await;
    }
}
