//! A daemon that is not alone in its container ends its own processes, and no others.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use abide_tests::{
    Setup, Signal, abide_binary, arguments, descendants, gone, kill_all, signal, until,
};

/// A container's processes, all of which end with this value.
struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        for pid in descendants(self.0.id().cast_signed()) {
            signal(pid, Signal::KILL);
        }
        kill_all(self.0.id().cast_signed());
        let _ = self.0.wait();
    }
}

/// Returns whether a process was started with this as its first argument.
fn has_argument(pid: i32, word: &str) -> bool {
    arguments(pid)
        .get(1)
        .is_some_and(|first| first == Path::new(word))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_started_in_the_container_lives() {
    let may = Command::new("unshare")
        .args(["-pf", "--mount-proc", "true"])
        .output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user may not make a container (`unshare -pf --mount-proc`)");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (config, log) = (folder.path().join("abide.toml"), folder.path().join("log"));
    let setup = Setup::default();
    fs::write(&config, setup.toml()).expect("the folder is ours");
    // Two sidecars: a child of what becomes the daemon, and an orphan that process 1 inherits.
    let script = format!(
        "sleep 7001 & (sleep 7002 &); exec {:?} serve --config {config:?}",
        abide_binary()
    );
    let log = File::create(log).expect("the folder is ours");
    let mut unshare = Command::new("unshare");
    unshare.args(["-pf", "--kill-child", "--mount-proc", "sh", "-c", &script]);
    let container = unshare.stdin(Stdio::null()).stderr(log).spawn();
    let container = Container(container.expect("it is there"));
    let root = container.0.id().cast_signed();
    let client = abide_tests::Client::new(setup.port);
    let ready = async || {
        until("the daemon", async || {
            let reply = client.get("/readyz").await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await;
    };
    ready().await;
    let running = |word: &str| {
        let mut pids = descendants(root).into_iter();
        pids.find(|pid| has_argument(*pid, word))
    };
    let first = running("serve").expect("it is process 1");
    // A third one comes from outside, as by `docker exec`, and is inherited while the daemon runs.
    let entered = Command::new("nsenter")
        .args(["-t", &first.to_string(), "-p", "sh", "-c", "sleep 7003 &"])
        .status();
    assert!(entered.expect("it is there").success());
    let sidecars = ["7001", "7002", "7003"]
        .map(|seconds| running(seconds).unwrap_or_else(|| panic!("sleep {seconds}")));

    // A worker dies, and what it has left is ended.
    let old = running("worker").expect("it serves");
    signal(old, Signal::KILL);
    until("the next worker", async || {
        running("worker").filter(|pid| *pid != old)
    })
    .await;
    ready().await;
    // A restart sweeps, too.
    let restarted = Command::new(abide_binary())
        .stdout(Stdio::null())
        .args(["--config".as_ref(), config.as_os_str(), "restart".as_ref()])
        .status();
    assert!(restarted.expect("it runs").success());
    for pid in sidecars {
        assert!(!gone(pid), "{:?} was not ours", arguments(pid));
    }

    // A signal to process 1 stops the daemon in order.
    let mut container = container;
    signal(first, Signal::TERM);
    let ended = until("the container's end", async || {
        container.0.try_wait().expect("it is ours")
    });
    assert_eq!(ended.await.code(), Some(0));
}
