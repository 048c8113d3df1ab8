//! Damage to the small files of a data folder: it costs nothing, or the start is refused with what to
//! do. `make damage` damages all files, at random places.

use std::fs;
use std::path::Path;

use abide_tests::damage::file_named;
use abide_tests::{Daemon, Event, Setup, kill_all, until};

/// A daemon that was killed with everything, and the events of its session.
async fn killed() -> (Daemon, Vec<Event>) {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("one", "echo").await;
    for n in 0..5 {
        client.chat("one", &format!("a{n}")).await;
    }
    let events = client.events("one", 0).await;
    kill_all(daemon.supervisor_pid());
    daemon.ended().await;
    (daemon, events)
}

/// Flips a bit of the first byte, or removes the file.
fn harm(file: &Path, is_gone: bool) {
    const OURS: &str = "the file is ours";
    if is_gone {
        return fs::remove_file(file).expect(OURS);
    }
    let mut bytes = fs::read(file).expect(OURS);
    if let Some(first) = bytes.first_mut() {
        *first ^= 1;
    }
    fs::write(file, bytes).expect(OURS);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_can_be_made_again_cost_nothing() {
    for (folder, name) in [
        ("data", "SYNCED"),
        ("data", "TRAIL"),
        ("data", "LOCK"),
        ("data", "RESERVE"),
        ("data/db", "IDENTITY"),
        ("data/db", "OPTIONS"),
        ("data/db", "LOG"),
        ("data/components", ""),
        ("data/cache", ""),
    ] {
        for is_gone in [false, true] {
            let (mut daemon, events) = killed().await;
            harm(&file_named(&daemon.folder().join(folder), name), is_gone);
            daemon.start_again().await;
            let client = daemon.client();
            let after = client.events("one", 0).await;
            assert_eq!(after, events, "{folder}/{name}, gone: {is_gone}");
            client.chat("one", "and on").await;
            assert!(daemon.stop().await.success());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_what_says_which_files_count_the_start_is_refused_with_what_to_do() {
    for (folder, name) in [
        ("data", "FORMAT"),
        ("data/db", "CURRENT"),
        ("data/db", "MANIFEST"),
    ] {
        for is_gone in [false, true] {
            let (mut daemon, _) = killed().await;
            harm(&file_named(&daemon.folder().join(folder), name), is_gone);
            daemon.spawn_again();
            until("a refusal", async || {
                let exit = daemon.exited();
                exit.is_some_and(|status| !status.success()).then_some(())
            })
            .await;
            let log = daemon.log();
            for remedy in ["abide store salvage NEW", "backup"] {
                assert!(log.contains(remedy), "{name}, gone: {is_gone}: {log}");
            }
        }
    }
}
