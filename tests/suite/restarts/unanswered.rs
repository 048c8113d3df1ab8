//! Files that cannot be read at once, for they are pipes, or on a file system that does not answer: nothing
//! waits for them, what is wrong is told, and it goes on by itself once they are there.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use abide_tests::{
    Daemon, How, HungMount, Prober, Setup, abide_binary, copy_program, guest, until,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Longer than a file is waited for, shorter than what a client would notice.
const SOON: Duration = Duration::from_secs(15);

fn pipe(path: &Path) {
    let made = mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
    made.expect("the folder is ours");
}

/// Mounts a file system that does not answer over a folder; says so if that may not be done here.
fn hung(folder: &Path) -> Option<HungMount> {
    fs::create_dir_all(folder).expect("the folder is ours");
    HungMount::over_or_skip(folder)
}

async fn refused_for(daemon: &Daemon, what: &[&str]) {
    until(&format!("a refusal that names {what:?}"), async || {
        let error = daemon.status().await["config"]["last_error"].to_string();
        what.iter().all(|what| error.contains(what)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_not_wait_for_pipes() {
    let daemon = Daemon::start(Setup::default()).await;
    let pipe_path = daemon.folder().join("pipe");
    pipe(&pipe_path);
    let file = pipe_path
        .to_str()
        .expect("temporary folders have plain names");
    for command in [
        &["--config", file, "config", "check"][..],
        &["--config", file, "config", "plan"],
        &["--config", file, "config", "rollback", "1"],
        &["--config", file, "plugin", "list"],
        &["--config", file, "serve"],
        &["--config", file, "restore", "nowhere"],
        &["plugin", "check", file],
    ] {
        let began = Instant::now();
        let output = daemon.abide(command);
        assert!(began.elapsed() < SOON, "{command:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if command.contains(&"check") || command.contains(&"serve") {
            assert!(!output.status.success(), "{command:?}");
            assert!(
                text.contains("pipe") && text.contains("regular file"),
                "{command:?}: {text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_on_a_mount_that_hangs_holds_nothing_up() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    let folder = daemon.folder().join("hung");
    let Some(mount) = hung(&folder) else {
        return;
    };
    let probes =
        Prober::on_one_connection(daemon.setup.port, "/v1/daemon", Duration::from_millis(50));
    let worker = daemon.worker_pid().await;
    let path = folder.join("x.wasm");
    let name = path.to_str().expect("temporary folders have plain names");
    daemon.edit(How::Rename, |setup| setup.spare_path = Some(path.clone()));
    refused_for(&daemon, &[name, "does not answer", "see whether its disk"]).await;
    assert_eq!(client.chat("s", "one").await.said(), ["#1 user: one"]);

    // Another change is taken over while it hangs.
    daemon.edit(How::Rename, |setup| {
        setup.spare_path = None;
        setup.daemon = vec!["relaunch_max = 7".to_owned()];
    });
    until("the other change", async || {
        let status = daemon.status().await;
        status["config"]["last_error"].is_null().then_some(())
    })
    .await;
    daemon.logged("daemon.relaunch_max").await;
    assert_eq!(daemon.worker_pid().await, worker);

    // Once it answers, it goes on by itself.
    daemon.edit(How::Rename, |setup| setup.spare_path = Some(path.clone()));
    refused_for(&daemon, &[name]).await;
    drop(mount);
    fs::copy(guest("echo"), &path).expect("it is a plain folder now");
    until("the next worker", async || {
        (daemon.worker_pid().await != worker).then_some(())
    })
    .await;
    // A notice of the restart stands in front.
    let answer = client.chat("s", "two").await;
    assert_eq!(answer.said().last(), Some(&"#2 user: two"));
    let report = probes.stop().await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert!(report.longest < SOON, "{:?}", report.longest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_again_although_its_plugin_and_its_binary_do_not_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (plugins, binaries) = (folder.path().join("plugins"), folder.path().join("bin"));
    for folder in [&plugins, &binaries] {
        fs::create_dir_all(folder).expect("the folder is ours");
    }
    let (plugin, binary) = (plugins.join("echo.wasm"), binaries.join("abide"));
    fs::copy(guest("echo"), &plugin).expect("the guests are built");
    copy_program(&abide_binary(), &binary);
    let setup = Setup {
        spare_path: Some(plugin),
        binary: Some(binary),
        ..Setup::default()
    };
    let daemon = Daemon::start_in(folder, setup).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    let Some(_binaries) = hung(&binaries) else {
        return;
    };
    // A new binary that does not answer is refused, and nothing waits for it.
    let output = daemon.abide(&["restart"]);
    assert!(!output.status.success(), "{output:?}");
    daemon
        .logged("bin/abide cannot be opened: it does not answer")
        .await;
    assert_eq!(client.chat("s", "one").await.said(), ["#1 user: one"]);

    let _plugins = hung(&plugins);
    daemon.kill_worker().await;
    let answer = client.chat("s", "two").await;
    assert_eq!(answer.said().last(), Some(&"#2 user: two"));
}
