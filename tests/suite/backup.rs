//! Backups of a running daemon, through the command line: what comes back, what guests are told, and
//! what a death amid one leaves. The helpers serve other tests that need cut histories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use abide::domain::SessionId;
use abide::store::{Store, StoreOptions};
use abide_tests::{CallState, Client, Daemon, Setup, Signal, abide_binary, signal, until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::stage::Stage;

const OURS: &str = "the folders are ours";

fn data(daemon: &Daemon) -> PathBuf {
    daemon.folder().join("data")
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("the machine has a folder for temporary files")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// Takes a backup of a running daemon.
pub(crate) fn back_up(daemon: &Daemon) -> TempDir {
    let backup = temporary();
    let taken = abide(daemon, &["backup", text(backup.path())]);
    assert!(taken.status.success(), "{taken:?}");
    backup
}

/// Restores a backup in the place of the data folder of a daemon that does not run. Returns the name
/// of the new timeline of a session.
pub(crate) fn restore(daemon: &Daemon, backup: &Path, id: &str) -> String {
    let data = data(daemon);
    fs::remove_dir_all(&data).expect("the daemon does not run");
    let restored = abide(daemon, &["restore", text(backup)]);
    assert!(restored.status.success(), "{restored:?}");
    let store = Store::open(&data, StoreOptions::default()).expect("it opens");
    let id = SessionId::new(id).expect("it is one");
    let session = store.load(&id).expect("it can be read");
    let session = session.expect("it is in the backup");
    let timeline = session.progress.timeline.of(session.cursor());
    let timeline = timeline.expect("its history was cut").to_string();
    store.close();
    timeline
}

/// Runs a command of the command line against a daemon.
pub(crate) fn abide(daemon: &Daemon, args: &[&str]) -> Output {
    abide_in(daemon.folder(), args)
}

/// Runs a command of the command line with the configuration in this folder.
fn abide_in(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(abide_binary());
    command.arg("--config").arg(folder.join("abide.toml"));
    command.args(args).output().expect("the binary runs")
}

/// Begins a backup of a running daemon.
fn begin_backup(daemon: &Daemon, folder: &Path) -> JoinHandle<Output> {
    let (config, folder) = (daemon.folder().to_owned(), folder.to_owned());
    spawn_blocking(move || abide_in(&config, &["backup", "--json", text(&folder)]))
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect(OURS);
    for entry in fs::read_dir(from).expect(OURS) {
        let entry = entry.expect(OURS);
        let target = to.join(entry.file_name());
        match entry.file_type().expect(OURS).is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect(OURS)),
        }
    }
}

/// Returns the number of files below a folder, which may be changing.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let counts = entries.map(|entry| match entry.path().is_dir() {
        true => files(&entry.path()),
        false => 1,
    });
    counts.sum()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON was asked for")
}

/// Starts a daemon on a restored backup, in a folder of its own.
async fn start_restored(backup: &Path) -> (Daemon, Value) {
    let (folder, setup) = (temporary(), Setup::default());
    fs::write(folder.path().join("abide.toml"), setup.toml()).expect(OURS);
    let args = ["restore", "--json", text(backup)];
    let report = json_of(&abide_in(folder.path(), &args));
    (Daemon::start_in(folder, setup).await, report)
}

/// Sessions that are talked with without a pause.
struct Load {
    /// The ids of the messages whose turns have ended, for each session.
    ended: Arc<Vec<Mutex<Vec<String>>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(client: &Client, sessions: usize) -> Self {
        let ended = Arc::new((0..sessions).map(|_| Mutex::default()).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self {
            ended,
            stop,
            tasks: Vec::new(),
        };
        for n in 0..sessions {
            let id = format!("s{n}");
            client.open(&id, "echo").await;
            let (client, ended, stop) = (client.clone(), load.ended.clone(), load.stop.clone());
            load.tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let posted = client.chat(&id, &"x".repeat(2000)).await;
                    ended[n].lock().expect("no panic").push(posted.message);
                }
            }));
        }
        load
    }

    fn ended(&self) -> Vec<Vec<String>> {
        let lists = self.ended.iter();
        lists
            .map(|list| list.lock().expect("no panic").clone())
            .collect()
    }

    async fn until_each_has(&self, turns: usize) {
        until("turns in each session", async || {
            let ended = self.ended();
            ended.iter().all(|list| list.len() >= turns).then_some(())
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("every message is answered");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_comes_back_elsewhere_with_all_that_was_acknowledged() {
    const SESSIONS: usize = 8;
    let daemon = Daemon::start(Setup::default()).await;
    let load = Load::start(&daemon.client(), SESSIONS).await;
    load.until_each_has(10).await;
    let before = load.ended();
    let folder = temporary();
    let backup = folder.path().join("backup");
    let report = json_of(&begin_backup(&daemon, &backup).await.expect("it runs"));
    load.end().await;
    assert_eq!(report["folder"], text(&backup));
    // The manifest is none of the files that it lists.
    assert_eq!(report["files"], files(&backup) - 1);
    let metrics = daemon.client().get("/metrics").await.expect("an answer");
    let metrics = metrics.body.as_str().unwrap_or_default().to_owned();
    let line = "abide_backups_total{outcome=\"completed\"} 1";
    assert!(metrics.contains(line), "{metrics}");

    let mut timelines = Vec::new();
    for _ in 0..2 {
        let (restored, report) = start_restored(&backup).await;
        assert_eq!(report["sessions"], SESSIONS);
        assert_eq!(report["waiting"], SESSIONS);
        let client = restored.client();
        for (n, messages) in before.iter().enumerate() {
            let id = format!("s{n}");
            let session = client.session(&id).await;
            assert_eq!(session["state"], "parked", "{session}");
            assert_eq!(session["reason"]["code"], "history_cut", "{session}");
            timelines.push(session["timeline"].as_str().expect("a name").to_owned());
            let events = client.events(&id, 0).await;
            for message in messages {
                assert!(events.iter().any(|event| event.ends(message)), "{id}");
            }
        }
        let resumed = abide(&restored, &["resume", "--all", "--json"]);
        let resumed = json_of(&resumed);
        assert_eq!(resumed["resumed"].as_array().map(Vec::len), Some(SESSIONS));
        client.chat("s0", "after").await;
        let events = client.events("s0", 0).await;
        let notice = events.iter().find(|event| event.kind == "notice");
        let notice = notice.expect("the guest is told");
        assert_eq!(notice.cause.as_deref(), Some("history_cut"));
        assert!(notice.said().contains("the backup is of"), "{notice:?}");
        assert!(!notice.said().contains("crash"), "{notice:?}");
        let starts = client.get("/v1/daemon/restarts").await.expect("an answer");
        assert_eq!(starts.body["items"][0]["cause"], "operator", "{starts:?}");
    }
    let drawn = timelines.len();
    timelines.sort();
    timelines.dedup();
    assert_eq!(
        timelines.len(),
        drawn,
        "each timeline has a name of its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_after_a_backup_is_done_again_only_after_the_guest_was_told() {
    let mut stage = Stage::start(|setup| setup).await;
    let open = json!([{"act": "llm", "text": "one [hold=one]"}]);
    let open = stage.send("one", open).await;
    stage.model.wait_for("one", CallState::Running, 1).await;
    let call = json!([{"act": "call", "tool": "record", "token": "two"}]);
    let waits = stage.send("two", call).await;
    let backup = back_up(&stage.daemon);
    stage.model.release("one");
    stage.end_of(&waits).await;
    assert_eq!(stage.executions("two").len(), 1);
    stage.daemon.stop().await;

    let timeline = restore(&stage.daemon, backup.path(), "s");
    stage.daemon.start_again().await;
    let session = stage.client.session("s").await;
    assert_eq!(
        (&session["state"], &session["queued"]),
        (&json!("parked"), &json!(1))
    );
    let letters = stage.client.dead_letters("s").await;
    assert_eq!(letters[0]["message"]["id"], open);
    assert!(abide(&stage.daemon, &["resume", "--all"]).status.success());
    let events = stage.end_of(&waits).await;
    // What the guest itself reports, in its order.
    let place = |name: &str| {
        let mut events = events.iter();
        events.position(|event| event.kind == "custom" && event.name.as_deref() == Some(name))
    };
    assert!(place("notice").expect("a notice") < place("act").expect("a call"));
    let keys = stage.executions("two");
    assert_eq!(keys.len(), 2);
    assert!(
        !keys[0].contains(&timeline) && keys[1].contains(&timeline),
        "{keys:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_amid_a_backup_leaves_a_whole_daemon_and_nothing_that_passes_for_one()
 {
    // More of them by hand: they are the same, at other moments.
    let kills = std::env::var("ABIDE_BACKUP_KILLS").ok();
    let kills = kills.map_or(10, |kills| kills.parse().expect("a number"));
    let daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    for _ in 0..20 {
        client.chat("s", &"x".repeat(20_000)).await;
    }
    let mut turns = 20;
    let folder = temporary();
    let mut cut_short = 0;
    for kill in 0..kills {
        client.chat("s", "one more").await;
        turns += 1;
        let backup = folder.path().join(format!("backup{kill}"));
        let worker = daemon.worker_pid().await;
        let taking = begin_backup(&daemon, &backup);
        while files(&backup) < kill % 14 && !taking.is_finished() {
            tokio::task::yield_now().await;
        }
        signal(worker, Signal::KILL);
        let taken = taking.await.expect("it runs");
        until("the next worker", async || {
            (daemon.worker_pid().await != worker).then_some(())
        })
        .await;
        until("an answer", async || client.get("/readyz").await.ok()).await;
        assert_eq!(client.session("s").await["turns"], turns);
        let is_complete = backup.join("BACKUP").exists();
        assert!(is_complete || !taken.status.success(), "{taken:?}");
        assert!(!data(&daemon).join("backup-scratch").exists());
        if is_complete {
            start_restored(&backup).await;
            continue;
        }
        cut_short += 1;
        // Without any file in it, nothing was begun yet.
        if files(&backup) > 0 {
            let again = abide(&daemon, &["backup", text(&backup)]);
            let reason = String::from_utf8_lossy(&again.stderr).into_owned();
            assert!(reason.contains("not finished"), "{again:?}");
            let restored = abide(&daemon, &["restore", text(&backup)]);
            let reason = String::from_utf8_lossy(&restored.stderr).into_owned();
            assert!(reason.contains("is no backup"), "{restored:?}");
        }
    }
    println!("{cut_short} of {kills} backups were cut short");
    assert!(cut_short > kills / 2, "{cut_short} of {kills}");
    let backup = back_up(&daemon);
    let (restored, _) = start_restored(backup.path()).await;
    assert_eq!(restored.client().session("s").await["turns"], turns);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_restart_do_not_wait_for_a_backup() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    for _ in 0..20 {
        client.chat("s", &"x".repeat(20_000)).await;
    }
    let folder = temporary();
    let begun = async |backup: &Path, taking: &JoinHandle<Output>| {
        while files(backup) < 3 && !taking.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    let check = |backup: &Path, taken: &Output| {
        let is_complete = backup.join("BACKUP").exists();
        assert!(is_complete || !taken.status.success(), "{taken:?}");
    };
    let first = folder.path().join("first");
    let taking = begin_backup(&daemon, &first);
    begun(&first, &taking).await;
    daemon.restart_by_edit().await;
    check(&first, &taking.await.expect("it runs"));
    let second = folder.path().join("second");
    let taking = begin_backup(&daemon, &second);
    begun(&second, &taking).await;
    assert!(daemon.stop().await.success());
    check(&second, &taking.await.expect("it runs"));
    daemon.start_again().await;
    assert_eq!(client.session("s").await["turns"], 20);
    assert!(!data(&daemon).join("backup-scratch").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_backed_up_or_restored_is_refused_with_words() {
    let daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    let ask = async |body: Value| client.post("/v1/backups", &body).await.expect("an answer");
    let refused = ask(json!({"folder": "relative"})).await;
    assert!(refused.problem(422).contains("not absolute"), "{refused:?}");
    assert_eq!(refused.body["type"], "urn:abide:problem:backup-folder");
    ask(json!({"folder": "/x", "further": 1}))
        .await
        .problem(422);
    ask(json!({})).await.problem(422);
    let backup = back_up(&daemon);
    let again = ask(json!({"folder": text(backup.path())})).await;
    let again = again.problem(422);
    assert!(again.contains("there is a backup in it"), "{again}");
    // The daemon's data folder is there.
    let restored = abide(&daemon, &["restore", text(backup.path())]);
    let reason = String::from_utf8_lossy(&restored.stderr).into_owned();
    assert_eq!(restored.status.code(), Some(1));
    assert!(reason.contains("is not empty"), "{reason}");
    let nowhere = temporary();
    let restored = abide_in(nowhere.path(), &["restore", text(backup.path())]);
    let reason = String::from_utf8_lossy(&restored.stderr).into_owned();
    assert_eq!(restored.status.code(), Some(1));
    assert!(
        reason.contains(text(&backup.path().join("abide.toml"))),
        "{reason}"
    );
    // Of two at once, the second is refused or finds the first one over.
    let folder = temporary();
    let both = ["a", "b"].map(|name| begin_backup(&daemon, &folder.path().join(name)));
    let mut taken = Vec::new();
    for one in both {
        taken.push(one.await.expect("it runs"));
    }
    assert!(taken.iter().any(|one| one.status.success()), "{taken:?}");
    for one in taken.iter().filter(|one| !one.status.success()) {
        let reason = String::from_utf8_lossy(&one.stderr).into_owned();
        assert!(reason.contains("a backup is being taken"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_put_back_by_hand_is_cut_once() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "kept").await;
    daemon.stop().await;
    let aside = temporary();
    copy(&data(&daemon), aside.path());
    daemon.start_again().await;
    client.chat("s", "lost").await;
    daemon.stop().await;
    fs::remove_dir_all(data(&daemon)).expect(OURS);
    copy(aside.path(), &data(&daemon));
    daemon.setup.args = vec!["--restored".to_owned()];
    daemon.start_again().await;
    let session = client.session("s").await;
    assert_eq!(session["reason"]["code"], "history_cut", "{session}");
    assert_eq!(session["turns"], 1);
    // A later worker of the same start cuts nothing.
    daemon.kill_worker().await;
    let after = until("an answer", async || {
        let reply = client.get("/v1/sessions/s").await.ok()?;
        (reply.status == 200).then_some(reply.body)
    })
    .await;
    assert_eq!(after["timeline"], session["timeline"]);
    assert!(abide(&daemon, &["resume", "--all"]).status.success());
    assert_eq!(client.chat("s", "after").await.said().len(), 2);
}
