//! `abide bench`, in short runs: its counts are checked, never its speed.

use std::path::Path;
use std::process::{Command, Output};

use abide_tests::{Daemon, Setup, abide_binary, guest};
use serde_json::Value;

/// Runs `abide bench` with these arguments.
fn bench(args: &[&str]) -> Output {
    Command::new(abide_binary())
        .args(["bench", "--json"])
        .args(args)
        .output()
        .expect("the binary can be run")
}

/// Runs `abide bench` on a daemon of its own in that folder.
fn bench_in(folder: &Path, args: &[&str]) -> Output {
    let (folder, echo) = (folder.to_string_lossy(), guest("echo"));
    let own = ["--data-dir", &folder, "--plugin", &echo.to_string_lossy()];
    bench(&[&own[..], args].concat())
}

/// Returns the reported outcome, which must be free of faults.
fn outcome(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let outcome: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}\n{stderr}"));
    assert!(output.status.success(), "{outcome:#}\n{stderr}");
    assert_eq!(outcome["ok"], true, "{outcome:#}");
    for fault in [
        "refused",
        "errors",
        "unanswered",
        "lost",
        "doubled",
        "wrong",
    ] {
        assert_eq!(outcome[fault], 0, "{fault}: {outcome:#}");
    }
    assert_eq!(outcome["reset"], outcome["reset_by_kills"], "{outcome:#}");
    let acknowledged = outcome["acknowledged"].as_u64();
    assert!(acknowledged > Some(0), "{outcome:#}");
    let verified = outcome["verified"]["messages"].as_u64();
    assert_eq!(verified, acknowledged, "{outcome:#}");
    outcome
}

fn is_empty(folder: &Path) -> bool {
    let mut entries = folder.read_dir().expect("the folder is ours");
    entries.next().is_none()
}

#[test]
fn it_counts_and_checks_turns_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    for wait in [&[][..], &["--no-wait"]] {
        let args = ["--duration", "1s", "--sessions", "20", "--connections", "4"];
        let output = bench_in(folder.path(), &[&args, wait].concat());
        let outcome = outcome(&output);
        assert_eq!(outcome["completed"], outcome["acknowledged"], "{outcome:#}");
        assert_eq!(
            (&outcome["sessions"], &outcome["connections"]),
            (&20.into(), &4.into())
        );
        assert_eq!(outcome["reset"], 0, "{outcome:#}");
        assert!(outcome["sync_ms"].is_number(), "{outcome:#}");
        assert!(is_empty(folder.path()));
    }
}

#[test]
fn restarts_and_kills_lose_nothing() {
    let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let often = ["--kill-every", "1s", "--restart-every", "1500ms"];
    let brief = ["--duration", "4s", "--sessions", "20"];
    let output = bench_in(folder.path(), &[often, brief].concat());
    let outcome = outcome(&output);
    let disturbances = outcome["disturbances"].as_array().expect("a list");
    for what in ["kill", "restart"] {
        let done = disturbances.iter().filter(|seen| seen["what"] == what);
        assert!(done.count() > 0, "{what}: {outcome:#}");
    }
    assert_eq!(outcome["keys"], true);
    assert!(is_empty(folder.path()));
}

#[tokio::test]
async fn it_drives_the_daemon_that_is_named_and_closes_what_it_opened() {
    let daemon = Daemon::start(Setup::default()).await;
    let url = format!("http://127.0.0.1:{}", daemon.setup.port);
    let args = ["--url", &url, "--duration", "500ms", "--sessions", "5"];
    let outcome = outcome(&bench(&args));
    assert_eq!(outcome["connections"], 5);
    let listed = daemon
        .client()
        .get("/v1/sessions")
        .await
        .expect("an answer");
    let listed = listed.expect(200);
    assert_eq!(listed["items"], Value::Array(Vec::new()));

    for (more, error) in [
        (&["--plugin", "nobody"][..], "no plugin `nobody`"),
        (&["--kill-every", "1s"], "--kill-every"),
    ] {
        let output = bench(&[&args, more].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(error),
            "{stderr}"
        );
    }
}
