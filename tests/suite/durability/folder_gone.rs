//! A data folder that is moved away under a running daemon, or replaced: nothing is acknowledged meanwhile, and
//! nothing is lost in silence.

use std::fs;
use std::process::Command;

use abide_tests::{Daemon, Refused, Setup, until};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_the_data_folder_is_gone() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    client.chat("s", "before").await;

    let (there, away) = (daemon.folder().join("data"), daemon.folder().join("away"));
    fs::rename(&there, &away).expect("the folder is ours");
    for n in 0..3 {
        let Err(Refused::Status(refused)) = client.say("s", "into the void", None).await else {
            panic!("message {n} was acknowledged, or not answered");
        };
        let problem = refused.problem(507);
        assert!(problem.contains("was removed or replaced"), "{problem}");
    }
    let finding = until("the finding", async || {
        let status = daemon.status().await;
        let findings = status["watchdog"].as_array().cloned().unwrap_or_default();
        findings
            .into_iter()
            .find(|finding| finding["kind"] == "store_failing")
    })
    .await;
    let reason = finding["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("was removed or replaced"), "{finding}");

    fs::rename(&away, &there).expect("the folder is ours");
    until("an acknowledgement", async || {
        client.say("s", "after", Some("1")).await.ok()
    })
    .await;
    daemon.kill_worker().await;
    until("both turns", async || {
        let session = client.session("s").await;
        (session["turns"] == 2).then_some(())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_in_the_folders_place_is_not_served() {
    let mut daemon = Daemon::start(Setup::default()).await;
    daemon.client().open("s", "echo").await;
    daemon.client().chat("s", "in both").await;
    daemon.stop().await;
    let (there, older) = (daemon.folder().join("data"), daemon.folder().join("older"));
    let copied = Command::new("cp").arg("-a").args([&there, &older]).status();
    assert!(copied.expect("the machine has `cp`").success());
    daemon.start_again().await;
    let client = daemon.client();
    client.chat("s", "in one").await;
    let away = daemon.folder().join("away");
    fs::rename(&there, &away).expect("the folder is ours");
    fs::rename(&older, &there).expect("the folder is ours");
    daemon.kill_worker().await;
    let refused = until("a worker that refuses", async || {
        let reply = client.get("/v1/sessions/s").await.ok()?;
        (reply.status == 503).then_some(reply)
    })
    .await;
    let problem = refused.body["detail"].as_str().unwrap_or_default();
    assert!(problem.contains("older copy"), "{}", refused.body);
    // With the folder itself in its place, it goes on.
    fs::rename(&there, &older).expect("the folder is ours");
    fs::rename(&away, &there).expect("the folder is ours");
    until("service", async || {
        let session = client.get("/v1/sessions/s").await.ok()?;
        (session.status == 200 && session.body["turns"] == 2).then_some(())
    })
    .await;
    daemon.stop().await;
}
