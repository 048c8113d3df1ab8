//! Configurations and folders that do not work: a clear error at the start, and no effect at all on
//! a running daemon.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use abide_tests::{Boot, CallState, Daemon, FakeModel, How, Setup, Signal, signal, until};
use serde_json::{Value, json};

/// A fault in a configuration, and what an error about it must name.
struct Fault {
    toml: String,
    names: &'static [&'static str],
}

/// Returns all faults that a file's text can have.
fn faults(setup: &Setup) -> Vec<Fault> {
    let good = setup.toml();
    let fault = |from: &str, to: &str, names| {
        assert!(good.contains(from), "{from:?} is not in {good}");
        let toml = good.replacen(from, to, 1);
        Fault { toml, names }
    };
    vec![
        // A syntax error: the line.
        fault("data_dir = ", "data_dir ", &["abide.toml:4:"]),
        // An unknown key: the key, and the one that was probably meant.
        fault(
            "shutdown_grace_period",
            "shutdown_grace_periode",
            &["shutdown_grace_periode", "shutdown_grace_period"],
        ),
        // A wrong unit: the key, the value, and the correct form.
        fault(
            "shutdown_grace_period = \"5s\"",
            "shutdown_grace_period = \"5 parsecs\"",
            &["shutdown_grace_period", "5 parsecs"],
        ),
        fault(
            "shutdown_grace_period = \"5s\"",
            "shutdown_grace_period = 5",
            &["shutdown_grace_period", "\"5s\""],
        ),
        fault(
            "on_config_change = \"auto\"",
            "on_config_change = \"maybe\"",
            &["on_config_change", "maybe", "ignore"],
        ),
        // A plugin file that is missing.
        fault(
            "echo.wasm\"",
            "missing.wasm\"",
            &["plugins.echo", "missing.wasm"],
        ),
        // An invalid address.
        fault("listen = \"127.0.0.1:", "listen = \"here:", &["listen"]),
    ]
}

fn check(boot: &Boot, names: &[&str]) {
    assert!(boot.status.code().is_some_and(|code| code != 0), "{boot:?}");
    assert!(!boot.stderr.contains("panicked"), "{}", boot.stderr);
    for name in names {
        assert!(
            boot.stderr.contains(name),
            "{name:?} is not named:\n{}",
            boot.stderr
        );
    }
}

/// Starts a daemon that cannot start.
async fn boot(folder: &Path, toml: String) -> Boot {
    let folder = folder.to_path_buf();
    tokio::task::spawn_blocking(move || Daemon::fail_to_start(&folder, &toml))
        .await
        .expect("the daemon ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_boot_says_what_is_wrong_and_where() {
    let setup = Setup::default();
    for Fault { toml, names } in faults(&setup) {
        let folder = tempfile::tempdir().expect("a folder");
        check(&boot(folder.path(), toml).await, names);
        assert!(
            !folder.path().join("data").exists(),
            "nothing is made before all is checked"
        );
    }
    // An empty file is a partial write, not a request for defaults.
    let folder = tempfile::tempdir().expect("a folder");
    check(&boot(folder.path(), String::new()).await, &["abide.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let setup = Setup::default();
    let port = setup.port.to_string();
    let _held = TcpListener::bind(("127.0.0.1", setup.port)).expect("the port is free");
    let folder = tempfile::tempdir().expect("a folder");
    check(&boot(folder.path(), setup.toml()).await, &[&port, "listen"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_of_a_running_daemon_is_refused() {
    let daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    let data = daemon.folder().join("data");
    let data = data.to_str().expect("temporary folders have plain names");
    let second = Setup {
        data_dir: data.to_owned(),
        ..Setup::default()
    };
    let folder = tempfile::tempdir().expect("a folder");
    check(&boot(folder.path(), second.toml()).await, &[data]);
    assert_eq!(client.chat("s", "hi").await.said(), ["#1 user: hi"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_store_is_refused_and_left_alone() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "hi").await;
    daemon.stop().await;
    // Overwrites the middle of every manifest of the store, wherever it is.
    let mut manifests = Vec::new();
    let mut folders = vec![daemon.folder().join("data")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let name = entry.file_name();
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if name.to_string_lossy().starts_with("MANIFEST") {
                manifests.push(entry.path());
            }
        }
    }
    assert!(!manifests.is_empty(), "the store has a manifest");
    for manifest in &manifests {
        let mut bytes = fs::read(manifest).expect("readable");
        let middle = bytes.len() / 4..bytes.len() * 3 / 4;
        bytes[middle].fill(0xA5);
        fs::write(manifest, bytes).expect("writable");
    }
    let boot = boot(daemon.folder(), daemon.setup.toml()).await;
    check(&boot, &["data"]);
    assert!(manifests.iter().all(|manifest| manifest.exists()));
}

/// Asserts that the daemon noticed the bad file, reports it, and does nothing else.
async fn check_undisturbed(daemon: &Daemon, before: &Value, worker: i32, names: &[&str]) {
    let status = until("the daemon to say what is wrong", async || {
        let status = daemon.status().await;
        let error = status["config"]["last_error"].to_string();
        let error = error.replace("\\\"", "\"");
        names
            .iter()
            .all(|name| error.contains(name))
            .then_some(status)
    })
    .await;
    assert_eq!(status["generation"], before["generation"]);
    assert_eq!(status["state"], before["state"]);
    assert_eq!(status["drain"], json!(null), "it does not drain");
    assert_eq!(status["config"]["digest"], before["config"]["digest"]);
    assert_eq!(daemon.worker_pid().await, worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_does_not_drain_for_a_bad_file() {
    let model = FakeModel::start().await;
    let mut daemon = Daemon::start(Setup::default().assistant(&model)).await;
    let client = daemon.client();
    client.open("s", "assistant").await;
    client.open("e", "echo").await;
    let waiting = client.say("s", "stay [hold=w]", None).await;
    let waiting = waiting.expect("messages are accepted");
    model.wait_for("stay", CallState::Running, 1).await;
    let before = daemon.status().await;
    let worker = daemon.worker_pid().await;
    let mut turn = 0;
    for (n, Fault { toml, names }) in faults(&daemon.setup).into_iter().enumerate() {
        let how = [How::Rename, How::Truncate][n % 2];
        daemon.write_config(&toml, how);
        check_undisturbed(&daemon, &before, worker, names).await;
        turn += 1;
        let answer = client.chat("e", "hi").await;
        assert_eq!(answer.said(), [format!("#{turn} user: hi")]);
    }
    // A changed `data_dir` would repeat the incident.
    let moved = daemon.setup.toml().replace("\"data\"", "\"elsewhere\"");
    daemon.write_config(&moved, How::Rename);
    check_undisturbed(&daemon, &before, worker, &["data_dir"]).await;
    assert!(!daemon.folder().join("elsewhere").exists());
    // So would the removal of a plugin that has open sessions.
    let without = daemon
        .setup
        .toml()
        .replace("[plugins.echo]", "[plugins.ohce]");
    daemon.write_config(&without, How::Rename);
    check_undisturbed(&daemon, &before, worker, &["echo"]).await;
    // An explicit restart request with this file is refused too.
    let reply = client.post("/v1/daemon/restart", &json!({})).await;
    let problem = reply.expect("the daemon serves").problem(422);
    assert!(problem.contains("echo"), "{problem}");
    assert_eq!(model.calls_about("stay")[0].state, CallState::Running);
    model.release("w");
    client.events_once_ended("s", &waiting.message).await;

    // The file may be missing for a while; the good one that follows is applied.
    fs::remove_file(daemon.folder().join("abide.toml")).expect("it was there");
    let old = daemon.generation().await;
    daemon.edit(How::Rename, |setup| setup.spare += 1);
    daemon.after_generation(old).await;
    let status = daemon.status().await;
    assert_eq!(status["config"]["last_error"], json!(null), "{status}");
    let answer = client.chat("e", "hi").await;
    assert_eq!(
        answer.said().last(),
        Some(&format!("#{} user: hi", turn + 1).as_str())
    );
    assert_eq!(client.tally.troubles(), 0, "{}", client.tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_comes_back_on_the_configuration_that_ran() {
    let daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    let before = daemon.status().await;
    let worker = daemon.worker_pid().await;
    daemon.write_config("nothing = \"of use\"\n", How::Rename);
    check_undisturbed(&daemon, &before, worker, &["nothing"]).await;
    // Not SIGSEGV: the engine handles that signal, and does not take it for a guest's fault.
    signal(worker, Signal::ABORT);
    let old = before["generation"].as_u64().unwrap_or_default();
    daemon.after_generation(old).await;
    let after = daemon.status().await;
    assert_eq!(after["config"]["digest"], before["config"]["digest"]);
    let answer = daemon.client().chat("s", "hi").await;
    assert_eq!(answer.said().last(), Some(&"#1 user: hi"));
}
