//! A store that lacks what was acknowledged: it is not opened in silence.

use std::fs;
use std::path::{Path, PathBuf};

use abide_tests::{Daemon, PowerCut, Setup, Signal, signal, until};
use serde_json::{Value, json};

/// The log that a stopped daemon would replay, and how much of it is written.
fn live_log(daemon: &Daemon) -> (PathBuf, usize) {
    let db = daemon.folder().join("data/db");
    let logs = fs::read_dir(db).expect("the store is there");
    let logs = logs.map(|entry| entry.expect("an entry").path());
    let log = logs
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .expect("a log");
    let bytes = fs::read(&log).expect("the log is ours");
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    (log, end)
}

/// Flips one bit.
fn damage(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("the file is ours");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("the file is ours");
}

/// A daemon that was killed with everything, after a number of turns in two sessions.
async fn killed(turns: usize) -> Daemon {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    for id in ["one", "two"] {
        client.open(id, "echo").await;
    }
    for n in 0..turns {
        client.chat("one", &format!("a{n}")).await;
        client.chat("two", &format!("b{n}")).await;
    }
    let worker = daemon.worker_pid().await;
    signal(daemon.supervisor_pid(), Signal::KILL);
    signal(worker, Signal::KILL);
    daemon.ended().await;
    daemon
}

async fn status(daemon: &Daemon) -> Value {
    until("a status", async || {
        let reply = daemon.client().get("/v1/daemon").await.ok()?;
        (reply.status == 200 && reply.body["state"] != "starting").then_some(reply.body)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_refused_and_costs_one_session_its_history_once_that_is_accepted() {
    let mut daemon = killed(20).await;
    let (log, end) = live_log(&daemon);
    damage(&log, end / 2);
    let before = fs::read(&log).expect("the log is ours");

    daemon.spawn_again();
    let refused = status(&daemon).await;
    assert_eq!(refused["state"], "refused");
    let finding = &refused["watchdog"][0];
    assert_eq!(finding["kind"], "store_refused");
    let reason = finding["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("is damaged from byte"), "{reason}");
    assert!(reason.contains("of one session"), "{reason}");
    assert!(reason.contains("--accept-loss"), "{reason}");
    let client = daemon.client();
    for path in ["/v1/sessions/one", "/readyz", "/v1/nothing"] {
        let reply = client.get(path).await.expect("it answers");
        let problem = reply.problem(503);
        assert!(problem.contains("had been acknowledged"), "{problem}");
    }
    assert_eq!(
        client.get("/healthz").await.expect("it answers").status,
        200
    );
    // A worker that is killed is followed by one that refuses as well; nothing loops.
    daemon.kill_worker().await;
    assert_eq!(status(&daemon).await["state"], "refused");
    assert!(daemon.stop().await.success());
    assert_eq!(
        fs::read(&log).expect("the log is ours"),
        before,
        "it was left alone"
    );

    daemon.setup.args = vec!["--accept-loss".to_owned()];
    daemon.start_again().await;
    let client = daemon.client();
    let (mut cut, mut whole) = (Vec::new(), Vec::new());
    for id in ["one", "two"] {
        let session = client.session(id).await;
        // What is behind the damage is there.
        assert_eq!(session["turns"], 20, "{session}");
        if session["state"] == "parked" {
            assert_eq!(session["reason"]["code"], "history_cut", "{session}");
            cut.push(id);
        } else {
            whole.push(id);
        }
    }
    let ([cut], [whole]) = (&cut[..], &whole[..]) else {
        panic!("one of the two is cut: {cut:?}");
    };
    daemon.logged(&format!("session `{cut}` was cut")).await;
    // 20 times a question and an answer.
    let events = client.events(whole, 0).await;
    let questions = events
        .iter()
        .filter(|event| event.from.as_deref() == Some("user"));
    assert_eq!(questions.count(), 20, "{events:?}");
    let answer = client.chat(whole, "goes on").await;
    assert_eq!(answer.said().last(), Some(&"#21 user: goes on"));

    daemon.setup.args.clear();
    assert!(daemon.stop().await.success());
    daemon.start_again().await;
    assert_eq!(status(&daemon).await["state"], "serving");
    assert_eq!(daemon.client().session(cut).await["state"], "parked");
    let resume = format!("/v1/sessions/{cut}/resume");
    let reply = daemon.client().post(&resume, &json!({})).await;
    assert!(reply.expect("it answers").status < 300);
    let answer = daemon.client().chat(cut, "after").await;
    let last = answer.said().last().map(|said| said.contains("after"));
    assert_eq!(last, Some(true), "{answer:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_or_cut_is_refused_also_after_a_clean_stop() {
    for stop in [false, true] {
        for is_gone in [false, true] {
            let mut daemon = killed(5).await;
            if stop {
                daemon.start_again().await;
                daemon.client().chat("one", "once more").await;
                assert!(daemon.stop().await.success());
            }
            let (log, end) = live_log(&daemon);
            match is_gone {
                true => fs::remove_file(&log).expect("the log is ours"),
                false => {
                    let bytes = fs::read(&log).expect("the log is ours");
                    fs::write(&log, &bytes[..end / 2]).expect("the log is ours");
                }
            }
            daemon.spawn_again();
            assert_eq!(
                status(&daemon).await["state"],
                "refused",
                "{stop} {is_gone}"
            );
            daemon.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_log_that_is_gone_after_a_power_cut_is_noticed() {
    let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).expect("the folder is ours");
    let mut power = PowerCut::new(&disk);
    let setup = Setup {
        data_dir: "disk/data".to_owned(),
        env: power.env(),
        ..Setup::default()
    };
    let mut daemon = Daemon::start_in(folder, setup).await;
    daemon.client().open("one", "echo").await;
    daemon.client().chat("one", "hello").await;
    power.cut();
    daemon.ended().await;
    let mut removed = 0;
    for entry in fs::read_dir(disk.join("data/db")).expect("the store is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(path).expect("the log is ours");
            removed += 1;
        }
    }
    assert!(removed > 0, "there is a live log");

    daemon.spawn_again();
    let refused = status(&daemon).await;
    assert_eq!(refused["state"], "refused", "{refused}");
    let reason = refused["watchdog"][0]["reason"]
        .as_str()
        .unwrap_or_default();
    assert!(reason.contains("a log is not there"), "{reason}");
}
